"""The engine on torch: the one module that knows `model_store`, and its errors.

upload --open_audio--> blocks --cut_windows (gate)--> windows --transcribe_windows--> words
'------------- decoding threads ------------------'   '--------- engine thread ---------'
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Literal, Protocol

import numpy as np

from model_store import errors as model_errors
from model_store.audio import SpeechGate, cut_windows, open_audio
from model_store.depth import INPUT, DepthPlan, PlanCatalogue
from service import errors
from service.engine.base import (
    SAMPLE_RATE_HZ,
    Cost,
    ListenInput,
    LiveInput,
    LiveOutput,
    LiveUtterance,
    ModelInfo,
    PlanInUse,
    Samples,
    Segment,
    SpeechListener,
    StepResult,
    Window,
    Word,
)
from service.engine.by_input import HeardUtterance, in_use, picked, step_by_input
from service.engine.step_times import with_step_times
from service.engine.torch_live import GateListener, LiveModel, listen_to_streams, step_streams

logger = logging.getLogger(__name__)

TRANSLATIONS: Mapping[type[model_errors.ModelStoreError], type[errors.ServiceError]] = {
    model_errors.AudioEmpty: errors.AudioEmpty,
    model_errors.AudioUndecodable: errors.AudioUndecodable,
    model_errors.AudioTruncated: errors.AudioTruncated,
    model_errors.AudioNotFinite: errors.AudioNotFinite,
    model_errors.AudioFormatUnsupported: errors.AudioFormatUnsupported,
    model_errors.AudioTooLong: errors.AudioTooLong,
    model_errors.DropOutOfRange: errors.DropOutOfRange,
    model_errors.PolicyUnknown: errors.PolicyUnknown,
    model_errors.PlanInvalid: errors.PlanInvalid,
    model_errors.DepthRefused: errors.DepthRefused,
    model_errors.StreamingUnsupported: errors.StreamingUnsupported,
    model_errors.DeviceMissing: errors.ModelUnusable,
    model_errors.CheckpointError: errors.ModelUnusable,
    model_errors.ModelUnknown: errors.ModelUnusable,
}
"""The library's errors that serving can meet, and what they are called here."""

WARM_UP_S = 2.0


class TimedWord(Protocol):
    """A word of a `WindowTranscript`; times count from the window's start."""

    @property
    def text(self) -> str: ...  # noqa: D102 as in Word
    @property
    def start_s(self) -> float: ...  # noqa: D102
    @property
    def end_s(self) -> float: ...  # noqa: D102
    @property
    def confidence(self) -> float: ...  # noqa: D102


class WindowTranscript(Protocol):
    """What the library gives for one window."""

    @property
    def text(self) -> str: ...  # noqa: D102 as in Segment
    @property
    def words(self) -> Sequence[TimedWord]: ...  # noqa: D102
    @property
    def avg_logprob(self) -> float: ...  # noqa: D102
    @property
    def compression_ratio(self) -> float: ...  # noqa: D102
    @property
    def flops(self) -> int: ...  # noqa: D102 as in Cost
    @property
    def encoder_flops(self) -> int: ...  # noqa: D102
    @property
    def full_flops(self) -> int: ...  # noqa: D102
    @property
    def encode_s(self) -> float: ...  # noqa: D102
    @property
    def decode_s(self) -> float: ...  # noqa: D102


class LoadedModel(Protocol):
    """What this engine needs of a model that `model_store` loaded."""

    @property
    def name(self) -> str: ...  # noqa: D102 the name that aliases are made of
    @property
    def catalogue(self) -> PlanCatalogue: ...  # noqa: D102 the plans on offer
    @property
    def takes_hotwords(self) -> bool: ...  # noqa: D102 as in ModelInfo
    def transcribe_windows(
        self,
        windows: list[Samples],
        plan: DepthPlan,
        *,
        words: bool,
        hotwords: Sequence[str] = (),
    ) -> Sequence[WindowTranscript]:
        """Transcribe each of the windows, batched."""
        ...


