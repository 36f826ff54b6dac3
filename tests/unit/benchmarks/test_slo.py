import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hardware import Commit, read_environment
from benchmarks.record import Run, missing_keys
from benchmarks.slo import told
from benchmarks.slo_capacity import CLOSE_ENOUGH, MOST_STREAMS, most_streams
from benchmarks.slo_cell import Conditions, phases_s, server_settings
from benchmarks.slo_metrics import gained, gauges, parse
from benchmarks.slo_results import Results
from benchmarks.slo_sound import Clip, make_script, speech_share, used_clips
from benchmarks.slo_systems import Cell, plan_cells, systems
from benchmarks.slo_words import timed_words
from service.engine.fake import FakeEngine
from service.settings import Settings

CONDITIONS = Conditions(
    warm_up_s=20, seconds=90, settle_s=30, constant_s=300, tail_s=45, pause_s=1,
    partial_interval_s=0.5, max_streams=24, server_core=1, client_core=0,
    settings={"ASR_ENGINE": "fake"}, system_settings={"brownout": {"ASR_MIN_LAYERS": "2"}},
    second="", switch_above_s=0.2, switch_below_s=0.1, folder=Path(),
)  # fmt: skip
RUN = Run(
    benchmark="slo", started=datetime(2026, 1, 1, tzinfo=UTC), environment=read_environment(()),
    config={"seconds": 90.0}, warm_up=1, repeats=1,
)  # fmt: skip


def clip(name: str, seconds: float, level: float = 0.5) -> Clip:
    return Clip(name, np.full(round(16_000 * seconds), level, np.float32), name)


def test_a_stream_says_one_voices_clips_with_pauses() -> None:
    voices = [(clip("a1", 1.0), clip("a2", 2.0)), (clip("b1", 1.5),)]

    script = make_script(voices, 0, pause_s=0.5, seconds=10.0)

    assert len(script.sound) == 2 * 160_000
    assert {one.clip.id for one in script.spoken} == {"a1", "a2"}
    samples = np.frombuffer(script.sound, "<i2")
    for one in script.spoken:
        start, end = round(16_000 * one.start_s), round(16_000 * one.end_s)
        assert (samples[start:end] != 0).all()
        assert (samples[end : end + 8_000] == 0).all()


@given(place=st.integers(0, 40), seconds=st.floats(3, 20))
def test_the_same_place_says_the_same_and_clips_do_not_overlap(place: int, seconds: float) -> None:
    voices = [(clip("a1", 1.0), clip("a2", 2.0)), (clip("b1", 1.5),)]

    one, again = (make_script(voices, place, pause_s=0.5, seconds=seconds) for _ in range(2))

    assert one == again
    ends = [0.0, *(spoken.end_s for spoken in one.spoken)]
    assert all(s.start_s >= end_s for s, end_s in zip(one.spoken, ends, strict=False))
    assert ends[-1] <= seconds


def test_the_duty_cycle_is_what_is_spoken() -> None:
    script = make_script([(clip("a", 1.0),)], 0, pause_s=1.0, seconds=4.0)

    assert speech_share([script]) == pytest.approx(2 / 4)
    assert set(used_clips([script])) == {"a"}


def test_a_run_compares_five_systems_at_six_loads() -> None:
    cells = plan_cells(10, 20, [])

    assert len({cell.id for cell in cells}) == len(cells) == 5 * 6 + 2 + 3
    assert {cell.streams for cell in cells if cell.load == "0.9C"} == {18}
    assert {cell.streams for cell in cells if cell.load == "1.5x"} == {15}
    assert {cell.system for cell in cells} == set(systems())


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (["constant"], ["constant"]),
        (["bending"], ["bending-1x", "bending-2x", "bending-3x"]),
        (["slack-2x", "load-end"], ["load-end", "slack-2x"]),
    ],
)
def test_cells_are_chosen_by_system_load_kind_or_name(wanted: list[str], ids: list[str]) -> None:
    assert [cell.id for cell in plan_cells(10, 20, wanted)] == ids


@pytest.mark.parametrize("name", sorted(systems()))
def test_every_system_has_settings_that_the_service_knows(name: str) -> None:
    environment = server_settings(name, systems()[name], CONDITIONS)
    fields = {key.removeprefix("ASR_").lower(): value for key, value in environment.items()}

    settings = Settings.model_validate(fields)

    bends = systems()[name].bends
    assert (settings.two_pass_finals, settings.partial_interval_s) == (bends, 0.0 if bends else 0.5)
    assert settings.early_refusal is bends
    assert bends or settings.max_streams == 24
    assert settings.min_layers == (2.0 if name == "brownout" else 0.0)


def test_constant_load_has_phases_of_its_own() -> None:
    steady = Cell("a", "brownout", "1x", 8)

    assert phases_s(steady, CONDITIONS) == (20, 90)
    assert phases_s(replace(steady, kind="constant"), CONDITIONS) == (30, 300)


