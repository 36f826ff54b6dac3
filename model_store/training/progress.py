"""Word error rate by depth while a run goes on, on a few held-out utterances."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from model_store.audio import read_audio
from model_store.backbones import SpeechModule
from model_store.checkpoint import Checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer
from model_store.text.wer import word_errors
from model_store.training.manifest import held_out_ids, read_manifest
from model_store.training.precision import autocast

logger = logging.getLogger(__name__)

UTTERANCES = 40
BATCH = 10
TOKENS_PER_SECOND = 6.5


class ProgressWer:
    """Decodes a fixed handful of held-out utterances at a few depths.

    Args:
        manifests: transcribed corpora; their held-out utterances are taken, evenly spread.
        checkpoint: gives the tokens.
        num_layers: of the student, which may have fewer than the checkpoint.
        folder: `wer.jsonl` is written there.
    """

    def __init__(
        self, manifests: Sequence[Path], checkpoint: Checkpoint, num_layers: int, folder: Path
    ) -> None:
        held = held_out_ids()
        found = [u for m in manifests for u in read_manifest(m) if u.id in held]
        stride = max(1, len(found) // UTTERANCES)
        chosen = sorted(found[::stride], key=lambda u: u.seconds)
        self._texts = [normalise(u.transcript) for u in chosen]
        self._samples = [torch.from_numpy(read_audio(u.path)) for u in chosen]
        self._tokenizer = Tokenizer.from_file(checkpoint.folder / "tokenizer.json")
        self._end_token = checkpoint.model.config.end_token
        self._folder = folder
        self._plans = watched_plans(num_layers)

    def report(self, step: int, student: SpeechModule) -> None:
        """Measure and write one line."""
        if not self._samples:
            return
        student.eval()
        rates = {str(plan): self._rate(student, plan) for plan in self._plans}
        with (self._folder / "wer.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, "wer": rates}) + "\n")
        shown = "  ".join(f"{plan} {rate:.1%}" for plan, rate in rates.items())
        logger.info("step %d WER by depth: %s", step, shown)

    def _rate(self, student: SpeechModule, plan: DepthPlan) -> float:
        device = next(student.parameters()).device
        errors = words = 0
        for start in range(0, len(self._samples), BATCH):
            part = self._samples[start : start + BATCH]
            lengths = [len(samples_S) for samples_S in part]
            with torch.inference_mode(), autocast():
                encoded = student.encode(
                    pad_sequence(part, batch_first=True).to(device),
                    torch.tensor(lengths, device=device),
                    DepthSchedule.constant(plan),
                )
                limits = [int(TOKENS_PER_SECOND * n / 16_000) + 1 for n in lengths]
                found = decode_greedy(student, encoded, limits, self._end_token)
            for text, hypothesis in zip(self._texts[start:], found, strict=False):
                result = word_errors(text, normalise(self._tokenizer.decode(hypothesis.tokens)))
                errors += result.substitutions + result.deletions + result.insertions
                words += result.reference_words
        return errors / max(1, words)


def watched_plans(num_layers: int) -> list[DepthPlan]:
    """Full, uniform strides, and the first half of the layers with every other one dropped."""
    plans = [DepthPlan((stride,) * num_layers) for stride in (1, 2, 4, 8)]
    kept = [index for index in range(num_layers) if index % 4 != 2]  # noqa: PLR2004
    return [*plans, DepthPlan.keeping(kept, num_layers)]
