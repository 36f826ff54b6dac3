"""The cache of built graphs: its key, what is in it, and what happens to damaged ones."""

import json
import shutil
from pathlib import Path

import pytest

from model_store.errors import CheckpointError
from service.engine.onnx.build import MANIFEST, build_key, ensure_built, is_whole
from service.engine.onnx.checkpoint import ACTIVATIONS, open_checkpoint
from tests.onnx_kit import write_checkpoint


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "moonshine")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "tiny"))


@pytest.fixture
def built(folder: Path, tmp_path: Path) -> Path:
    return ensure_built(open_checkpoint(str(folder)), tmp_path / "cache", "int8")


def test_what_was_built_is_whole_and_lies_alone(built: Path) -> None:
    assert is_whole(built)
    assert list(built.parent.iterdir()) == [built]


def test_what_is_there_is_not_built_again(folder: Path, built: Path) -> None:
    before = (built / MANIFEST).stat().st_mtime_ns

    again = ensure_built(open_checkpoint(str(folder)), built.parent, "int8")

    assert (again, (built / MANIFEST).stat().st_mtime_ns) == (built, before)


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "manifest", "emptied"])
def test_what_is_damaged_is_built_anew(folder: Path, built: Path, damage: str) -> None:
    graph = built / "decoder_step.onnx"
    content = graph.read_bytes()
    if damage == "cut":
        graph.write_bytes(content[:100])
    elif damage == "changed":
        graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "removed":
        graph.unlink()
    elif damage == "manifest":
        (built / MANIFEST).write_text("{", encoding="utf-8")
    else:
        (built / MANIFEST).write_text('{"files": {}}', encoding="utf-8")
    assert not is_whole(built)

    again = ensure_built(open_checkpoint(str(folder)), built.parent, "int8")

    assert again == built
    assert is_whole(again)
    assert graph.read_bytes() == content


def test_the_key_follows_weights_heads_activations_and_numerics(folder: Path) -> None:
    def key() -> str:
        return build_key(open_checkpoint(str(folder)), "int8")

    first = key()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = {**config, "sha256": "0" * 64}
    (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    second = key()
    (folder / "decoding.json").write_text('{"alignment_heads": {"1": [3]}}', encoding="utf-8")
    third = key()
    (folder / ACTIVATIONS).write_bytes(b"measured")
    fourth = key()
    reduced = build_key(open_checkpoint(str(folder)), "int8-reduced")

    assert len({first, second, third, fourth, reduced}) == 5


def test_other_weights_than_the_checkpoint_names_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")

    with pytest.raises(CheckpointError, match="SHA-256"):
        ensure_built(open_checkpoint(str(folder)), tmp_path / "cache", "int8")

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")

    with pytest.raises(CheckpointError, match="expected a cache that can be written"):
        ensure_built(open_checkpoint(str(folder)), tmp_path / "cache", "int8")
