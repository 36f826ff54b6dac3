from pathlib import Path

import pytest

from service.errors import ArchiveInvalid, FileUnreadable
from service.fleet.archive_files import ArchiveFile, FileSystems, list_files
from tests.service_kit import wav_bytes


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    folder = tmp_path / "talks"
    for name in ("a.wav", "b.FLAC", "notes.txt", "2024/c.opus", "2024/deep/d.wav", ".hidden/e.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    return folder


def names(*places: str | Path) -> list[str]:
    return [Path(file.path).name for file in list_files([str(place) for place in places])]


def test_a_folder_gives_all_audio_below_it(talks: Path) -> None:
    assert sorted(names(talks)) == ["a.wav", "b.FLAC", "c.opus", "d.wav", "e.wav"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(talks: Path) -> None:
    assert names(talks / "notes.txt") == ["notes.txt"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.wav", ["a.wav"]),
        ("*", ["a.wav", "b.FLAC", "notes.txt"]),
        ("**/*.wav", ["e.wav", "d.wav", "a.wav"]),
        ("2024/*", ["c.opus"]),
        ("2024/**", ["c.opus", "d.wav"]),
        ("[ab].*", ["a.wav", "b.FLAC"]),
        ("?.wav", ["a.wav"]),
    ],
)
def test_a_glob_gives_what_it_matches(talks: Path, glob: str, expected: list[str]) -> None:
    assert names(f"{talks}/{glob}") == expected


def test_a_glob_may_have_a_scheme(talks: Path) -> None:
    assert names(f"file://{talks}/**/*.opus") == ["c.opus"]


def test_a_name_with_signs_of_a_glob_is_the_file_of_that_name(talks: Path) -> None:
    (talks / "what?[1].wav").write_bytes(b"1")

    assert names(talks / "what?[1].wav") == ["what?[1].wav"]


def test_files_are_listed_once_and_in_order(talks: Path) -> None:
    files = list_files([f"{talks}/*.wav", str(talks), f"file://{talks}"])

    paths = [file.path for file in files]
    assert paths == sorted(set(paths))
    assert files[0].size_bytes == 5


def test_a_relative_path_is_the_same_file_as_its_full_one(
    talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(talks.parent)

    assert list_files(["talks/a.wav"]) == list_files([str(talks / "a.wav")])


def test_a_uri_may_be_quoted(talks: Path) -> None:
    (talks / "two words.wav").write_bytes(b"1")

    assert names(f"file://{talks}/two%20words.wav") == ["two words.wav"]


def manifest(talks: Path, text: str) -> Path:
    path = talks / "manifest.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_of_a_corpus_gives_its_files(talks: Path) -> None:
    path = manifest(
        talks,
        "path\tseconds\tspeaker\tsplit\ttranscript\n"
        'a.wav\t2.0\tx\ttest\tShe said "no\n'
        f"2024/c.opus\t3.0\ty\ttest\tö\n{talks}/b.FLAC\t1\tz\ttest\t\n",
    )

    assert names(path) == ["c.opus", "a.wav", "b.FLAC"]


def test_a_manifest_may_have_paths_alone(talks: Path) -> None:
    assert names(manifest(talks, "path\na.wav\n")) == ["a.wav"]


def test_a_file_that_a_manifest_names_and_nobody_has_is_left_to_become_an_error(
    talks: Path,
) -> None:
    (file,) = list_files([str(manifest(talks, "path\ngone.wav\n"))])

    with pytest.raises(FileUnreadable, match=r"expected a readable file at '.*gone\.wav'"):
        FileSystems().open(file)


def test_a_manifest_without_paths_is_refused(talks: Path) -> None:
    with pytest.raises(ArchiveInvalid, match=r"expected a column 'path' in .*, got \['file'\]"):
        list_files([str(manifest(talks, "file\na.wav\n"))])


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{}/nothing.wav", "expected something at '.*nothing.wav', got nothing"),
        ("{}/*.mp3", r"expected audio files at '.*\*.mp3', got none"),
        ("{}/gone/*.mp3", "expected a folder at '.*gone', got none"),
        ("nope://{}/a.wav", "expected a file system that pyarrow knows, got 'nope://"),
    ],
)
def test_a_place_without_files_is_refused(talks: Path, place: str, message: str) -> None:
    with pytest.raises(ArchiveInvalid, match=message):
        list_files([place.format(talks)])


def test_keys_and_queries_of_a_uri_are_never_shown() -> None:
    with pytest.raises(ArchiveInvalid) as caught:
        list_files(["nope://me:SECRET@bucket/talks?token=HIDDEN"])

    assert "SECRET" not in str(caught.value)
    assert "HIDDEN" not in str(caught.value)
    assert "nope://bucket" in str(caught.value)


def test_a_file_on_another_system_is_opened_through_its_root(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(1))
    inside = str(tmp_path / "a.wav")

    with FileSystems().open(ArchiveFile("there://a.wav", "file:///", inside, 0)) as source:
        source.seek(-4, 2)
        assert source.read() == wav_bytes(1)[-4:]


def test_a_root_that_is_gone_makes_its_files_unreadable() -> None:
    with pytest.raises(FileUnreadable):
        FileSystems().open(ArchiveFile("a.wav", "nope://x/", "a.wav", 0))