@given(st.integers(0, MOST_STREAMS), st.integers(1, 20))
def test_the_search_comes_close_to_what_holds_and_never_above(limit: int, first: int) -> None:
    tried: list[int] = []

    def holds(streams: int) -> bool:
        tried.append(streams)
        return streams <= limit

    found = most_streams(holds, first)

    assert found <= limit
    assert limit - found <= max(1, CLOSE_ENOUGH * found)
    assert len(set(tried)) == len(tried)


def test_samples_of_one_name_are_added_up() -> None:
    before = parse("# TYPE asr_estimated_flops counter\nasr_estimated_flops_total 5\n")
    after = parse(
        "# TYPE asr_estimated_flops counter\n"
        'asr_estimated_flops_total{depth="8"} 7\nasr_estimated_flops_total{depth="4"} 2\n'
        "# TYPE asr_depth_layers gauge\nasr_depth_layers 4\n"
    )

    assert gained(before, after) == {"asr_estimated_flops_total": 4.0}
    assert gauges(after) == {"asr_depth_layers": 4.0}


def test_a_run_goes_on_where_it_stopped_and_tries_failed_cells_again(tmp_path: Path) -> None:
    path = tmp_path / "slo.json"
    first = Results(path, RUN)
    first.add({"cell": "good", "streams": 3})
    first.add({"cell": "bad", "failed": "SystemExit: no server"})

    again = Results(path, RUN)
    again.add({"cell": "bad", "streams": 4})

    stored = json.loads(path.read_text())
    assert missing_keys(stored) == []
    assert [row["streams"] for row in stored["results"]] == [3, 4]
    assert again.finished("good") == stored["results"][0]
    assert Results(path, RUN).finished("other") is None


def test_another_way_of_measuring_needs_another_file(tmp_path: Path) -> None:
    Results(tmp_path / "slo.json", RUN).add({"cell": "a"})

    with pytest.raises(SystemExit, match=r"expected the options .* got others: \['seconds'\]"):
        Results(tmp_path / "slo.json", replace(RUN, config={"seconds": 45.0}))


def at_commit(sha: str, *, dirty: bool = False) -> Run:
    return replace(RUN, environment=replace(RUN.environment, commit=Commit(sha, dirty)))


def test_a_row_says_which_commit_it_was_measured_at(tmp_path: Path) -> None:
    results = Results(tmp_path / "slo.json", at_commit("a" * 40))

    results.add({"cell": "good"})

    (row,) = json.loads((tmp_path / "slo.json").read_text())["results"]
    assert row["commit"] == {"sha": "a" * 40, "dirty": False}


@pytest.mark.parametrize("run", [at_commit("b" * 40), at_commit("a" * 40, dirty=True), RUN])
def test_rows_of_another_commit_stay_in_their_own_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "slo.json"
    Results(path, at_commit("a" * 40)).add({"cell": "good"})
    before = path.read_text()

    with pytest.raises(SystemExit, match=rf"expected rows of .*, got 'good' of {'a' * 40};"):
        Results(path, run)

    assert path.read_text() == before


def test_a_row_that_says_no_commit_is_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "slo.json"
    Results(path, at_commit("a" * 40)).add({"cell": "good"})
    stored = json.loads(path.read_text())
    del stored["results"][0]["commit"]
    path.write_text(json.dumps(stored))

    with pytest.raises(SystemExit, match="got 'good' of no commit;"):
        Results(path, at_commit("a" * 40))


def test_rows_of_another_machine_stay_in_their_own_file(tmp_path: Path) -> None:
    path = tmp_path / "slo.json"
    Results(path, RUN).add({"cell": "good"})
    hardware = replace(RUN.environment.hardware, usable_cores=64, processor="another")

    with pytest.raises(
        SystemExit, match=r"expected the machine .*: \['processor', 'usable_cores'\]"
    ):
        Results(path, replace(RUN, environment=replace(RUN.environment, hardware=hardware)))


def test_words_are_heard_once_and_kept(tmp_path: Path) -> None:
    heard: list[int] = []

    def engine() -> FakeEngine:
        def count(windows: Sequence[object], _plan: object) -> None:
            heard.append(len(windows))

        return FakeEngine(before_step=count)

    clips = {"a": clip("a", 1.0), "b": clip("b", 0.5)}
    first = timed_words(engine(), clips, tmp_path / "words.json")
    again = timed_words(engine(), clips, tmp_path / "words.json")

    assert first == again
    assert len(heard) == 2
    assert first["a"] == [("alpha", 0.5), ("bravo", 1.0)]


def test_a_row_is_told_in_one_line() -> None:
    line = told({"lag_s": {"p50": 0.4, "p95": 0.9}, "errors": [], "wer": None, "watched": [1]})

    assert line == "lag_s 0.4/0.9, wer None, errors 0"
