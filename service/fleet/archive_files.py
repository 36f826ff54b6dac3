"""Which files an archive job transcribes: folders, globs and manifests, on any file system.

    talks/  'talks/**/*.flac'  corpus/manifest.tsv  s3://bucket/2024/  file:///mnt/calls/one.wav

A place with a scheme is opened by pyarrow, on whichever machine the work lands; one without is a
path that all machines have to see. A manifest is a table of tabs with a column `path`, relative to
the manifest, and maybe `seconds`, as `model_store` writes it; other columns are passed over.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from service.errors import ArchiveInvalid, FileUnreadable

AUDIO_SUFFIXES = frozenset(
    {".aac", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"}
)
"""What is taken out of a folder; a file that is named, or that a glob finds, is taken as it is."""
MANIFEST_SUFFIX = ".tsv"

_MAGIC = re.compile(r"[*?\[]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_QUERY = re.compile(r"\?[a-z_]+=.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file to transcribe.

    Args:
        path: what it is called in rows and messages; never holds a key or a query.
        root: URI of its file system, empty for this machine's.
        inside: its path in there.
        size_bytes: for splitting and for telling how much is left.
    """

    path: str
    root: str
    inside: str
    size_bytes: int


def list_files(places: Sequence[str]) -> tuple[ArchiveFile, ...]:
    """Find the files at all places, each once, in the order of their paths.

    Raises:
        ArchiveInvalid: a place does not exist, holds nothing to transcribe, or is on a file system
            that nobody knows.
    """
    systems = FileSystems()
    found: dict[str, ArchiveFile] = {}
    for text in places:
        files = list(_files_at(_Place.of(text, systems)))
        if not files:
            raise ArchiveInvalid(f"expected audio files at {_shown(text)!r}, got none")
        found |= {file.path: file for file in files}
    return tuple(found[path] for path in sorted(found))


class FileSystems:
    """The file systems that were opened; finding one may take a question to its servers."""

    def __init__(self) -> None:
        self._opened: dict[str, Any] = {}  # Any: pyarrow ships no types

    def of(self, root: str) -> Any:  # noqa: ANN401 pyarrow ships no types
        """Give the file system of a URI, this machine's where it is empty.

        Raises:
            ArchiveInvalid: nobody knows it.
        """
        if root not in self._opened:
            filesystems = import_module("pyarrow.fs")  # only archives need it; it may be absent
            try:
                self._opened[root] = (
                    filesystems.FileSystem.from_uri(root)[0]
                    if root
                    else filesystems.LocalFileSystem()
                )
            except (OSError, ValueError, KeyError) as error:
                raise ArchiveInvalid(
                    f"expected a file system that pyarrow knows, got {_shown(root)!r}"
                ) from error
        return self._opened[root]

    def open(self, file: ArchiveFile) -> BinaryIO:
        """Open a file: seekable, and read no further than it is asked to.

        Raises:
            FileUnreadable: it is gone, or may not be read.
        """
        try:
            opened: BinaryIO = self.of(file.root).open_input_file(file.inside)
        except (OSError, ArchiveInvalid) as error:
            raise FileUnreadable(f"expected a readable file at {file.path!r}, got none") from error
        return opened


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something lies: a file system, how it is written, and a path in it."""

    system: Any  # pyarrow ships no types
    root: str
    scheme: str
    inside: str

    @classmethod
    def of(cls, text: str, systems: FileSystems) -> "_Place":
        scheme = _SCHEME.match(text)
        if scheme is None:
            return cls(systems.of(""), "", "", str(Path(text).absolute()))
        address, query = _without_query(text[scheme.end() :])
        if scheme.group(1).lower() == "file":
            return cls(systems.of(""), "", "", unquote(address))
        authority, _, _ = address.partition("/")
        root = f"{scheme.group()}{authority}/{query}"
        inside = unquote(address.rpartition("@")[2] if "@" in authority else address)
        return cls(systems.of(root), root, scheme.group(), inside)

    def named(self, inside: str) -> str:
        return f"{self.scheme}{inside}"

    def file(self, inside: str, size_bytes: int | None) -> ArchiveFile:
        return ArchiveFile(self.named(inside), self.root, inside, size_bytes or 0)


def _without_query(rest: str) -> tuple[str, str]:
    # `?a=b` begins a query; any other question mark stands for a character.
    found = _QUERY.search(rest)
    return (rest, "") if found is None else (rest[: found.start()], rest[found.start() :])


def _shown(text: str) -> str:
    """Give a place without keys and query, for messages."""
    return _QUERY.sub("", re.sub(r"://[^/@]*@", "://", text))


def _files_at(place: _Place) -> Iterator[ArchiveFile]:
    place = replace(place, inside=place.inside.rstrip("/") or "/")
    (info,) = _infos(place, [place.inside])
    if info.is_file and place.inside.endswith(MANIFEST_SUFFIX):
        yield from _manifest(place)
    elif info.is_file:
        yield place.file(info.path, info.size)
    elif _MAGIC.search(place.inside):
        yield from _globbed(place)
    elif info.type.name == "Directory":
        for below in _below(place, place.inside):
            if Path(below.path).suffix.lower() in AUDIO_SUFFIXES:
                yield place.file(below.path, below.size)
    else:
        raise ArchiveInvalid(f"expected something at {place.named(place.inside)!r}, got nothing")


def _globbed(place: _Place) -> Iterator[ArchiveFile]:
    translate = import_module("fsspec.utils").glob_translate  # Python's own comes with 3.13
    wanted = re.compile(translate(place.inside))
    folder = _MAGIC.split(place.inside)[0].rpartition("/")[0]
    for info in _below(place, folder or "/"):
        if wanted.match(info.path):
            yield place.file(info.path, info.size)


def _manifest(place: _Place) -> Iterator[ArchiveFile]:
    with place.system.open_input_stream(place.inside) as stream:
        text = stream.read().decode("utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if "path" not in (rows.fieldnames or ()):
        raise ArchiveInvalid(
            f"expected a column 'path' in {place.named(place.inside)!r}, got {rows.fieldnames}"
        )
    folder = place.inside.rpartition("/")[0]
    paths = [row["path"] for row in rows]
    inside = [path if path.startswith("/") else f"{folder}/{path}" for path in paths]
    for path, info in zip(inside, _infos(place, inside), strict=True):
        # One that is gone becomes an error row, as everything that goes wrong with a file does.
        yield place.file(path, info.size)


def _infos(place: _Place, paths: Sequence[str]) -> Sequence[Any]:
    try:
        return place.system.get_file_info(list(paths))
    except OSError as error:
        raise ArchiveInvalid(
            f"expected to reach {place.named(place.inside)!r}, got no answer"
        ) from error


def _below(place: _Place, folder: str) -> Iterable[Any]:
    selector: Any = import_module("pyarrow.fs").FileSelector
    try:
        infos = place.system.get_file_info(selector(folder, recursive=True))
    except OSError as error:
        raise ArchiveInvalid(f"expected a folder at {place.named(folder)!r}, got none") from error
    return (info for info in infos if info.is_file)
