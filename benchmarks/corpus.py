"""Utterances to measure on: a manifest's rows, restricted to a list of ids."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from benchmarks.errors import CorpusInvalid

SAMPLE_RATE_HZ = 16_000
COLUMNS = ("path", "seconds", "speaker", "split", "transcript")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest; `id` is `<the manifest's folder>/<file stem>`."""

    id: str
    path: Path
    audio_s: float
    speaker: str
    reference: str

    @property
    def set_name(self) -> str:
        """The manifest's folder: results are summed per set."""
        return self.id.partition("/")[0]


def read_manifest(path: Path) -> list[Utterance]:
    """Read a tab-separated manifest; audio paths are relative to its folder.

    Raises:
        CorpusInvalid: A column is missing, or a length is no number.
    """
    set_name = path.resolve().parent.name
    with path.open(encoding="utf-8", newline="") as lines:
        # Transcripts hold bare quotation marks, so no character quotes.
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise CorpusInvalid(f"expected columns {COLUMNS} in '{path}', got none of {missing}")
        return [_utterance(row, set_name, path) for row in rows]


def read_ids(paths: Iterable[Path]) -> set[str]:
    """Read lists of ids, one a line; empty lines and lines that start with # say nothing."""
    lines = (line.strip() for path in paths for line in path.read_text("utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def restrict(utterances: Sequence[Utterance], ids: set[str]) -> list[Utterance]:
    """Keep the utterances named in `ids`, in the manifest's order.

    Ids of sets that no manifest was given for are left alone: one list may name many sets.

    Raises:
        CorpusInvalid: An id of a set at hand has no row, or nothing is left.
    """
    sets = {utterance.set_name for utterance in utterances}
    known = {utterance.id for utterance in utterances}
    lost = sorted(id_ for id_ in ids - known if id_.partition("/")[0] in sets)
    if lost:
        raise CorpusInvalid(f"expected a row for every id, got none for {len(lost)}: '{lost[0]}'")
    kept = [utterance for utterance in utterances if utterance.id in ids]
    if not kept:
        raise CorpusInvalid(f"expected ids of {sorted(sets)}, got none among {len(ids)}")
    return kept


def read_samples(utterance: Utterance) -> npt.NDArray[np.float32]:
    """Decode an utterance to mono float32 at 16 kHz."""
    channels, rate_hz = soundfile.read(utterance.path, dtype="float32", always_2d=True)
    samples = np.ascontiguousarray(channels.mean(axis=1), dtype=np.float32)
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    return samples


def _utterance(row: dict[str, str], set_name: str, manifest: Path) -> Utterance:
    try:
        audio_s = float(row["seconds"])
    except ValueError as error:
        message = f"expected seconds in '{manifest}', got '{row['seconds']}' for '{row['path']}'"
        raise CorpusInvalid(message) from error
    return Utterance(
        id=f"{set_name}/{Path(row['path']).stem}",
        path=manifest.parent / row["path"],
        audio_s=audio_s,
        speaker=row["speaker"],
        reference=row["transcript"],
    )
