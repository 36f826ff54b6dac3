"""The errors that `model_store` raises, one tree.

ModelStoreError
|-- CallerError (also ValueError)      the caller can put it right
|   |-- AudioError
|   |   |-- AudioEmpty                 audio_empty
|   |   |-- AudioUndecodable           audio_undecodable
|   |   |-- AudioTruncated             audio_truncated
|   |   |-- AudioNotFinite             audio_not_finite
|   |   |-- AudioFormatUnsupported     audio_format_unsupported
|   |   `-- AudioTooLong               audio_too_long
|   |-- DepthError
|   |   |-- DropOutOfRange             drop_out_of_range
|   |   |-- PolicyUnknown              policy_unknown
|   |   |-- PlanInvalid                plan_invalid
|   |   `-- DepthRefused               depth_refused
|   |-- StreamingUnsupported           streaming_unsupported
|   |-- RunConfigError                 run_config_invalid
|   `-- HeldOutRefused                 held_out_in_training
|-- DeviceMissing                      device_missing
`-- CheckpointError                    checkpoint_invalid
    `-- ModelUnknown                   model_unknown
"""

from typing import ClassVar


class ModelStoreError(Exception):
    """Any error this library raises on purpose; `code` is stable, the message is not."""

    code: ClassVar[str] = "model_store_error"


class CallerError(ModelStoreError, ValueError):
    """What was asked for cannot be done; asking differently can."""

    code: ClassVar[str] = "caller_error"


class AudioError(CallerError):
    """The audio cannot be used as it is."""

    code: ClassVar[str] = "audio_error"


class AudioEmpty(AudioError):
    """No bytes, or a container without a single sample."""

    code: ClassVar[str] = "audio_empty"


class AudioUndecodable(AudioError):
    """No decoder recognises the bytes, or the one that does gives up."""

    code: ClassVar[str] = "audio_undecodable"


class AudioTruncated(AudioError):
    """The container promises more audio than its bytes hold."""

    code: ClassVar[str] = "audio_truncated"


class AudioNotFinite(AudioError):
    """A sample is NaN or infinite."""

    code: ClassVar[str] = "audio_not_finite"


class AudioFormatUnsupported(AudioError):
    """Decodable, but outside the sample rates or channel counts that are served."""

    code: ClassVar[str] = "audio_format_unsupported"


class AudioTooLong(AudioError):
    """Decoding passed the limit; nothing beyond it was decoded."""

    code: ClassVar[str] = "audio_too_long"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"expected at most {limit_s:g} s of audio, got more")
        self.limit_s = limit_s


class DepthError(CallerError):
    """The depth asked for is not on offer."""

    code: ClassVar[str] = "depth_error"


class DropOutOfRange(DepthError):
    """`drop` or `max_drop` is not a number in [0, 1)."""

    code: ClassVar[str] = "drop_out_of_range"


class PolicyUnknown(DepthError):
    """No policy has that name."""

    code: ClassVar[str] = "policy_unknown"


class PlanInvalid(DepthError):
    """The strides are not a depth plan of this model."""

    code: ClassVar[str] = "plan_invalid"


class DepthRefused(DepthError):
    """`drop` asks for less depth than `max_drop` admits."""

    code: ClassVar[str] = "depth_refused"


class StreamingUnsupported(CallerError):
    """The model hears whole utterances alone: it has no chunk mask and no live streams."""

    code: ClassVar[str] = "streaming_unsupported"


class RunConfigError(CallerError):
    """A run's TOML has a key that is unknown, missing or of the wrong kind."""

    code: ClassVar[str] = "run_config_invalid"


class HeldOutRefused(CallerError):
    """A training manifest holds an utterance that is kept for evaluation."""

    code: ClassVar[str] = "held_out_in_training"


class DeviceMissing(ModelStoreError):
    """The device asked for is none of this machine's, or torch cannot use it."""

    code: ClassVar[str] = "device_missing"


class CheckpointError(ModelStoreError):
    """A checkpoint's files are missing, damaged or of another format."""

    code: ClassVar[str] = "checkpoint_invalid"


class ModelUnknown(CheckpointError):
    """The name is no shipped model, folder or hub identifier."""

    code: ClassVar[str] = "model_unknown"
