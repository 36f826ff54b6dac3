"""Where rows go: part files that appear whole or not at all, and what a later run knows by them.

    DIR/_archive.json       how the rows were made; a run with another dial is refused
    DIR/part-000000.parquet the rows of some files, never changed again
    DIR/_first/             rows of a first pass that a second may replace; gone when all is done

A file is done when a part file names its path. A part is written under another name, brought to the
disk and then renamed, so that whatever ends the process leaves it whole or absent; what was in work
then is done again. A lock that ends with the process keeps a second run out.
"""

import fcntl
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from service.errors import ArchiveInvalid
from service.fleet.archive_rows import ArchiveRow
from service.scheduling.clock import Clock

RowFormat = Literal["parquet", "jsonl"]
ROW_FORMATS: tuple[str, ...] = get_args(RowFormat)
# Readers of a folder of Parquet pass over names that begin with `_` or a dot.
FIRST_PASS = "_first"
LEAST_PART_S = 3.0
PART_SHARE = 0.01
"""A part holds the rows of so much of the run's time, at least `LEAST_PART_S`: a run that is killed
loses no more, and a long one does not leave thousands of files."""

_DESCRIPTION = "_archive.json"
_LOCK = ".lock"
_UNFINISHED = ".unfinished"


@contextmanager
def open_archive(folder: Path, description: Mapping[str, object]) -> Generator[None]:
    """Keep a folder to oneself, and see that what is in it was made the same way.

    Args:
        folder: made where it is missing.
        description: of how rows are made; the same each time.

    Raises:
        ArchiveInvalid: it is no folder, another run is writing to it, or it holds rows that were
            made in another way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise ArchiveInvalid(f"expected a folder to write to at '{folder}', got none") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArchiveInvalid(
                f"expected nobody else to write to '{folder}', got another run"
            ) from error
        _expect_the_same(folder, description)
        yield


def _expect_the_same(folder: Path, description: Mapping[str, object]) -> None:
    path = folder / _DESCRIPTION
    if not path.exists():
        _write_whole(path, json.dumps(description, indent=2).encode() + b"\n")
        return
    try:
        found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchiveInvalid(f"expected JSON in '{path}', got something else") from error
    for name, wanted in description.items():
        if found.get(name) != wanted:
            raise ArchiveInvalid(
                f"expected {name} {found.get(name)!r}, as the rows in '{folder}' were made with, "
                f"got {wanted!r}; take another folder"
            )


@dataclass(slots=True)
class RowWriter:
    """Writes rows to part files of a folder, each path once.

    Args:
        folder: made where it is missing; what an interrupted run left unfinished is removed.
        form: of the part files.
        clock: says when a part has waited long enough.
        known: paths that have their rows.
        spent_flops: by the rows that earlier runs wrote.
    """

    folder: Path
    form: RowFormat
    clock: Clock
    known: set[str] = field(default_factory=set[str])
    spent_flops: int = 0
    _rows: list[ArchiveRow] = field(default_factory=list[ArchiveRow])
    _next: int = 0
    _started_s: float = 0.0
    _part_began_s: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f".*{_UNFINISHED}"):
            left.unlink()
        parts = _parts(self.folder, self.form)
        self._next = 1 + int(parts[-1].stem.removeprefix("part-")) if parts else 0
        for row in read_rows(self.folder, self.form):
            self.known.add(row.path)
            self.spent_flops += row.spent_flops
        self._started_s = self._part_began_s = self.clock()

    def add(self, row: ArchiveRow) -> None:
        """Take a row; it is on the disk when its part is full, or after `close`."""
        if row.path in self.known:
            return
        if not self._rows:
            self._part_began_s = self.clock()
        self.known.add(row.path)
        self._rows.append(row)
        now_s = self.clock()
        if now_s - self._part_began_s >= max(LEAST_PART_S, PART_SHARE * (now_s - self._started_s)):
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            path = self.folder / f"part-{self._next:06d}.{self.form}"
            _write_whole(path, _encoded(self._rows, self.form))
            self._next += 1
            self._rows = []


def read_rows(folder: Path, form: RowFormat) -> Iterator[ArchiveRow]:
    """Read all rows of a folder's part files; none where there is no folder."""
    for path in _parts(folder, form):
        for content in _decoded(path, form):
            yield ArchiveRow.of_content(content)


def remove_first_pass(folder: Path, form: RowFormat) -> None:
    """Remove the rows of a first pass, once the archive's own rows are all written."""
    for path in _parts(folder / FIRST_PASS, form):
        path.unlink()
    if (folder / FIRST_PASS).exists():
        (folder / FIRST_PASS).rmdir()


def _parts(folder: Path, form: RowFormat) -> list[Path]:
    return sorted(folder.glob(f"part-*.{form}"))


def _write_whole(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name is a matter of the folder's
    finally:
        os.close(folder)


def _encoded(rows: Sequence[ArchiveRow], form: RowFormat) -> bytes:
    contents = [row.content() for row in rows]
    if form == "jsonl":
        lines = [json.dumps(content, ensure_ascii=False) for content in contents]
        return "".join(f"{line}\n" for line in lines).encode()
    # By name: they ship no types, and only archives need them.
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(contents, schema=_schema(arrow)), sink)
    return sink.getvalue().to_pybytes()


def _decoded(path: Path, form: RowFormat) -> Iterator[dict[str, Any]]:
    if form == "jsonl":
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    parquet = import_module("pyarrow.parquet")
    yield from parquet.ParquetFile(path).read().to_pylist()


def _schema(arrow: Any) -> Any:  # noqa: ANN401 pyarrow ships no types
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    word = arrow.struct(
        [("text", text), ("start_s", number), ("end_s", number), ("confidence", number)]
    )
    return arrow.schema(
        [
            ("path", text),
            ("text", text),
            ("words", arrow.list_(word)),
            ("confidence", number),
            ("model", text),
            ("policy", text),
            ("plan", text),
            ("layers", number),
            ("layers_total", whole),
            ("drop", number),
            ("flops", whole),
            ("encoder_flops", whole),
            ("full_flops", whole),
            ("spent_flops", whole),
            ("audio_s", number),
            ("error_code", text),
            ("error_message", text),
        ]
    )
