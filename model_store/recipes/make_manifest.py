"""Make a manifest of a LibriSpeech or TED-LIUM 3 folder, as they are unpacked.

    python -m model_store.recipes.make_manifest librispeech LibriSpeech/train-clean-100
    python -m model_store.recipes.make_manifest tedlium TEDLIUM_release-3/data --out segments

LibriSpeech's `manifest.tsv` is written into its folder. TED-LIUM's talks are cut into their
segments, as FLAC files under `--out`, with the manifest beside them.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import soundfile

from model_store.errors import RunConfigError
from model_store.training.manifest import Utterance, write_manifest

IGNORED = "ignore_time_segment_in_scoring"
STM_FIELDS = 6


def main() -> None:
    """Make a manifest from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("librispeech", "tedlium"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="where TED-LIUM's segments go")
    options = parser.parse_args()
    if options.kind == "librispeech":
        utterances, target = list(librispeech(options.folder)), options.folder
    else:
        target = options.out or options.folder / "segments"
        utterances = list(tedlium(options.folder, target))
    if not utterances:
        raise RunConfigError(f"expected {options.kind} in {options.folder.name!r}, got nothing")
    write_manifest(utterances, target / "manifest.tsv", options.folder.name)
    hours = sum(item.seconds for item in utterances) / 3600
    print(f"{len(utterances)} utterances, {hours:.2f} h")


def librispeech(folder: Path) -> Iterator[Utterance]:
    """Read `SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt` and the FLAC files beside each."""
    for transcripts in sorted(folder.glob("*/*/*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            path = transcripts.parent / f"{name}.flac"
            seconds = soundfile.info(path).duration
            yield Utterance(f"{folder.name}/{name}", path, seconds, name.split("-")[0], text)


def tedlium(folder: Path, target: Path) -> Iterator[Utterance]:
    """Read `stm/TALK.stm` and cut `sph/TALK.sph` into the segments that are scored."""
    target.mkdir(parents=True, exist_ok=True)
    for transcript in sorted(folder.glob("stm/*.stm")):
        talk = folder / "sph" / f"{transcript.stem}.sph"
        with soundfile.SoundFile(talk) as audio:
            for index, line in enumerate(transcript.read_text(encoding="utf-8").splitlines()):
                fields = line.split(maxsplit=STM_FIELDS)
                if len(fields) <= STM_FIELDS or fields[STM_FIELDS].strip() == IGNORED:
                    continue
                start_s, end_s = float(fields[3]), float(fields[4])
                path = target / f"{transcript.stem}-{index:04d}.flac"
                audio.seek(round(start_s * audio.samplerate))
                samples = audio.read(round((end_s - start_s) * audio.samplerate))
                soundfile.write(path, samples, audio.samplerate)
                text = re.sub(r"<[^>]*>|\(\d+\)", " ", fields[STM_FIELDS])
                words = re.sub(r" +'", "'", " ".join(text.split()))
                yield Utterance(path.stem, path, end_s - start_s, fields[2], words)


if __name__ == "__main__":
    main()
