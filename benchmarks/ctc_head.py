r"""What a CTC head on the encoder is worth: beside the attention decoder at the same plan and mask.

    python -m benchmarks.ctc_head --model moonshine-base-elastic --head DIR [--head DIR] \
        --manifest DEV/manifest.tsv --plan 1,1,1,1,1,1,1,1 [--chunk-frames 0 --chunk-frames 24]

On held-out utterances, for each plan and mask (0 is full context): word error rate of greedy CTC and
of the attention decoder, its paired ratio, and how long after a word's end the head has spelled it
(a word's end is by the attention of the first plan at full context; only words that both heard).

As a guard: how often the transcript that is worse has the worse score (area under the curve), where
the score is what the transcript's CTC likelihood lacks of the best path, by token of that path.
"Worse" is told three ways: two words or more deleted; a third of the words wrong; and the same
transcript with a third of its words taken out of the middle, or with its last three words said
thrice. The decoder's own mean log-probability stands beside the first two.
Prints a table and, last, one JSON line.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.backbones.ctc_head import CtcHead, HeadedModel
from model_store.decoding.ctc import CtcWindowDecoder, spell_greedily
from model_store.decoding.reading import DecodedWord, WindowTranscript
from model_store.depth import DepthPlan, DepthSchedule
from model_store.recipes.train_head import load_head
from model_store.registry import DEFAULT_MODEL, Recogniser, load
from model_store.text.bpe import BLANK
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer
from model_store.text.wer import (
    bootstrap_interval,
    normalised_word_errors,
    paired_ratio_interval,
    total,
)
from model_store.training.measure import Recording, held_out_recordings

SAMPLE_RATE_HZ = 16_000
BATCH = 16
CONFIDENCE = 0.9
DELETED = 2
WRONG = 1 / 3
LOOPED = 3


@dataclass(frozen=True, slots=True)
class NamedHead:
    """A head under the name of its folder."""

    name: str
    head: CtcHead
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class Read:
    """What a head made of one recording."""

    text: str
    words: tuple[DecodedWord, ...]
    log_probs_TV: Tensor


def main() -> None:
    """Measure what the command line asks for."""
    options = _parse()
    torch.set_num_threads(1)
    model = load(options.model)
    heads = [NamedHead(folder.name, *load_head(folder)) for folder in options.head]
    recordings = [r for path in options.manifest for r in held_out_recordings(path, options.nth)]
    recordings = sorted((r for r in recordings if r.reference), key=lambda r: len(r.samples))
    run = Run(
        benchmark="ctc-head",
        started=datetime.now(UTC),
        environment=read_environment(("numpy", "torch")),
        config={
            "model": options.model,
            "sets": [path.resolve().parent.name for path in options.manifest],
            "utterances": len(recordings),
            "threads": 1,
            "precision": model.precision,
            "parameters": {named.name: named.head.num_parameters for named in heads},
        },
        warm_up=0,
        repeats=1,
    )
    rows: list[dict[str, object]] = []
    ends: list[WindowTranscript] = []
    for plan in options.plan:
        for chunk_frames in options.chunk_frames:
            depth = DepthPlan.parse(plan), chunk_frames or None
            written = [w for batch in _batched(recordings) for w in _written(model, batch, *depth)]
            ends = ends or written
            for named in heads:
                read = [r for b in _batched(recordings) for r in read_by(model, named, b, *depth)]
                row = compared(recordings, written, read, named.tokenizer)
                row |= {f"delay_{n}": v for n, v in delays_s(read, ends).items()}
                row = {"plan": plan, "chunk_frames": chunk_frames, "head": named.name, **row}
                print(json.dumps(row), flush=True)
                rows.append(row)
    print(json.dumps(document(run, rows)))


def read_by(
    model: Recogniser,
    named: NamedHead,
    recordings: Sequence[Recording],
    plan: DepthPlan,
    chunk_frames: int | None,
) -> list[Read]:
    """Let a head read the encoder's states."""
    headed = HeadedModel(model.module, named.head)
    decoder = CtcWindowDecoder(headed, named.tokenizer)
    lengths = [len(recording.samples) for recording in recordings]
    samples_BS = torch.zeros(len(lengths), max(lengths))
    for row, recording in enumerate(recordings):
        samples_BS[row, : lengths[row]] = torch.from_numpy(recording.samples)
    with torch.inference_mode():
        schedule = DepthSchedule.constant(plan)
        encoded = headed.encode(samples_BS, torch.tensor(lengths), schedule, chunk_frames)
        log_probs_BTV = headed.log_probs(encoded.states_BTD)
    found: list[Read] = []
    frames = encoded.num_frames_B.tolist()
    for log_probs_TV, valid, length in zip(log_probs_BTV, frames, lengths, strict=True):
        spelled = spell_greedily(log_probs_TV[:valid], headed.blank)
        text = named.tokenizer.decode(spelled.tokens)
        words = decoder.words(spelled, length / SAMPLE_RATE_HZ)
        found.append(Read(text, words, log_probs_TV[:valid]))
    return found


