from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.corpus import SAMPLE_RATE_HZ, read_ids, read_manifest, read_samples, restrict
from benchmarks.errors import CorpusInvalid

HEADER = "path\tseconds\tspeaker\tsplit\ttranscript\n"


def manifest(folder: Path, rows: str, header: str = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "manifest.tsv"
    path.write_text(header + rows, encoding="utf-8")
    return path


def test_an_id_is_the_set_and_the_file_stem(tmp_path: Path) -> None:
    path = manifest(tmp_path / "dev", "a/one.opus\t1.5\tann\tdev\tHello.\n")

    (utterance,) = read_manifest(path)

    assert utterance.id == "dev/one"
    assert utterance.set_name == "dev"
    assert utterance.path == tmp_path / "dev" / "a" / "one.opus"


def test_quotation_marks_in_a_transcript_are_kept(tmp_path: Path) -> None:
    rows = 'one.opus\t1.5\tann\tdev\t"Yes," she said.\ntwo.opus\t1\tann\tdev\t"No\n'

    first, second = read_manifest(manifest(tmp_path / "dev", rows))

    assert first.reference == '"Yes," she said.'
    assert second.reference == '"No'


def test_a_manifest_without_a_column_is_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path / "dev", "", header="path\tseconds\n")

    with pytest.raises(CorpusInvalid, match=r"expected columns .* got none of \['speaker'"):
        read_manifest(path)


def test_a_length_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path / "dev", "one.opus\tlong\tann\tdev\t\n")

    with pytest.raises(CorpusInvalid, match=r"expected seconds .* got 'long' for 'one.opus'"):
        read_manifest(path)


def test_lists_of_ids_may_hold_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# held out\n\ndev/one\n  dev/two  \n")

    assert read_ids([path]) == {"dev/one", "dev/two"}


def test_ids_restrict_in_the_manifests_order_and_other_sets_are_left_alone(tmp_path: Path) -> None:
    rows = "".join(f"{name}.opus\t1\tann\tdev\t\n" for name in ("c", "b", "a"))
    utterances = read_manifest(manifest(tmp_path / "dev", rows))

    kept = restrict(utterances, {"dev/a", "dev/c", "elsewhere/x"})

    assert [one.id for one in kept] == ["dev/c", "dev/a"]


def test_an_id_without_a_row_is_refused(tmp_path: Path) -> None:
    utterances = read_manifest(manifest(tmp_path / "dev", "a.opus\t1\tann\tdev\t\n"))

    with pytest.raises(CorpusInvalid, match="got none for 1: 'dev/lost'"):
        restrict(utterances, {"dev/a", "dev/lost"})


def test_a_list_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    utterances = read_manifest(manifest(tmp_path / "dev", "a.opus\t1\tann\tdev\t\n"))

    with pytest.raises(CorpusInvalid, match=r"expected ids of \['dev'\], got none among 1"):
        restrict(utterances, {"elsewhere/x"})


def test_audio_is_read_as_mono_at_the_models_rate(tmp_path: Path) -> None:
    path = manifest(tmp_path / "dev", "a.wav\t0.5\tann\tdev\t\n")
    soundfile.write(tmp_path / "dev" / "a.wav", np.zeros((4_000, 2)), 8_000)

    samples = read_samples(read_manifest(path)[0])

    assert samples.dtype == np.float32
    assert samples.shape == (SAMPLE_RATE_HZ // 2,)
