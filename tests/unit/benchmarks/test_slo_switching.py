from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.slo_switching import (
    RECENT_STEPS,
    SwitchedUtterance,
    SwitchingEngine,
    Thresholds,
    read_tally,
)
from service.engine.base import ListenInput, LiveInput, PlanInUse
from service.engine.fake import FakeEngine

LOUD = np.full(16_000, 0.5, np.float32)


class SteppedClock:
    """Stands still but for what a step takes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s / 2
        return self.now_s


class Recorder:
    """What each engine was asked to step."""

    def __init__(self) -> None:
        self.plans: list[PlanInUse] = []
        self.engine = FakeEngine(before_live_step=self._note)

    def _note(self, inputs: Sequence[LiveInput]) -> None:
        self.plans += [one.plan for one in inputs]


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def switching(
    clock: SteppedClock, tally: Path | None = None
) -> tuple[SwitchingEngine, Recorder, Recorder]:
    first, second = Recorder(), Recorder()
    engine = SwitchingEngine(
        first.engine, second.engine, Thresholds(0.25, 0.15), clock=clock, tally=tally
    )
    engine.load()
    return engine, first, second


def live_input(engine: SwitchingEngine, utterance: object = None) -> LiveInput:
    state = utterance or engine.open_utterance()
    assert isinstance(state, SwitchedUtterance)
    return LiveInput(state, LOUD, engine.choose(0.5, None, "ladder"), ends=True)


def steps(engine: SwitchingEngine, clock: SteppedClock, step_s: float) -> None:
    clock.step_s = 2 * step_s
    for _ in range(RECENT_STEPS):
        engine.step([live_input(engine)])


def test_an_idle_server_begins_on_the_first_model(clock: SteppedClock) -> None:
    engine, first, second = switching(clock)

    engine.step([live_input(engine)])

    assert (len(first.plans), len(second.plans)) == (1, 0)


def test_load_sends_new_utterances_to_the_second_at_its_full_depth(clock: SteppedClock) -> None:
    engine, first, second = switching(clock)
    steps(engine, clock, 0.3)
    first.plans.clear()
    second.plans.clear()

    engine.step([live_input(engine)])

    assert first.plans == []
    assert [plan.effective_layers for plan in second.plans] == [8.0]


def test_who_has_begun_stays_where_it_began(clock: SteppedClock) -> None:
    engine, first, _ = switching(clock)
    begun = engine.open_utterance()
    steps(engine, clock, 0.3)
    first.plans.clear()

    full, half = engine.step([live_input(engine), live_input(engine, begun)])

    assert len(first.plans) == 1
    assert first.plans[0].effective_layers == 4.0
    assert [word.text for word in full.words] == ["alpha", "bravo"]
    assert "um" in [word.text for word in half.words]


def test_between_the_thresholds_nothing_changes(clock: SteppedClock) -> None:
    engine, _, _ = switching(clock)

    steps(engine, clock, 0.2)
    calm = engine.switched
    steps(engine, clock, 0.3)
    loaded = engine.switched
    steps(engine, clock, 0.2)
    still = engine.switched
    steps(engine, clock, 0.1)

    assert [calm, loaded, still, engine.switched] == [False, True, True, False]


def test_the_tally_says_how_many_each_model_was_given(clock: SteppedClock, tmp_path: Path) -> None:
    engine, _, _ = switching(clock, tmp_path / "tally")
    unwritten = read_tally(tmp_path / "tally")
    engine.open_utterance()
    steps(engine, clock, 0.3)
    engine.open_utterance()

    assert unwritten == (0, 0)
    first, second = read_tally(tmp_path / "tally")
    assert first + second == RECENT_STEPS + 2
    assert second >= 1


def test_files_gate_and_dial_are_the_firsts(clock: SteppedClock) -> None:
    engine, first, _ = switching(clock)

    heard = engine.listen([ListenInput(engine.open_listener(), LOUD)])

    assert len(heard[0]) == len(LOUD) // 512
    assert engine.choose(0.5, None, "ladder") == first.engine.choose(0.5, None, "ladder")
    assert engine.open_utterance().state_bytes == 0
