from pathlib import Path

import pytest

from model_store.errors import HeldOutRefused, RunConfigError
from model_store.training.manifest import (
    COLUMNS,
    Utterance,
    held_out_ids,
    read_manifest,
    refuse_held_out,
    training_utterances,
    write_manifest,
)

HELD = sorted(held_out_ids("kathleen"))[0]


def made(folder: Path, *stems: str) -> Path:
    folder.mkdir()
    rows = ["\t".join(COLUMNS)]
    rows += [f"audio/{stem}.wav\t1.500\tann\ttrain\tthe {stem}" for stem in stems]
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def test_utterances_are_named_by_corpus_and_file(tmp_path: Path) -> None:
    manifest = made(tmp_path / "corpus", "one", "two")

    first, second = read_manifest(manifest)

    assert first == Utterance(
        "corpus/one", tmp_path / "corpus" / "audio" / "one.wav", 1.5, "ann", "the one"
    )
    assert second.id == "corpus/two"


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    utterances = read_manifest(made(folder, "one", "two"))
    elsewhere = Utterance("corpus/three", tmp_path / "other" / "three.wav", 2.0, "bob", 'a "b" c')

    write_manifest([*utterances, elsewhere], folder / "again.tsv", "train")

    assert read_manifest(folder / "again.tsv") == [*utterances, elsewhere]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("path\ttext\n", encoding="utf-8")

    with pytest.raises(
        RunConfigError, match=r"expected columns \('path', .*got \['path', 'text'\]"
    ):
        read_manifest(manifest)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match=r"expected a manifest, got no file 'none\.tsv'"):
        read_manifest(tmp_path / "none.tsv")


def test_every_committed_list_holds_ids() -> None:
    for name in ("commonvoice-dev", "kathleen", "librispeech-untranscribed"):
        assert held_out_ids(name)
        assert held_out_ids(name) < held_out_ids()


def test_held_out_utterances_are_refused_for_training(tmp_path: Path) -> None:
    corpus, stem = HELD.split("/")
    manifest = made(tmp_path / corpus, "free", stem)

    with pytest.raises(HeldOutRefused, match=f"in 'kathleen', got 1, first '{HELD}'"):
        training_utterances(manifest, leave_out=False)


def test_held_out_utterances_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    corpus, stem = HELD.split("/")
    manifest = made(tmp_path / corpus, "free", stem)

    assert [item.id for item in training_utterances(manifest, leave_out=True)] == ["kathleen/free"]


def test_free_utterances_are_all_trained_on(tmp_path: Path) -> None:
    manifest = made(tmp_path / "corpus", "one", "two")

    assert len(training_utterances(manifest, leave_out=False)) == 2
    refuse_held_out(["corpus/one", "corpus/two"], "corpus")
