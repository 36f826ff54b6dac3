"""Corpora through torchaudio's data sets, which are stood in for: its wheels do not run beside every torch."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from model_store.errors import RunConfigError
from model_store.recipes.fetch_corpus import fetch_librispeech, fetch_tedlium
from model_store.training.manifest import read_manifest


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

    manifest = fetch_librispeech("dev-clean", tmp_path)

    (item,) = read_manifest(manifest)
    assert (item.transcript, item.seconds, item.id) == ("IN TIME", 0.5, "dev-clean/7-8-0000")


def test_segments_of_tedlium_that_are_scored_are_cut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = torch.linspace(-0.5, 0.5, 16_000)[None]
    segments = [
        (talk, 16_000, "so <unk> it 's here\n", "Talk", "S1", 0),
        (talk, 16_000, "ignore_time_segment_in_scoring\n", "Talk", "S1", 1),
    ]

    def fetch(root: Path, *, release: str, subset: str, download: bool) -> list[tuple[object, ...]]:
        assert (release, subset, download) == ("release3", "test", True)
        return list(segments)

    data_sets(monkeypatch).TEDLIUM = fetch  # type: ignore[attr-defined]

    (item,) = read_manifest(fetch_tedlium("test", tmp_path))

    assert item.transcript == "so it's here"
    assert item.seconds == 1.0
    assert soundfile.info(item.path).frames == 16_000


def test_without_torchaudio_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, "torchaudio.datasets", raising=False)

    with pytest.raises(RunConfigError, match="papers"):
        fetch_librispeech("dev-clean", tmp_path)