def files_only(model: LoadedModel) -> LiveModel | None:
    """Run no streams of a model."""
    del model


@contextmanager
def in_our_terms() -> Generator[None]:
    """Turn the library's errors into ours; their messages are written there, for callers."""
    try:
        yield
    except model_errors.ModelStoreError as error:
        translation = TRANSLATIONS.get(type(error))
        if translation is None:
            raise
        raise translation(str(error)) from error


class TorchEngine:
    """A model of `model_store` behind the seam.

    Args:
        load_model: gives the model; called once, on the engine's thread.
        open_gate: gives the speech gate.
        open_live: gives what runs a model's streams; None where its streams cannot run.
    """

    def __init__(
        self,
        load_model: Callable[[], LoadedModel],
        open_gate: Callable[[], SpeechGate],
        open_live: Callable[[LoadedModel], LiveModel | None] = files_only,
    ) -> None:
        self._load_model = load_model
        self._open_gate = open_gate
        self._open_live = open_live
        self._model: LoadedModel | None = None
        self._live: LiveModel | None = None
        self._gate: SpeechGate | None = None

    def load(self) -> ModelInfo:
        """Load the model and run its deepest and shallowest plan once, so that no caller waits."""
        with in_our_terms():
            model = self._model = self._load_model()
            self._gate = self._open_gate()
            offered = model.catalogue.offered
            silence = np.zeros(round(WARM_UP_S * SAMPLE_RATE_HZ), np.float32)
            for plan in (offered[0], offered[-1]):
                model.transcribe_windows([silence], plan, words=True)
            live = self._live = self._open_live(model)
        info = ModelInfo(
            model.name,
            model.catalogue.num_layers,
            tuple(map(in_use, offered)),
            model.catalogue.policies,
            chunk_s=live.chunk_s if live else 0.0,
            wer_ratios=model.catalogue.wer_ratios,
            takes_hotwords=model.takes_hotwords,
        )
        if live:
            self.step([LiveInput(self.open_utterance(), silence, info.offered[0], ends=True)])
            info = with_step_times(self, info)
        return info

    def choose(self, drop: float, max_drop: float | None, policy: str) -> PlanInUse:
        """Ask the model's catalogue."""
        with in_our_terms():
            plan = self._loaded().catalogue.choose(drop, max_drop, policy)
        return in_use(plan, by_input=policy == INPUT)

    def open_windows(self, source: BinaryIO, *, max_s: float) -> Generator[Window]:
        """Decode, find speech and cut at quiet places."""
        assert self._gate is not None, "load comes first"
        with in_our_terms():
            for window in cut_windows(open_audio(source, max_s=max_s), gate=self._gate):
                yield Window(window.samples, window.start_s, window.end_s, window.speech)

    def transcribe(self, windows: Sequence[Window], plan: PlanInUse) -> StepResult:
        """Run the model over the windows that hold speech; the others cost nothing."""
        spoken = [window.samples for window in windows if window.speech]
        if plan.by_input:
            return self._transcribe_by_input(windows, spoken, plan)
        transcripts: Sequence[WindowTranscript] = ()
        if spoken:
            with in_our_terms():
                depth = DepthPlan(plan.strides)
                transcripts = self._loaded().transcribe_windows(
                    spoken, depth, words=True, hotwords=_hotwords(windows)
                )
        return _result(windows, transcripts, map(_cost, transcripts))

    def _transcribe_by_input(
        self, windows: Sequence[Window], spoken: Sequence[Samples], nominal: PlanInUse
    ) -> StepResult:
        model = self._loaded()
        transcripts: list[WindowTranscript] = []
        plans: list[PlanInUse] = []
        picking: list[Cost] = []
        with in_our_terms():
            for samples in spoken:
                plan, spent = picked(model.catalogue, samples, nominal)
                depth = DepthPlan(plan.strides)
                transcripts += model.transcribe_windows(
                    [samples], depth, words=True, hotwords=_hotwords(windows)
                )
                plans.append(plan)
                picking.append(spent)
        costs = map(Cost.__add__, map(_cost, transcripts), picking)
        return _result(windows, transcripts, costs, plans)

    def open_utterance(self) -> LiveUtterance:
        """Begin an utterance of the model's."""
        utterance = self._streaming().open_utterance()
        return utterance if self._catalogue.selector is None else HeardUtterance.of(utterance)

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        """Run the model over all streams that are due."""
        live = self._streaming()
        with in_our_terms():
            if self._catalogue.selector is None:
                return step_streams(live, inputs)
            return step_by_input(self._catalogue, inputs, lambda ready: step_streams(live, ready))

    def open_listener(self) -> SpeechListener:
        """Begin listening with the gate."""
        assert self._gate is not None, "load comes first"
        return GateListener(self._gate.listen())

    def listen(self, inputs: Sequence[ListenInput]) -> Sequence[Samples]:
        """Ask the gate about all streams in one call."""
        assert self._gate is not None, "load comes first"
        return listen_to_streams(self._gate, inputs)

    def _streaming(self) -> LiveModel:
        if self._live is None:
            raise errors.ModelUnusable(
                f"expected a model that streams, got {self._loaded().name!r}, which does not"
            )
        return self._live

    @property
    def _catalogue(self) -> PlanCatalogue:
        return self._loaded().catalogue

    def _loaded(self) -> LoadedModel:
        assert self._model is not None, "load comes first"
        return self._model


