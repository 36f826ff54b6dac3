from pathlib import Path

import pytest

from benchmarks.errors import PeerFilesWrong, PeerUnknown
from benchmarks.peers.catalogue import PEERS, build
from benchmarks.peers.run import DEFAULT_PEERS


def test_an_unknown_peer_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PeerUnknown, match=r"expected one of \['faster-whisper-base'.*got 'nobody'"):
        build("nobody", tmp_path)


def test_a_peer_that_was_not_fetched_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(PeerFilesWrong, match=r"python -m benchmarks\.peers\.fetch"):
        build("moonshine-base-onnx", tmp_path)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_file_of_a_peer_has_a_digest_and_a_package_of_one_version(name: str) -> None:
    for file in PEERS[name].files:
        assert len(bytes.fromhex(file.sha256)) == 32
        for package, _ in file.parts:
            version = package.requirement.replace("@", "==").rpartition("==")[2]
            assert version in package.archive


def test_the_peers_measured_by_default_exist() -> None:
    assert set(DEFAULT_PEERS) <= set(PEERS)
