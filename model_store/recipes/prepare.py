"""Let the frozen teacher hear every training utterance once: texts, alignments, states, posteriors.

    python -m model_store.recipes.prepare --teacher DIR --corpora corpora.toml --out DIR

The TOML names the corpora, in tables [[corpus]]: `manifest`, `text` = "transcript", "teacher" or
"prepared" (what was found for the same corpus at speed 1, before), `max_disagreement`, the word error rate between the two above which an utterance is left out, and
`speed`, at which it is heard: resampling moves pitch and formants along, so that it is another voice.
"""

import argparse
import json
import math
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
import torch
from torch import Tensor

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.backbones.base import EncoderStates
from model_store.backbones.precision import has_fast_bfloat16, to_bfloat16
from model_store.checkpoint import Checkpoint, load_checkpoint
from model_store.decoding.alignment import token_spans
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer
from model_store.text.wer import word_errors
from model_store.training.manifest import Utterance, training_utterances
from model_store.training.reference import TOP_TOKENS, Reference, load_references, save_references

BATCH_S = 60.0
MOST_SILENCE_S = 0.8
TOKENS_PER_SECOND = 6.5
LONGEST_S = 24.0
COST_FILE = "cost.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """One corpus of the preparation."""

    manifest: Path
    text: Literal["transcript", "teacher", "prepared"]
    max_disagreement: float = 1.0
    speed: float = 1.0

    @property
    def name(self) -> str:
        """What weights in a run call it."""
        folder = self.manifest.parent.name
        return folder if self.speed == 1 else f"{folder}-speed{round(100 * self.speed)}"


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance with the silence that teacher and student both hear around it."""

    utterance: Utterance
    samples_S: Tensor