def compared(
    recordings: Sequence[Recording],
    written: Sequence[WindowTranscript],
    read: Sequence[Read],
    tokenizer: Tokenizer,
) -> dict[str, object]:
    """Compare error rates, and score the decoder's transcripts by the head."""
    by_decoder = [
        normalised_word_errors(r.reference, w.text)
        for r, w in zip(recordings, written, strict=True)
    ]
    by_head = [
        normalised_word_errors(r.reference, one.text)
        for r, one in zip(recordings, read, strict=True)
    ]
    texts = [normalise(one.text) for one in written]
    scores = scores_of(read, texts, tokenizer)
    deleted = [one.deletions >= DELETED for one in by_decoder]
    wrong = [one.rate >= WRONG for one in by_decoder]
    unsure = [-one.avg_logprob for one in written]
    sound = [i for i, one in enumerate(by_decoder) if not one.errors]
    row: dict[str, object] = {
        "wer_decoder": total(by_decoder).rate,
        "wer_head": total(by_head).rate,
        "interval_head": list(bootstrap_interval(by_head)),
        "over_decoder": total(by_head).rate / max(1e-9, total(by_decoder).rate),
        "over_decoder_interval": list(paired_ratio_interval(by_head, by_decoder, CONFIDENCE)),
        "deleted": sum(deleted),
        "wrong": sum(wrong),
        "auc_deleted": area(scores, deleted),
        "auc_deleted_logprob": area(unsure, deleted),
        "auc_wrong": area(scores, wrong),
        "auc_wrong_logprob": area(unsure, wrong),
        "sound": len(sound),
    }
    for name, spoil in (("cut", without_middle), ("loop", with_loop)):
        changed = [i for i in sound if spoil(texts[i]) != texts[i]]
        spoiled = scores_of(
            [read[i] for i in changed], [spoil(texts[i]) for i in changed], tokenizer
        )
        intact = [scores[i] for i in sound]
        labels = [False] * len(intact) + [True] * len(spoiled)
        row[f"auc_{name}"] = area([*intact, *spoiled], labels)
    return row


def scores_of(read: Sequence[Read], texts: Sequence[str], tokenizer: Tokenizer) -> list[float]:
    """Give what each text's likelihood lacks of the best path, nats by token of that path."""
    found: list[float] = []
    for one, text in zip(read, texts, strict=True):
        tokens = max(1, len(tokenizer.encode(one.text)))
        best = float(one.log_probs_TV.max(-1).values.sum())
        found.append((best - log_likelihood(one.log_probs_TV, tokenizer.encode(text))) / tokens)
    return found


def log_likelihood(log_probs_TV: Tensor, tokens: Sequence[int]) -> float:
    """Give log p(tokens | audio) over all paths; minus infinity where they do not fit."""
    if not tokens:
        return float(log_probs_TV[:, BLANK].sum())
    loss_B = F.ctc_loss(
        log_probs_TV.unsqueeze(1),
        torch.tensor([tokens]),
        torch.tensor([len(log_probs_TV)]),
        torch.tensor([len(tokens)]),
        blank=BLANK,
        reduction="none",
    )
    return -float(loss_B)


def area(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Give how often a labelled one scores above another, ties half; None without both kinds."""
    marked = np.array([s for s, label in zip(scores, labels, strict=True) if label])
    others = np.array([s for s, label in zip(scores, labels, strict=True) if not label])
    if not len(marked) or not len(others):
        return None
    above = marked[:, None] > others
    return float((above + 0.5 * (marked[:, None] == others)).mean())


def without_middle(text: str) -> str:
    """Take a third of the words out of the middle, of three words or more."""
    words = text.split()
    third = len(words) // 3
    return " ".join(words[:third] + words[2 * third :]) if third else text


def with_loop(text: str) -> str:
    """Say the last three words thrice."""
    return " ".join([text, *text.split()[-LOOPED:], *text.split()[-LOOPED:]])


def delays_s(read: Sequence[Read], ends: Sequence[WindowTranscript]) -> Mapping[str, float]:
    """Give median and 90th percentile from a word's end to its last letter, where both heard it."""
    late = [
        spelled.end_s - said.end_s
        for one, other in zip(read, ends, strict=True)
        for spelled, said in _both(one.words, other.words)
    ]
    if not late:
        return {}
    return {"median_s": statistics.median(late), "p90_s": float(np.quantile(late, 0.9))}


def _both(
    spelled: Sequence[DecodedWord], said: Sequence[DecodedWord]
) -> Iterator[tuple[DecodedWord, DecodedWord]]:
    """Pair words that stand at the same place, counted from the start, until the texts part."""
    for one, other in zip(spelled, said, strict=False):
        if normalise(one.text) != normalise(other.text):
            return
        yield one, other


def _written(
    model: Recogniser,
    recordings: Sequence[Recording],
    plan: DepthPlan,
    chunk_frames: int | None,
) -> list[WindowTranscript]:
    windows = [recording.samples for recording in recordings]
    return model.transcribe_windows(windows, plan, chunk_frames=chunk_frames)


def _batched(recordings: Sequence[Recording]) -> Iterator[Sequence[Recording]]:
    for start in range(0, len(recordings), BATCH):
        yield recordings[start : start + BATCH]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--head", type=Path, action="append", required=True)
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--nth", type=int, default=1, help="every n-th utterance alone")
    parser.add_argument("--plan", action="append", required=True)
    parser.add_argument("--chunk-frames", type=int, action="append", help="0: full context")
    options = parser.parse_args()
    options.chunk_frames = options.chunk_frames or [0, 24]
    return options


if __name__ == "__main__":
    main()
