"""The errors that `service` raises, one tree.

ServiceError
|-- CallerError (also ValueError)      the caller can put it right
|   |-- ParameterInvalid               parameter_invalid
|   |-- ModelNotServed                 model_not_served
|   |-- StreamingUnsupported           streaming_unsupported
|   |-- MessageInvalid                 message_invalid
|   |-- MessagesRefused                messages_refused
|   |-- ClientTooSlow                  client_too_slow
|   |-- ArchiveInvalid                 archive_invalid
|   |-- FileUnreadable                 file_unreadable
|   |-- Unauthenticated                unauthenticated
|   |-- OriginRefused                  origin_refused
|   |-- RateLimited                    rate_limited
|   |-- UploadError
|   |   |-- UploadMalformed            upload_malformed
|   |   |-- UploadTooLarge             upload_too_large
|   |   `-- UploadTooSlow              upload_too_slow
|   |-- AudioError
|   |   |-- AudioEmpty                 audio_empty
|   |   |-- AudioUndecodable           audio_undecodable
|   |   |-- AudioTruncated             audio_truncated
|   |   |-- AudioNotFinite             audio_not_finite
|   |   |-- AudioFormatUnsupported     audio_format_unsupported
|   |   `-- AudioTooLong               audio_too_long
|   |-- HotwordsError
|   |   |-- HotwordInvalid             hotword_invalid
|   |   |-- HotwordsTooMany            hotwords_too_many
|   |   `-- HotwordsUnsupported        hotwords_unsupported
|   `-- DepthError
|       |-- DropOutOfRange             drop_out_of_range
|       |-- PolicyUnknown              policy_unknown
|       |-- PlanInvalid                plan_invalid
|       `-- DepthRefused               depth_refused
|-- Unavailable                        an answer, not a fault: ask again later
|   |-- Overloaded                     overloaded
|   |-- UploadMemoryFull               upload_memory_full
|   |-- DepthNotNow                    depth_not_now
|   |-- Loading                        loading
|   `-- Draining                       draining
|-- SettingsInvalid                    settings_invalid
|-- ExtraMissing                       extra_missing
|-- ClientGone                         client_gone
|-- RequestTimedOut                    request_timed_out
`-- EngineError
    |-- EngineFailed                   engine_failed
    |-- WorkerDied                     worker_died
    `-- ModelUnusable                  model_unusable

Messages say what was expected and what came, and are written here or at the raise: they never carry
the text of somebody else's exception, so they may be shown to a caller as they are.
"""

from typing import ClassVar


class ServiceError(Exception):
    """Any error the service raises on purpose; `code` is stable, the message is not."""

    code: ClassVar[str] = "service_error"


class CallerError(ServiceError, ValueError):
    """What was asked for cannot be done; asking differently can."""

    code: ClassVar[str] = "caller_error"


class ParameterInvalid(CallerError):
    """A query parameter is unknown, or its value is not one of those it may have."""

    code: ClassVar[str] = "parameter_invalid"


class ModelNotServed(CallerError):
    """The name is neither the model that is served nor one of its aliases."""

    code: ClassVar[str] = "model_not_served"


class StreamingUnsupported(CallerError):
    """The model that is served hears whole utterances alone; files are taken, streams are not."""

    code: ClassVar[str] = "streaming_unsupported"


class MessageInvalid(CallerError):
    """A text frame of a stream is none of the messages that a client may send."""

    code: ClassVar[str] = "message_invalid"


class MessagesRefused(CallerError):
    """Too many frames of a stream were of no use; the stream is closed."""

    code: ClassVar[str] = "messages_refused"


class ArchiveInvalid(CallerError):
    """What an archive job is to read, or where it is to write, cannot be used."""

    code: ClassVar[str] = "archive_invalid"


class FileUnreadable(CallerError):
    """A file of an archive is gone, or may not be read."""

    code: ClassVar[str] = "file_unreadable"


class Unauthenticated(CallerError):
    """No API key was shown, or one that nobody has."""

    code: ClassVar[str] = "unauthenticated"


class OriginRefused(CallerError):
    """A page of another site asks, from the browser of somebody who visits it."""

    code: ClassVar[str] = "origin_refused"


class RateLimited(CallerError):
    """The caller asks more often than it may.

    Args:
        message: what was expected and what came.
        retry_after_s: hint, in whole seconds, when asking again makes sense.
    """

    code: ClassVar[str] = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UploadError(CallerError):
    """The body of the request cannot be taken as it is."""

    code: ClassVar[str] = "upload_error"


class UploadMalformed(UploadError):
    """The multipart body is broken, has parts nobody asked for, or lacks the file."""

    code: ClassVar[str] = "upload_malformed"


class UploadTooLarge(UploadError):
    """The body has more bytes than are taken."""

    code: ClassVar[str] = "upload_too_large"


class UploadTooSlow(UploadError):
    """The body came in slower than the slowest rate that is waited for."""

    code: ClassVar[str] = "upload_too_slow"


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


class HotwordsError(CallerError):
    """The hotwords cannot be used as they are."""

    code: ClassVar[str] = "hotwords_error"


class HotwordInvalid(HotwordsError):
    """A hotword is too long, or holds what no text has."""

    code: ClassVar[str] = "hotword_invalid"


class HotwordsTooMany(HotwordsError):
    """There are more hotwords, or more of their letters in all, than are taken."""

    code: ClassVar[str] = "hotwords_too_many"


class HotwordsUnsupported(HotwordsError):
    """The model that is served has no decoder that hotwords could make a difference to."""

    code: ClassVar[str] = "hotwords_unsupported"


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


class Unavailable(ServiceError):
    """Not now; `retry_after_s` says when to ask again."""

    code: ClassVar[str] = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """As many requests as may be in work are in work."""

    code: ClassVar[str] = "overloaded"


class UploadMemoryFull(Unavailable):
    """The uploads being read fill the memory set aside for them."""

    code: ClassVar[str] = "upload_memory_full"


class DepthNotNow(Unavailable):
    """The depth is on offer, and under the present load not to this caller."""

    code: ClassVar[str] = "depth_not_now"


class Loading(Unavailable):
    """The model is not loaded yet."""

    code: ClassVar[str] = "loading"


class Draining(Unavailable):
    """The process is about to stop and takes nothing new."""

    code: ClassVar[str] = "draining"


class SettingsInvalid(ServiceError):
    """A setting is unknown or has a value it may not have; the process does not start."""

    code: ClassVar[str] = "settings_invalid"


class ExtraMissing(ServiceError):
    """What was asked for needs a part of the installation that is not there."""

    code: ClassVar[str] = "extra_missing"


class ClientGone(ServiceError):
    """The client closed the connection before its answer was ready."""

    code: ClassVar[str] = "client_gone"


class ClientTooSlow(CallerError):
    """The client of a stream did not begin in time, or does not read what it is sent."""

    code: ClassVar[str] = "client_too_slow"


class RequestTimedOut(ServiceError):
    """The request was in work for longer than any request may be."""

    code: ClassVar[str] = "request_timed_out"


class EngineError(ServiceError):
    """The engine cannot do its part, whoever asks."""

    code: ClassVar[str] = "engine_error"


class EngineFailed(EngineError):
    """A step raised something unforeseen; the log has the traceback."""

    code: ClassVar[str] = "engine_failed"


class ModelUnusable(EngineError):
    """The model named in the settings cannot be loaded."""

    code: ClassVar[str] = "model_unusable"


class WorkerDied(EngineError):
    """The process that transcribed a file of an archive ended, more than once."""

    code: ClassVar[str] = "worker_died"
