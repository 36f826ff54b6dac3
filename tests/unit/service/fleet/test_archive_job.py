from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from service.engine.base import DepthChoice
from service.errors import ArchiveInvalid, ModelUnusable
from service.fleet.archive_files import list_files
from service.fleet.archive_job import PART_BYTES
from service.fleet.archive_rows import ArchiveRow
from service.fleet.archive_store import FIRST_PASS, RowWriter, read_rows
from service.fleet.archive_worker import Dial, Work
from service.settings import Settings
from tests.archive_kit import Bench, archive_of, go, job_of, rows_in
from tests.service_kit import FakeClock, wav_bytes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_every_file_gets_a_row_with_its_words(tmp_path: Path, out: Path) -> None:
    files = archive_of(tmp_path / "in", 1, 2, 0.5)

    summary = go(job_of(files, out), Bench())

    assert {name: row.text for name, row in rows_in(out).items()} == {
        "00.wav": "alpha bravo",
        "01.wav": "alpha bravo charlie delta",
        "02.wav": "alpha",
    }
    assert (summary.num_rows, summary.num_failed, summary.audio_s) == (3, 0, 3.5)


def test_broken_files_become_rows_with_codes_and_stop_nothing(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    archive_of(folder, 1, 1)
    (folder / "empty.wav").touch()
    (folder / "noise.wav").write_bytes(b"no audio at all")
    (folder / "cut.wav").write_bytes(wav_bytes(1)[:-99])
    (folder / "header.wav").write_bytes(wav_bytes(1)[:44])
    (folder / "gone.wav").write_bytes(wav_bytes(1))
    files = list_files([str(folder)])
    (folder / "gone.wav").unlink()

    summary = go(job_of(files, out), Bench())

    codes = {name: row.error_code for name, row in rows_in(out).items()}
    assert codes == {
        "00.wav": "",
        "01.wav": "",
        "empty.wav": "audio_empty",
        "noise.wav": "audio_undecodable",
        "cut.wav": "audio_truncated",
        "header.wav": "audio_truncated",
        "gone.wav": "file_unreadable",
    }
    assert summary.num_failed == 5
    assert all(row.error_message for row in rows_in(out).values() if row.error_code)


def test_a_second_run_does_only_what_is_missing(tmp_path: Path, out: Path) -> None:
    go(job_of(archive_of(tmp_path / "in", 1, 1), out), Bench())
    files = archive_of(tmp_path / "in", 1, 1, 2)
    bench = Bench()

    summary = go(job_of(files, out), bench)

    assert bench.paths == ["02.wav"]
    assert sorted(rows_in(out)) == ["00.wav", "01.wav", "02.wav"]
    assert (summary.num_known, summary.num_rows) == (2, 1)


def test_a_run_with_nothing_left_starts_no_work(tmp_path: Path, out: Path) -> None:
    job = job_of(archive_of(tmp_path / "in", 1), out)
    go(job, Bench())
    bench = Bench()

    summary = go(job, bench)

    assert bench.blocks == []
    assert summary.num_rows == 0


@pytest.mark.parametrize("num_before", range(7))
def test_a_run_cut_short_anywhere_and_run_again_has_one_row_each(
    tmp_path: Path, out: Path, num_before: int
) -> None:
    files = archive_of(tmp_path / "in", *[1.0] * 6)

    class Cut(Exception):
        pass

    def cut(block: Sequence[Work]) -> bool:
        if len(bench.blocks) > num_before:
            raise Cut
        return False

    bench = Bench(lose=cut)
    with suppress(Cut):
        go(job_of(files, out), bench)

    go(job_of(files, out), Bench())

    assert len(rows_in(out)) == 6


def test_neighbours_of_a_file_that_ends_its_actor_keep_their_rows(
    tmp_path: Path, out: Path
) -> None:
    files = archive_of(tmp_path / "in", *[1.0] * 80)
    bench = Bench(lose=lambda block: any(w.file.path.endswith("07.wav") for w in block))

    summary = go(job_of(files, out), bench)

    rows = rows_in(out)
    assert len(rows) == 80
    assert [name for name, row in rows.items() if row.error_code] == ["07.wav"]
    assert rows["07.wav"].error_code == "worker_died"
    assert max(map(len, bench.blocks)) > 1
    assert summary.num_failed == 1


def test_large_files_are_split_over_the_actors_and_joined_in_order(
    tmp_path: Path, out: Path
) -> None:
    (tmp_path / "in").mkdir()
    long_s = PART_BYTES / 32_000 + 10
    (tmp_path / "in" / "long.wav").write_bytes(wav_bytes(long_s))
    files = list_files([str(tmp_path / "in")])
    whole, split = Bench(), Bench()

    go(job_of(files, tmp_path / "whole", actors=1), whole)
    go(job_of(files, out, actors=2), split)

    assert [(w.part, w.of) for block in split.blocks for w in block] == [(0, 2), (1, 2)]
    assert len(whole.blocks) == 1
    assert rows_in(out) == rows_in(tmp_path / "whole")


def test_the_largest_files_come_first(tmp_path: Path, out: Path) -> None:
    files = archive_of(tmp_path / "in", 1, 3, 2)
    bench = Bench()

    go(job_of(files, out), bench)

    assert bench.paths == ["01.wav", "02.wav", "00.wav"]


def test_rows_of_another_dial_are_not_mixed_in(tmp_path: Path, out: Path) -> None:
    job = job_of(archive_of(tmp_path / "in", 1), out)
    go(job, Bench())

    with pytest.raises(ArchiveInvalid, match=r"expected drop 0\.0, as the rows .* got 0\.5"):
        go(job_of(job.files, out, choice=DepthChoice(0.5)), Bench())


def test_a_dial_that_no_file_can_have_stops_the_job_with_no_rows(tmp_path: Path, out: Path) -> None:
    job = job_of(archive_of(tmp_path / "in", 1), out, choice=DepthChoice(policy="nonsense"))

    with pytest.raises(ArchiveInvalid, match="expected one of ladder, skip, got 'nonsense'"):
        go(job, Bench(Dial("nonsense")))

    assert rows_in(out) == {}


def test_a_model_that_cannot_be_loaded_stops_the_job(tmp_path: Path, out: Path) -> None:
    settings = Settings(engine="onnx", model="no-such-model")
    job = job_of(archive_of(tmp_path / "in", 1), out)

    with pytest.raises(ModelUnusable):
        go(job, Bench(settings=settings))

    assert rows_in(out) == {}


def test_progress_is_told_after_each_file(tmp_path: Path, out: Path) -> None:
    shown: list[str] = []

    go(job_of(archive_of(tmp_path / "in", 1, 1), out), Bench(), shown)

    assert [line.split(",")[0] for line in shown] == ["1 of 2 files", "2 of 2 files"]


def budgeted(tmp_path: Path, out: Path, budget: float, **changes: object) -> dict[str, ArchiveRow]:
    files = archive_of(tmp_path / "in", 4, 4, 4)
    job = job_of(files, out, flops_budget=round(budget), **changes)
    go(job, Bench())
    return rows_in(out)


SHALLOW = 4 * 300_000_000
FULL = 4 * 1_000_000_000


def test_a_budget_for_one_pass_leaves_all_files_shallow(tmp_path: Path, out: Path) -> None:
    rows = budgeted(tmp_path, out, 3 * SHALLOW)

    assert [row.layers for row in rows.values()] == [1.0, 1.0, 1.0]
    assert not (out / FIRST_PASS).exists()


def test_a_budget_for_everything_gives_every_file_the_depth_asked_for(
    tmp_path: Path, out: Path
) -> None:
    rows = budgeted(tmp_path, out, 3 * (SHALLOW + 1.2 * FULL))

    assert [row.layers for row in rows.values()] == [8.0, 8.0, 8.0]
    assert {row.spent_flops for row in rows.values()} == {SHALLOW + FULL}
    assert {row.flops for row in rows.values()} == {FULL}


def test_a_budget_in_between_is_kept_and_spent_on_some(tmp_path: Path, out: Path) -> None:
    budget = 3 * SHALLOW + 1.2 * FULL

    rows = budgeted(tmp_path, out, budget)

    assert sorted(row.layers for row in rows.values()) == [1.0, 1.0, 8.0]
    assert sum(row.spent_flops for row in rows.values()) <= budget


def test_a_drop_bounds_the_depth_that_a_budget_buys(tmp_path: Path, out: Path) -> None:
    rows = budgeted(tmp_path, out, 100 * FULL, choice=DepthChoice(0.5))

    assert {row.layers for row in rows.values()} == {4.0}


def test_files_that_the_budget_does_not_reach_have_no_row_until_it_does(
    tmp_path: Path, out: Path
) -> None:
    files = archive_of(tmp_path / "in", 4, 4, 4)

    summary = go(job_of(files, out, flops_budget=2 * SHALLOW), Bench())

    assert (summary.num_rows, summary.num_unreached) == (2, 1)
    more = go(job_of(files, out, flops_budget=3 * SHALLOW), Bench())
    assert (more.num_rows, more.num_unreached, more.spent_flops) == (1, 0, 3 * SHALLOW)
    assert len(rows_in(out)) == 3


def test_a_first_pass_that_was_cut_short_is_not_paid_for_twice(tmp_path: Path, out: Path) -> None:
    files = archive_of(tmp_path / "in", 4, 4, 4)
    job = job_of(files, out, flops_budget=3 * SHALLOW + round(1.2 * FULL))
    bench = Bench()
    first = RowWriter(out / FIRST_PASS, "jsonl", FakeClock())
    go(job_of(files[:2], tmp_path / "aside", choice=DepthChoice(0.875)), bench)
    for row in read_rows(tmp_path / "aside", "jsonl"):
        first.add(row)
    first.flush()
    again = Bench()

    summary = go(job, again)

    assert again.paths[0] == "02.wav"
    assert again.paths.count("00.wav") + again.paths.count("01.wav") <= 1
    assert summary.spent_flops == 3 * SHALLOW + FULL
    assert len(rows_in(out)) == 3


def test_error_rows_cost_no_second_pass(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "in"
    archive_of(folder, 4)
    (folder / "noise.wav").write_bytes(b"no audio at all")
    bench = Bench()

    go(job_of(list_files([str(folder)]), out, flops_budget=100 * FULL), bench)

    assert bench.paths.count("noise.wav") == 1
    assert rows_in(out)["noise.wav"].error_code == "audio_undecodable"
    assert rows_in(out)["00.wav"].layers == 8.0
