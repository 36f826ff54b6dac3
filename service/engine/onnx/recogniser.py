"""A model on ONNX Runtime: windows of samples to words, as `model_store.registry` has it on torch."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_store.decoding.confidence import confidence_map
from model_store.decoding.hotwords import HotwordLists
from model_store.decoding.reading import Heard, TranscriptReader, WindowTranscript
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import CheckpointError
from model_store.flops import spent_on_tries
from model_store.text.tokens import Tokenizer
from service.engine.onnx.build import ARRAYS, ensure_built, watched_heads
from service.engine.onnx.checkpoint import CheckpointFolder, Floats
from service.engine.onnx.decoder import Decoder
from service.engine.onnx.encoder import Encoder
from service.engine.onnx.processor import Numerics


class OnnxRecogniser:
    """A checkpoint, built and loaded.

    Args:
        checkpoint: which model.
        cache: where its graphs are kept.
        numerics: how its products are computed.
        num_threads: threads one run may use.

    Raises:
        CheckpointError: a file is missing or damaged, or the graphs cannot be built.
    """

    def __init__(
        self, checkpoint: CheckpointFolder, cache: Path, numerics: Numerics, num_threads: int
    ) -> None:
        folder = ensure_built(checkpoint, cache, numerics)
        sizes = checkpoint.sizes
        with np.load(folder / ARRAYS) as stored:
            arrays = {name: stored[name] for name in stored.files}
        self.heads = heads = watched_heads(checkpoint)
        watched = sum(len(found) for found in heads.by_layer.values()) if heads else 0
        embedding = arrays["embedding"], arrays["embedding_scale"]
        self.name = checkpoint.name
        self.numerics: Numerics = numerics
        self.catalogue: PlanCatalogue = checkpoint.catalogue
        self.sizes = sizes.for_flops(watched)
        self.encoder = Encoder(folder, sizes, arrays, num_threads)
        self.decoder = Decoder(folder, sizes, embedding, num_threads, numerics)
        self.tokenizer = _tokenizer(checkpoint.folder / "tokenizer.json")
        self._hotwords = HotwordLists(self.tokenizer)
        self.confidence = confidence_map(checkpoint.decoding)
        self._reader = TranscriptReader(
            self.tokenizer, heads, sizes.memory_frame_s, confidence=self.confidence
        )

    @property
    def takes_hotwords(self) -> bool:
        """Whether hotwords make a difference: always, where there is an attention decoder."""
        return True

    def transcribe_windows(
        self,
        windows: Sequence[Floats],
        plan: DepthPlan,
        *,
        words: bool = True,
        hotwords: Sequence[str] = (),
    ) -> list[WindowTranscript]:
        """Transcribe short stretches of speech together, in the order given.

        Args:
            windows: float32 in [-1, 1] at 16 kHz, each at most half a minute.
            plan: stride of each layer.
            words: also give words with times and confidence.
            hotwords: words that may come, written where they nearly would have been.
        """
        if not windows:
            return []
        expected = self._hotwords.of(hotwords)

        def listen(
            heard: Sequence[Floats], lengths: Sequence[int], max_tokens: Sequence[int]
        ) -> Heard:
            started = time.perf_counter()
            padded = [
                np.pad(samples, (0, length - len(samples)))
                for samples, length in zip(heard, lengths, strict=True)
            ]
            memories = self.encoder.encode(padded, plan)
            encoded = time.perf_counter()
            hypotheses = self.decoder.greedy(memories, max_tokens, expected)
            return Heard(hypotheses, encoded - started, time.perf_counter() - encoded)

        schedule = DepthSchedule.constant(plan)
        found: list[WindowTranscript] = []
        for decoded in self._reader.decode(windows, listen, words=words):
            spent = spent_on_tries(self.sizes, schedule, decoded.tries)
            found.append(
                WindowTranscript.of(
                    decoded, flops=spent.total, encoder_flops=spent.encoder, full_flops=spent.full
                )
            )
        return found


def _tokenizer(path: Path) -> Tokenizer:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in {path.name!r}, got {error}") from error
    return Tokenizer.from_file(path)
