r"""Fetch a split of LibriSpeech or TED-LIUM 3 with torchaudio's data sets, and write its manifest.

    python -m model_store.recipes.fetch_corpus librispeech --split train-clean-100 --out DATA
    python -m model_store.recipes.fetch_corpus tedlium --split train --out DATA

What is there already is not fetched again. torchaudio has to match the torch beside it: the extra
`papers`, in an environment of its own. Folders that were unpacked by hand: `make_manifest`.
"""

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import soundfile

from model_store.errors import RunConfigError
from model_store.recipes.make_manifest import IGNORED, librispeech
from model_store.training.manifest import Utterance, write_manifest

UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
"""Characters that a file's name does without."""


def main() -> None:
    """Fetch from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", choices=("librispeech", "tedlium"))
    parser.add_argument("--split", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    fetch = {"librispeech": fetch_librispeech, "tedlium": fetch_tedlium}[options.corpus]
    manifest = fetch(options.split, options.out)
    print(manifest)


def fetch_librispeech(split: str, out: Path) -> Path:
    """Fetch one split and give its manifest, which lies in `out/LibriSpeech/SPLIT`.

    Raises:
        RunConfigError: torchaudio cannot be imported.
    """
    data = _torchaudio_data_sets()
    out.mkdir(parents=True, exist_ok=True)
    data.LIBRISPEECH(out, url=split, download=True)
    folder = out / "LibriSpeech" / split
    return _written(librispeech(folder), folder, split)


def fetch_tedlium(split: str, out: Path) -> Path:
    """Fetch release 3, cut one split into its scored segments and give their manifest.

    Raises:
        RunConfigError: torchaudio cannot be imported.
    """
    data = _torchaudio_data_sets()
    out.mkdir(parents=True, exist_ok=True)
    segments = data.TEDLIUM(out, release="release3", subset=split, download=True)
    folder = out / f"tedlium-{split}"
    folder.mkdir(exist_ok=True)

    def cut() -> Iterator[Utterance]:
        # The last field is the STM label, the same for a whole talk: a segment's place names it.
        for place, (waveform_CS, rate_hz, transcript, talk, speaker, _) in enumerate(segments):
            if transcript.strip() == IGNORED:
                continue
            path = folder / f"{UNSAFE.sub('_', str(talk))}-{place:06d}.flac"
            soundfile.write(path, waveform_CS[0].numpy(), rate_hz)
            text = " ".join(transcript.replace("<unk>", " ").split()).replace(" '", "'")
            seconds = waveform_CS.shape[1] / rate_hz
            yield Utterance(f"{folder.name}/{path.stem}", path, seconds, str(speaker), text)

    return _written(cut(), folder, split)


def _written(utterances: Iterator[Utterance], folder: Path, split: str) -> Path:
    manifest = folder / "manifest.tsv"
    write_manifest(utterances, manifest, split)
    return manifest


def _torchaudio_data_sets() -> ModuleType:
    try:
        return importlib.import_module("torchaudio.datasets")
    except (ImportError, OSError) as error:  # OSError: built for another torch
        raise RunConfigError(
            "expected torchaudio (the extra `papers`) to fetch a corpus, got none that works here"
        ) from error


if __name__ == "__main__":
    main()
