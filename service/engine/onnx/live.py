"""Live utterances on ONNX Runtime, as `model_store.registry.live` has them on torch."""

from collections.abc import Sequence
from operator import add

from model_store.decoding.live import LiveModel, LiveTranscript
from model_store.decoding.live_runner import CHUNK_FRAMES, LiveParts, LiveRunner
from model_store.decoding.live_utterance import Framing, Samples
from model_store.decoding.reading import TranscriptReader
from model_store.depth import DepthPlan
from model_store.flops import LiveCosts
from model_store.text.agreement import WHOLE, CommitRule
from service.engine.onnx.checkpoint import FRAME_SAMPLES, RECEPTIVE_SAMPLES, Floats
from service.engine.onnx.live_decoder import DecoderState, LiveDecoder
from service.engine.onnx.live_encoder import Chunk, LiveEncoder
from service.engine.onnx.live_state import EncoderState
from service.engine.onnx.recogniser import OnnxRecogniser


class OnnxMachine:
    """Runs a model's graphs over streams; see `decoding.live_runner.LiveMachine`.

    Args:
        recogniser: whose graphs they are.
        model: what transcripts need of it.
        rule: when a token is settled.
        chunk_frames: frames an encoder step takes.
    """

    def __init__(
        self, recogniser: OnnxRecogniser, model: LiveModel, rule: CommitRule, chunk_frames: int
    ) -> None:
        self._whole = recogniser.encoder
        self._encoder = LiveEncoder(recogniser.encoder, chunk_frames)
        self._decoder = LiveDecoder(recogniser.encoder, recogniser.decoder)
        self._model = model
        self._rule = rule

    def open(self) -> tuple[EncoderState, DecoderState]:
        """Begin an utterance."""
        transcript = LiveTranscript(self._model, self._rule)
        return self._encoder.open(), self._decoder.open(transcript)

    def check(self, plan: DepthPlan, encoder: EncoderState) -> None:
        """Refuse a plan that the utterance cannot go on with.

        Raises:
            PlanInvalid: it cannot.
        """
        self._encoder.check(plan, encoder)

    def encode(
        self,
        encoders: Sequence[EncoderState],
        samples: Sequence[Samples],
        plans: Sequence[DepthPlan],
    ) -> list[Floats]:
        """Encode a chunk of each stream; give x_TD of each."""
        return self._encoder.step(list(map(Chunk, encoders, samples, plans)))

    def hear(self, decoders: Sequence[DecoderState], frames: Sequence[Floats]) -> list[int]:
        """Pool what was encoded; give the pooled frames that each stream gained."""
        return self._decoder.hear(decoders, frames)

    def hear_whole(self, windows: Sequence[Samples], plan: DepthPlan) -> list[DecoderState]:
        """Encode whole utterances with full context; give a decoder of each."""
        memories = self._whole.encode(windows, plan)
        return [
            self._decoder.remembering(LiveTranscript(self._model, WHOLE), memory)
            for memory in memories
        ]

    def complete(
        self, encoders: Sequence[EncoderState], decoders: Sequence[DecoderState]
    ) -> list[int]:
        """Give on what waits in each stream's encoder, and complete its last group of frames."""
        waited = self._decoder.hear(decoders, self._encoder.finish(encoders))
        return list(map(add, waited, self._decoder.complete(decoders)))

    def write(
        self,
        decoders: Sequence[DecoderState],
        most_tokens: Sequence[int],
        ended: Sequence[bool],
        most_calls: int | None,
    ) -> None:
        """Bring transcripts up to date."""
        self._decoder.write(decoders, most_tokens, ended, most_calls)


def create_live_runner(
    recogniser: OnnxRecogniser,
    *,
    rule: CommitRule | None = None,
    chunk_frames: int = CHUNK_FRAMES,
    reuse: bool = True,
    final_calls: int | None = None,
) -> LiveRunner[EncoderState, DecoderState]:
    """Give what runs live utterances of a model.

    Args:
        recogniser: whose model it is.
        rule: when a token is settled; None for the rule that is shipped.
        chunk_frames: frames an encoder step takes, a multiple of the largest stride.
        reuse: go on from the cache of committed tokens; see `decoding.live.LiveModel`.
        final_calls: after which a final goes on in the next step; see `decoding.live_runner`.
    """
    sizes = recogniser.encoder.sizes
    model = LiveModel(
        prompt=(sizes.start_token,),
        end_token=sizes.end_token,
        row_s=sizes.memory_frame_s,
        reuse=reuse,
    )
    parts = LiveParts(
        model=model,
        framing=Framing(FRAME_SAMPLES, RECEPTIVE_SAMPLES),
        chunk_frames=chunk_frames,
        num_layers=sizes.encoder_layers,
        look_ahead_frames=sizes.look_ahead_frames,
        reader=TranscriptReader(
            recogniser.tokenizer,
            recogniser.heads,
            sizes.memory_frame_s,
            confidence=recogniser.confidence,
        ),
        tokenizer=recogniser.tokenizer,
        formula=LiveCosts(recogniser.sizes),
    )
    machine = OnnxMachine(recogniser, model, rule or CommitRule(), chunk_frames)
    return LiveRunner(machine, parts, final_calls=final_calls)