def main() -> None:
    """Prepare every corpus that the TOML names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = tomllib.loads(options.corpora.read_text(encoding="utf-8"))
    teacher = Teacher(load_checkpoint(options.teacher))
    for table in settings["corpus"]:
        manifest = (options.corpora.parent / table.pop("manifest")).resolve()
        corpus = Corpus(manifest=manifest, **table)
        target = options.out / corpus.name
        if target.with_suffix(".json").exists():
            continue
        if corpus.text == "prepared":
            teacher.remember(load_references(options.out / manifest.parent.name))
        started = time.perf_counter()
        references = list(teacher.references(corpus, np.random.default_rng(options.seed)))
        took_s = time.perf_counter() - started
        save_references(references, target)
        seconds = sum(r.num_samples for r in references) / SAMPLE_RATE_HZ
        # What a student's training costs beside its own steps.
        spent = {"corpus": target.name, "audio_s": round(seconds, 1), "teacher_s": round(took_s, 1)}
        with (options.out / COST_FILE).open("a", encoding="utf-8") as costs:
            costs.write(json.dumps(spent) + "\n")
        print(f"{target.name}: {len(references)} utterances, {seconds / 3600:.2f} h", flush=True)


class Teacher:
    """The frozen model that is learned from."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model
        if has_fast_bfloat16():
            to_bfloat16(self._model)
        self._tokenizer = Tokenizer.from_file(checkpoint.folder / "tokenizer.json")
        self._heads = {
            int(layer): heads for layer, heads in checkpoint.decoding["alignment_heads"].items()
        }
        self._end_offset_s: float = checkpoint.decoding["end_offset_s"]
        self._end_token = checkpoint.model.config.end_token
        self._texts_found: dict[str, str] = {}
        self._full = DepthSchedule.constant(DepthPlan.full(checkpoint.model.num_layers))

    def remember(self, references: Sequence[Reference]) -> None:
        """Take over the texts of a corpus that was prepared before."""
        self._texts_found = {
            r.id: self._tokenizer.decode(r.token_U.tolist()[:-1]) for r in references
        }

    def references(self, corpus: Corpus, draw: np.random.Generator) -> Iterator[Reference]:
        """Hear a corpus; utterances whose text is in doubt are left out."""
        utterances = training_utterances(corpus.manifest, leave_out=True)
        kept = [item for item in utterances if item.seconds <= LONGEST_S]
        for batch in _batches(kept):
            heard = [Heard(item, _with_silence(item, corpus.speed, draw)) for item in batch]
            with torch.inference_mode():
                yield from self._batch(heard, corpus)

    def _batch(self, heard: Sequence[Heard], corpus: Corpus) -> Iterator[Reference]:
        num_samples_B = torch.tensor([len(item.samples_S) for item in heard])
        samples_BS = torch.nn.utils.rnn.pad_sequence(
            [item.samples_S for item in heard], batch_first=True
        )
        encoded = self._model.encode(samples_BS.float() / 32768, num_samples_B, self._full)
        texts = self._texts(heard, encoded, corpus)
        keep = [row for row, text in enumerate(texts) if text is not None]
        if not keep:
            return
        kept = EncoderStates(encoded.states_BTD[keep], encoded.num_frames_B[keep])
        token_ids = [self._tokenizer.encode(texts[row] or "") for row in keep]
        yield from self._forced([heard[row] for row in keep], kept, token_ids)

    def _texts(
        self, heard: Sequence[Heard], encoded: EncoderStates, corpus: Corpus
    ) -> list[str | None]:
        if corpus.text == "transcript":
            return [item.utterance.transcript for item in heard]
        if corpus.text == "prepared":
            return [self._texts_found.get(item.utterance.id) for item in heard]
        limits = [
            int(TOKENS_PER_SECOND * len(item.samples_S) / SAMPLE_RATE_HZ) + 1 for item in heard
        ]
        found = decode_greedy(self._model, encoded, limits, self._end_token)
        texts: list[str | None] = []
        for item, hypothesis in zip(heard, found, strict=True):
            text = self._tokenizer.decode(hypothesis.tokens)
            doubtful = not hypothesis.ended or not text
            if item.utterance.transcript and not doubtful:
                errors = word_errors(normalise(item.utterance.transcript), normalise(text))
                doubtful = errors.rate > corpus.max_disagreement
            texts.append(None if doubtful else text)
        return texts

    def _forced(
        self, heard: Sequence[Heard], encoded: EncoderStates, token_ids: Sequence[list[int]]
    ) -> Iterator[Reference]:
        model, before = self._model, len(self._model.prompt) - 1
        target_BU = _padded([[*ids, self._end_token] for ids in token_ids], self._end_token)
        prompt_BU = torch.tensor(model.prompt).expand(len(heard), -1)
        pooled = model.decoder.pool(encoded)
        cache = model.decoder.begin(pooled, before + target_BU.shape[1])
        cache.watched = self._heads
        state_BUD = model.decoder(torch.cat([prompt_BU, target_BU[:, :-1]], 1), cache)
        logp_BUV = model.decoder.logits(state_BUD[:, before:]).float().log_softmax(-1)
        top_BUK = logp_BUV.topk(TOP_TOKENS)
        weights_BHUP = torch.cat([w for _, w in sorted(cache.weights_BHUP.items())], dim=1).float()
        for row, item in enumerate(heard):
            tokens, frames = len(token_ids[row]) + 1, int(encoded.num_frames_B[row])
            total_s = len(item.samples_S) / SAMPLE_RATE_HZ
            # Whisper's states go on after the audio, in silence that no token is said in.
            rows = min(int(pooled.num_rows_B[row]), math.ceil(total_s / model.memory_frame_s))
            weights_HUP = weights_BHUP[row, :, before : before + tokens, :rows]
            spans = token_spans(weights_HUP.numpy())
            end_s = [end * model.memory_frame_s - self._end_offset_s for _, end in spans[:-1]]
            yield Reference(
                item.utterance.id,
                item.samples_S,
                encoded.states_BTD[row, :frames].to(torch.bfloat16).clone(),
                target_BU[row, :tokens].to(torch.int32).clone(),
                torch.tensor([*[min(s, total_s) for s in end_s], total_s]),
                top_BUK.indices[row, :tokens].to(torch.int32).clone(),
                top_BUK.values[row, :tokens].to(torch.float16).clone(),
            )


def _batches(utterances: list[Utterance]) -> Iterator[list[Utterance]]:
    batch: list[Utterance] = []
    for item in sorted(utterances, key=lambda item: (item.seconds, item.id)):
        if batch and (len(batch) + 1) * (item.seconds + 2 * MOST_SILENCE_S) > BATCH_S:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _with_silence(utterance: Utterance, speed: float, draw: np.random.Generator) -> Tensor:
    mono = read_audio(utterance.path)
    if speed != 1:
        mono = soxr.resample(mono, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ)
    before, after = (int(s * SAMPLE_RATE_HZ) for s in draw.uniform(0, MOST_SILENCE_S, 2))
    whole = np.concatenate([np.zeros(before), mono, np.zeros(after)])
    return torch.from_numpy((whole.clip(-1, 1) * 32767).astype(np.int16))


def _padded(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


if __name__ == "__main__":
    main()
