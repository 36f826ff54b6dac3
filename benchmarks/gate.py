"""What the speech gate and the cutting of windows cost in words, and what they keep out.

    OMP_NUM_THREADS=1 python -m benchmarks.gate --model NAME --speech MANIFEST --noise MANIFEST

The same held-out utterances straight into the model and through the whole path of a file (decode,
gate, windows), as they are and at a peak of -35 dBFS; then silence and noise, which must give no
word at all.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import SAMPLE_RATE_HZ, SileroGate, read_audio
from model_store.registry import Recogniser, load
from model_store.text.wer import normalised_word_errors, paired_ratio_interval, total
from model_store.training.manifest import read_manifest
from model_store.training.measure import Recording, held_out_recordings

Samples = npt.NDArray[np.float32]
QUIET_PEAK = 10 ** (-35 / 20)
NOISE_S = 60.0


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--noise", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model)
    rows: list[dict[str, object]] = []
    for manifest in options.speech:
        rows += speech_rows(model, manifest.parent.name, held_out_recordings(manifest))
    for name, samples in sounds(options.noise):
        text = model.transcribe(as_wav(samples), gate=SileroGate()).text
        rows.append(
            {"sound": name, "seconds": len(samples) / SAMPLE_RATE_HZ, "words": len(text.split())}
        )
    for row in rows:
        print(row)
    run = Run(
        benchmark="gate",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"model": options.model, "threads": 1},
        warm_up=0,
        repeats=1,
    )
    print(json.dumps(document(run, rows)))


def speech_rows(
    model: Recogniser, name: str, recordings: Sequence[Recording]
) -> Iterator[dict[str, object]]:
    """Compare the model alone with the whole path, at two levels."""
    full = model.catalogue.plans("ladder")[0]
    gate = SileroGate()
    alone = [
        normalised_word_errors(
            item.reference, model.transcribe_windows([item.samples], full, words=False)[0].text
        )
        for item in recordings
    ]
    for level, peak in (("as recorded", None), ("peak -35 dBFS", QUIET_PEAK)):
        errors = [
            normalised_word_errors(
                item.reference,
                model.transcribe(as_wav(at_peak(item.samples, peak)), gate=gate).text,
            )
            for item in recordings
        ]
        low, high = paired_ratio_interval(errors, alone)
        yield {
            "set": name,
            "level": level,
            "utterances": len(recordings),
            "wer_alone": total(alone).rate,
            "wer_whole_path": total(errors).rate,
            "ratio": total(errors).rate / max(1e-9, total(alone).rate),
            "ratio_low": low,
            "ratio_high": high,
        }


def sounds(noise: Path) -> Iterator[tuple[str, Samples]]:
    """Silence, noise at two levels, and what a manifest of noises holds."""
    draw = np.random.default_rng(0)
    length = round(NOISE_S * SAMPLE_RATE_HZ)
    yield "digital silence", np.zeros(length, np.float32)
    for name, level in (("white noise -60 dBFS", 1e-3), ("white noise -20 dBFS", 0.1)):
        yield name, (draw.standard_normal(length) * level).astype(np.float32)
    for item in read_manifest(noise):
        yield item.path.stem, read_audio(item.path)


def at_peak(samples: Samples, peak: float | None) -> Samples:
    """Scale to a peak; None leaves the samples as they are."""
    return samples if peak is None else samples * (peak / max(1e-9, float(np.abs(samples).max())))


def as_wav(samples: Samples) -> bytes:
    """The bytes of a float wav file."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")
    return file.getvalue()


if __name__ == "__main__":
    main()
