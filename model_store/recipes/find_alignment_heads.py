"""Find the cross-attention heads that follow the audio, on single words laid at known times.

Clips of one word each (a manifest) are trimmed and laid one after another with pauses, so every
word's end is known; heads are ranked by how near their own path comes to it, then added as long
as the joint path comes nearer.

    python -m model_store.recipes.find_alignment_heads --model DIR --words MANIFEST
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.checkpoint import Checkpoint, load_checkpoint
from model_store.decoding.alignment import token_spans
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.tokens import Tokenizer
from model_store.training.manifest import read_manifest

Array = npt.NDArray[np.float32]

WORDS_PER_UTTERANCE = 6
MOST_HEADS = 10


@dataclass(frozen=True, slots=True)
class KnownWords:
    """One made utterance: its samples, its text, and each word's end."""

    samples: Array
    text: str
    end_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Attended:
    """Cross-attention of all heads for one utterance, and where its words really end."""

    weights_HUP: Array
    last_token: tuple[int, ...]
    end_s: tuple[float, ...]


def main() -> None:
    """Find the heads and write them to the checkpoint's `decoding.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--words", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.model)
    tokenizer = Tokenizer.from_file(options.model / "tokenizer.json")
    utterances = lay_words(options.words, np.random.default_rng(0))
    attended = [attend(checkpoint, tokenizer, utterance) for utterance in utterances]
    heads_per_layer = checkpoint.model.config.num_heads
    frame_s = checkpoint.model.memory_frame_s
    chosen, offset_s, error_s = choose(attended, frame_s)
    by_layer: dict[str, list[int]] = {}
    for head in chosen:
        by_layer.setdefault(str(head // heads_per_layer), []).append(head % heads_per_layer)
    found = {
        "alignment_heads": by_layer,
        "end_offset_s": round(offset_s, 4),
        "mean_end_error_s": round(error_s, 4),
    }
    print(f"heads by layer {by_layer}; word ends off by {error_s * 1000:.0f} ms on average")
    path = options.model / "decoding.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")


def lay_words(manifest: Path, draw: np.random.Generator) -> list[KnownWords]:
    """Put single-word clips one after another, 0.15 to 0.6 s of silence between them."""
    clips = read_manifest(manifest)
    made: list[KnownWords] = []
    for start in range(0, len(clips) - WORDS_PER_UTTERANCE + 1, WORDS_PER_UTTERANCE):
        parts = [np.zeros(int(0.3 * SAMPLE_RATE_HZ), np.float32)]
        ends: list[float] = []
        chosen = clips[start : start + WORDS_PER_UTTERANCE]
        for clip in chosen:
            parts.append(_trimmed(read_audio(clip.path)))
            ends.append(sum(map(len, parts)) / SAMPLE_RATE_HZ)
            parts.append(np.zeros(int(draw.uniform(0.15, 0.6) * SAMPLE_RATE_HZ), np.float32))
        text = " ".join(clip.transcript.strip(".,!? ") for clip in chosen)
        made.append(KnownWords(np.concatenate(parts), text, tuple(ends)))
    return made


def attend(checkpoint: Checkpoint, tokenizer: Tokenizer, known: KnownWords) -> Attended:
    """Force the decoder along the known text and keep every head's weights."""
    model = checkpoint.model
    token_U = tokenizer.encode(known.text)
    words = tokenizer.decode_words(token_U)
    full = DepthSchedule.constant(DepthPlan.full(model.num_layers))
    with torch.inference_mode():
        encoded = model.encode(
            torch.from_numpy(known.samples)[None], torch.tensor([len(known.samples)]), full
        )
        input_BU = torch.tensor([[*model.prompt, *token_U]])
        cache = model.decoder.begin(model.decoder.pool(encoded), input_BU.shape[1])
        config = model.config
        cache.watched = {
            layer: list(range(config.num_heads)) for layer in range(config.decoder_layers)
        }
        model.decoder(input_BU, cache)
    weights_HUP = torch.cat([w[0] for _, w in sorted(cache.weights_BHUP.items())]).numpy()
    # Each row predicts the token after it; states past the audio are silence (Whisper's).
    rows = math.ceil(len(known.samples) / SAMPLE_RATE_HZ / model.memory_frame_s)
    weights_HUP = weights_HUP[:, len(model.prompt) - 1 :, :rows]
    return Attended(weights_HUP, tuple(word.end_token - 1 for word in words), known.end_s)


def choose(attended: list[Attended], frame_s: float) -> tuple[list[int], float, float]:
    """Rank heads one by one, then add them while the joint path improves.

    Returns:
        the heads, the mean offset of the found ends (s), and the mean distance after removing it.
    """
    num_heads = attended[0].weights_HUP.shape[0]
    ranked = sorted(range(num_heads), key=lambda head: _error(attended, [head], frame_s)[1])
    chosen = ranked[:1]
    best = _error(attended, chosen, frame_s)
    for head in ranked[1 : 2 * MOST_HEADS]:
        trial = _error(attended, [*chosen, head], frame_s)
        if trial[1] < best[1] and len(chosen) < MOST_HEADS:
            chosen, best = [*chosen, head], trial
    return chosen, *best


def _error(attended: list[Attended], heads: list[int], frame_s: float) -> tuple[float, float]:
    differences: list[float] = []
    for item in attended:
        if len(item.last_token) != len(item.end_s):
            continue
        spans = token_spans(item.weights_HUP[heads])
        differences += [
            spans[token][1] * frame_s - end_s
            for token, end_s in zip(item.last_token, item.end_s, strict=True)
        ]
    offset_s = float(np.median(differences))
    return offset_s, float(np.mean(np.abs(np.array(differences) - offset_s)))


def _trimmed(samples: Array, floor: float = 0.02) -> Array:
    loud = np.flatnonzero(np.abs(samples) > floor * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


if __name__ == "__main__":
    main()