def create_torch_engine(
    model: str, *, num_threads: int, device: Literal["auto", "cpu", "cuda"] = "auto"
) -> TorchEngine:
    """Build the engine for a model's name; torch is imported when it loads."""

    def load_model() -> LoadedModel:
        import torch  # seconds, and only here

        import model_store

        torch.set_num_threads(num_threads)
        loaded = model_store.load(model, device=device)
        logger.info("%s runs on %s in %s", loaded.name, loaded.device, loaded.precision)
        return loaded

    def open_gate() -> SpeechGate:
        from model_store.audio import SileroGate

        return SileroGate()

    def open_live(loaded: LoadedModel) -> LiveModel | None:
        from model_store.decoding.live_runner import FINAL_CALLS
        from model_store.registry import Recogniser
        from model_store.registry.live import LiveOptions, LiveRecogniser, can_stream
        from model_store.registry.live_ctc import CtcLiveRecogniser, streams_frames

        if isinstance(loaded, Recogniser) and can_stream(loaded):
            return LiveRecogniser(loaded, LiveOptions(final_calls=FINAL_CALLS))
        if isinstance(loaded, Recogniser) and streams_frames(loaded):
            return CtcLiveRecogniser(loaded)
        return None

    return TorchEngine(load_model, open_gate, open_live)


def _hotwords(windows: Sequence[Window]) -> tuple[str, ...]:
    (hotwords,) = {window.hotwords for window in windows}
    return hotwords


def _segment(window: Window, heard: Iterator[WindowTranscript]) -> Segment:
    if not window.speech:
        return Segment(window.start_s, window.end_s, "", no_speech=True)
    transcript = next(heard)
    words = tuple(
        Word(w.text, window.start_s + w.start_s, window.start_s + w.end_s, w.confidence)
        for w in transcript.words
    )
    return Segment(
        window.start_s,
        window.end_s,
        transcript.text.strip(),
        words,
        transcript.avg_logprob,
        transcript.compression_ratio,
    )


def _result(
    windows: Sequence[Window],
    transcripts: Iterable[WindowTranscript],
    costs: Iterable[Cost],
    plans: Sequence[PlanInUse] = (),
) -> StepResult:
    """Put together what windows gave; those without speech gave and cost nothing."""
    heard, spent = iter(transcripts), iter(costs)
    return StepResult(
        tuple(_segment(window, heard) for window in windows),
        tuple(next(spent) if window.speech else Cost() for window in windows),
        tuple(plans),
    )


def _cost(transcript: WindowTranscript) -> Cost:
    return Cost(
        transcript.flops,
        transcript.encoder_flops,
        transcript.full_flops,
        transcript.encode_s,
        transcript.decode_s,
    )
