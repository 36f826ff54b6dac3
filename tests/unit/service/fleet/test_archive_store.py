import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from service.errors import ArchiveInvalid
from service.fleet.archive_store import (
    FIRST_PASS,
    LEAST_PART_S,
    PART_SHARE,
    ROW_FORMATS,
    RowFormat,
    RowWriter,
    open_archive,
    read_rows,
    remove_first_pass,
)
from tests.archive_kit import row_of
from tests.service_kit import FakeClock

ROWS = [
    row_of("a.wav", "one two", plan="2,2", layers=1.5, layers_total=2, flops=2**40),
    row_of("b.wav", error_code="audio_empty", error_message="expected audio, got ö"),
    row_of("s3://bucket/c.wav"),
]

forms = pytest.mark.parametrize("form", ROW_FORMATS)


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("part-*"))


@forms
def test_rows_come_back_as_they_were(tmp_path: Path, form: RowFormat) -> None:
    writer = RowWriter(tmp_path, form, FakeClock())
    for row in ROWS:
        writer.add(row)
    writer.flush()

    assert list(read_rows(tmp_path, form)) == ROWS


@forms
def test_a_later_writer_knows_what_is_there_and_goes_on_behind_it(
    tmp_path: Path, form: RowFormat
) -> None:
    first = RowWriter(tmp_path, form, FakeClock())
    first.add(ROWS[0])
    first.flush()

    second = RowWriter(tmp_path, form, FakeClock())
    assert (second.known, second.spent_flops) == ({"a.wav"}, 10)
    second.add(ROWS[0])
    second.add(ROWS[1])
    second.flush()

    assert parts(tmp_path) == [f"part-000000.{form}", f"part-000001.{form}"]
    assert list(read_rows(tmp_path, form)) == ROWS[:2]


def test_a_part_is_written_once_it_has_waited(tmp_path: Path) -> None:
    clock = FakeClock()
    writer = RowWriter(tmp_path, "jsonl", clock)

    writer.add(ROWS[0])
    assert parts(tmp_path) == []
    clock.now_s = LEAST_PART_S
    writer.add(ROWS[1])

    assert parts(tmp_path) == ["part-000000.jsonl"]


def test_parts_of_a_long_run_hold_more_rows(tmp_path: Path) -> None:
    clock = FakeClock()
    writer = RowWriter(tmp_path, "jsonl", clock)
    clock.now_s = 86_400.0
    writer.add(ROWS[0])
    clock.now_s += PART_SHARE * 86_400 - 1
    writer.add(ROWS[1])
    assert parts(tmp_path) == []

    clock.now_s += 20
    writer.add(ROWS[2])

    assert parts(tmp_path) == ["part-000000.jsonl"]


def test_what_an_interrupted_run_left_unfinished_is_no_row_and_goes(tmp_path: Path) -> None:
    left = tmp_path / ".part-000000.jsonl.unfinished"
    left.write_text('{"path": "torn', encoding="utf-8")

    writer = RowWriter(tmp_path, "jsonl", FakeClock())

    assert writer.known == set()
    assert not left.exists()


def test_nothing_is_written_where_nothing_came(tmp_path: Path) -> None:
    RowWriter(tmp_path, "jsonl", FakeClock()).flush()

    assert parts(tmp_path) == []


def test_the_folder_reads_as_one_parquet_table(tmp_path: Path) -> None:
    with open_archive(tmp_path, {"drop": 0.25}):
        writer = RowWriter(tmp_path, "parquet", FakeClock())
        first = RowWriter(tmp_path / FIRST_PASS, "parquet", FakeClock())
        first.add(ROWS[2])
        first.flush()
        for row in ROWS:
            writer.add(row)
            writer.flush()

    parquet: Any = import_module("pyarrow.parquet")  # ships no types
    table = parquet.read_table(tmp_path)

    assert sorted(table["path"].to_pylist()) == sorted(row.path for row in ROWS)
    assert table.schema.field("words").type.value_type.num_fields == 4


def test_lines_of_json_are_readable_without_us(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path, "jsonl", FakeClock())
    writer.add(ROWS[1])
    writer.flush()

    (line,) = (tmp_path / "part-000000.jsonl").read_text(encoding="utf-8").splitlines()

    assert json.loads(line)["error_message"] == "expected audio, got ö"


def test_an_archive_made_in_another_way_is_refused(tmp_path: Path) -> None:
    with open_archive(tmp_path, {"drop": 0.25, "policy": "ladder"}):
        pass

    with (
        pytest.raises(ArchiveInvalid, match=r"expected drop 0\.25, .* got 0\.5; take another"),
        open_archive(tmp_path, {"drop": 0.5, "policy": "ladder"}),
    ):
        pass


def test_an_archive_may_be_opened_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with open_archive(tmp_path / "out", {"drop": 0.25}):
            assert (tmp_path / "out").is_dir()


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (
        open_archive(tmp_path, {}),
        pytest.raises(ArchiveInvalid, match=r"expected nobody else to write to .* another run"),
        open_archive(tmp_path, {}),
    ):
        pass


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    with (
        pytest.raises(ArchiveInvalid, match="expected a folder to write to at"),
        open_archive(tmp_path / "out", {}),
    ):
        pass


def test_a_description_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_archive.json").write_text("{", encoding="utf-8")

    with pytest.raises(ArchiveInvalid, match="expected JSON"), open_archive(tmp_path, {}):
        pass


@forms
def test_the_first_pass_goes_and_the_rows_stay(tmp_path: Path, form: RowFormat) -> None:
    for folder in (tmp_path, tmp_path / FIRST_PASS):
        writer = RowWriter(folder, form, FakeClock())
        writer.add(ROWS[0])
        writer.flush()

    remove_first_pass(tmp_path, form)

    assert not (tmp_path / FIRST_PASS).exists()
    assert list(read_rows(tmp_path, form)) == [ROWS[0]]


def test_there_may_be_no_first_pass(tmp_path: Path) -> None:
    remove_first_pass(tmp_path, "parquet")

    assert list(tmp_path.iterdir()) == []
