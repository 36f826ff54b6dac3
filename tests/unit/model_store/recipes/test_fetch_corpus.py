"""Corpora through torchaudio's data sets, which are stood in for: its wheels do not run beside every torch."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import model_store
from model_store.errors import RunConfigError
from model_store.recipes.fetch_corpus import fetch_librispeech, fetch_tedlium
from model_store.training.manifest import read_manifest

FULL_SCALE = Path(model_store.__file__).parent / "recipes" / "runs" / "full" / "README.md"


def named_on_the_page(manifest: Path, data: Path) -> bool:
    patterns = re.findall(r"DATA/(\S+manifest\.tsv)", FULL_SCALE.read_text(encoding="utf-8"))
    return any(manifest in data.glob(pattern) for pattern in patterns)


def data_sets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("torchaudio.datasets")
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    monkeypatch.setitem(sys.modules, "torchaudio.datasets", module)
    return module


def test_a_split_of_librispeech_gets_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(root: Path, *, url: str, download: bool) -> None:
        assert download
        chapter = root / "LibriSpeech" / url / "7" / "8"
        chapter.mkdir(parents=True)
        soundfile.write(chapter / "7-8-0000.flac", np.zeros(8_000), 16_000)
        (chapter / "7-8.trans.txt").write_text("7-8-0000 IN TIME\n")

    data_sets(monkeypatch).LIBRISPEECH = fetch  # type: ignore[attr-defined]

    manifest = fetch_librispeech("test-clean", tmp_path)

    (item,) = read_manifest(manifest)
    assert (item.transcript, item.seconds, item.id) == ("IN TIME", 0.5, "test-clean/7-8-0000")
    assert named_on_the_page(manifest, tmp_path)


def test_segments_of_tedlium_that_are_scored_are_cut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = torch.linspace(-0.5, 0.5, 16_000)[None]
    label = "<o,f0,male>"  # of the talk, not of the segment
    segments = [
        (talk, 16_000, "so <unk> it 's here\n", "A/Talk", "S1", label),
        (talk, 16_000, "ignore_time_segment_in_scoring\n", "A/Talk", "S1", label),
        (talk[:, :8_000], 16_000, "and gone\n", "A/Talk", "S1", label),
    ]

    def fetch(root: Path, *, release: str, subset: str, download: bool) -> list[tuple[object, ...]]:
        assert (release, subset, download) == ("release3", "test", True)
        return list(segments)

    data_sets(monkeypatch).TEDLIUM = fetch  # type: ignore[attr-defined]

    manifest = fetch_tedlium("test", tmp_path)

    items = read_manifest(manifest)
    assert named_on_the_page(manifest, tmp_path)
    assert [item.transcript for item in items] == ["so it's here", "and gone"]
    assert [item.seconds for item in items] == [1.0, 0.5]
    assert [soundfile.info(item.path).frames for item in items] == [16_000, 8_000]
    assert [item.path.name for item in items] == ["A_Talk-000000.flac", "A_Talk-000002.flac"]


def test_without_torchaudio_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, "torchaudio.datasets", raising=False)

    with pytest.raises(RunConfigError, match="papers"):
        fetch_librispeech("dev-clean", tmp_path)
