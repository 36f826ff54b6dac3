"""A corpus is a manifest: audio, seconds, speaker, transcript or none; held-out utterances stay out.

    path <TAB> seconds <TAB> speaker <TAB> split <TAB> transcript

Paths are relative to the manifest. An utterance's id is `<folder of the manifest>/<file stem>`.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from model_store.errors import HeldOutRefused, RunConfigError

COLUMNS = ("path", "seconds", "speaker", "split", "transcript")
HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording; `transcript` is empty when nobody wrote one down."""

    id: str
    path: Path
    seconds: float
    speaker: str
    transcript: str


def read_manifest(manifest: Path) -> list[Utterance]:
    """Read every utterance of a manifest.

    Raises:
        RunConfigError: the file is missing or has other columns.
    """
    if not manifest.is_file():
        raise RunConfigError(f"expected a manifest, got no file {manifest.name!r}")
    with manifest.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise RunConfigError(f"expected columns {COLUMNS}, got {rows.fieldnames}")
        return [
            Utterance(
                id=f"{manifest.parent.name}/{Path(row['path']).stem}",
                path=manifest.parent / row["path"],
                seconds=float(row["seconds"]),
                speaker=row["speaker"],
                transcript=row["transcript"],
            )
            for row in rows
        ]


def write_manifest(utterances: Iterable[Utterance], manifest: Path, split: str) -> None:
    """Write a manifest whose paths are relative to its own folder where they can be."""
    with manifest.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        rows.writerow(COLUMNS)
        for item in utterances:
            below = item.path.is_relative_to(manifest.parent)
            path = item.path.relative_to(manifest.parent) if below else item.path
            rows.writerow([path, f"{item.seconds:.3f}", item.speaker, split, item.transcript])


def held_out_ids(name: str | None = None) -> frozenset[str]:
    """Ids that are kept for evaluation: of one committed list, or of all."""
    folder = resources.files("model_store.training") / HELD_OUT
    return frozenset(
        line
        for entry in folder.iterdir()
        if name is None or entry.name == f"{name}.txt"
        for line in entry.read_text(encoding="utf-8").split()
    )


def training_utterances(manifest: Path, *, leave_out: bool) -> list[Utterance]:
    """Read a manifest for training.

    Args:
        manifest: the corpus.
        leave_out: drop the held-out utterances; without it, one of them is an error.

    Raises:
        HeldOutRefused: the corpus holds one, and `leave_out` was not asked for.
    """
    utterances = read_manifest(manifest)
    if not leave_out:
        refuse_held_out((item.id for item in utterances), manifest.parent.name)
    held = held_out_ids()
    return [item for item in utterances if item.id not in held]


def refuse_held_out(ids: Iterable[str], corpus: str) -> None:
    """Raise HeldOutRefused when one of the ids is kept for evaluation."""
    held = held_out_ids()
    found = [one for one in ids if one in held]
    if found:
        raise HeldOutRefused(
            f"expected no held-out utterance in {corpus!r}, got {len(found)}, first {found[0]!r}"
        )
