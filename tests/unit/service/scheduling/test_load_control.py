"""What is measured and what is said of it: without rounds, on a clock that the tests turn."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from service.engine.base import AUTO, DepthChoice
from service.engine.fake import FakeEngine
from service.metrics import create_metrics
from service.scheduling.door import NEW_S
from service.scheduling.load_control import ControlConfig, LoadControl
from service.scheduling.load_window import RoundSample
from service.streaming.dial import Dial
from tests.service_kit import FakeClock

TICK_S = 0.25


class Desk:
    """A controller that is shown rounds."""

    def __init__(self, config: ControlConfig, realtime_factor: float = 0.0) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.engine = FakeEngine(realtime_factor=realtime_factor)
        self.control = LoadControl(create_metrics(self.registry), self.clock, config)
        self.control.num_places_taken = lambda: 2
        self.control.loaded(self.engine.load())

    def run(
        self,
        seconds: float,
        *,
        took_s: float,
        every_s: float,
        latency_s: float,
        audio_s: float = 0.5,
        layers: float = 8,
    ) -> int:
        """Give at how many ticks the door was shut."""
        shut, next_s = 0, self.clock.now_s
        for _ in range(round(seconds / TICK_S)):
            self.clock.now_s += TICK_S
            if self.clock.now_s >= next_s:
                next_s += every_s
                began_s = self.clock.now_s - took_s
                sample = RoundSample(
                    began_s, self.clock.now_s, (("one", latency_s),), audio_s, layers
                )
                self.control.submitted()
                self.control.done(sample)
            self.control.tick()
            shut += self.control.refuses_streams()
        return shut

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_a_late_final_of_a_quiet_engine_shuts_no_door_where_the_floor_is_full_depth() -> None:
    fixed = ControlConfig(law="fixed")

    assert Desk(fixed).run(30, took_s=0.4, every_s=4.0, latency_s=0.6) == 0
    assert Desk(fixed).run(30, took_s=0.5, every_s=0.5, latency_s=0.6) > 0


@pytest.mark.parametrize("early_refusal", [True, False])
def test_a_burst_is_foreseen_whether_or_not_anybody_is_refused(*, early_refusal: bool) -> None:
    desk = Desk(ControlConfig(early_refusal=early_refusal), realtime_factor=0.1)
    desk.run(NEW_S, took_s=0.01, every_s=0.5, latency_s=0.05)

    desk.control.num_places_taken = lambda: 500
    desk.control.tick()

    assert desk.control.decide() > 0
    assert desk.control.refuses_streams() == early_refusal


def test_depth_a_burst_cost_stays_given_up_while_the_streams_certainly_exceed_more() -> None:
    """Latency says that there is room; the profile, eight streams of which fill the engine, does not."""
    desk = Desk(ControlConfig(), realtime_factor=0.125)
    desk.run(NEW_S, took_s=0.05, every_s=0.4, latency_s=0.05)
    desk.control.num_places_taken = lambda: 15

    desk.run(60, took_s=0.37, every_s=0.4, latency_s=0.05, audio_s=6.0, layers=4)

    assert desk.control.decide() == 0.5
    desk.control.num_places_taken = lambda: 2
    desk.run(60, took_s=0.05, every_s=0.4, latency_s=0.05)
    assert desk.control.decide() == 0


def test_what_levels_cost_is_learned_from_the_engines_profile() -> None:
    timed = Desk(ControlConfig(), realtime_factor=0.1).control.budget
    untimed = Desk(ControlConfig(), realtime_factor=0.0).control.budget

    assert timed is not None
    assert untimed is not None
    assert [level.cost for level in timed.levels] == [level.dimmer for level in timed.levels]
    assert {level.cost for level in untimed.levels} == {1.0}


@pytest.mark.parametrize(("speech_scale", "refused"), [(1.0, False), (2.4, True)])
def test_the_engine_says_how_far_its_profile_is_to_be_trusted(
    speech_scale: float, *, refused: bool
) -> None:
    desk = Desk(ControlConfig(), realtime_factor=0.1)
    desk.control.loaded(replace(desk.engine.load(), speech_scale=speech_scale))
    desk.control.tick()

    desk.control.num_places_taken = lambda: 25

    assert desk.control.refuses_streams() == refused


def test_files_alone_owe_depth_too() -> None:
    desk = Desk(ControlConfig())

    for _ in range(200):
        desk.clock.now_s += TICK_S
        desk.control.tick(num_waiting_files=16)

    drop = desk.control.decide()
    assert drop > 0
    assert desk.sample("asr_depth_drop_effective_ratio", source="auto") == drop
    desk.control.tick()
    assert desk.sample("asr_depth_drop_effective_ratio", source="auto") == 0


@pytest.mark.parametrize(("policy", "known"), [("ladder", True), ("skip", False)])
def test_words_are_estimated_for_the_plans_that_were_measured(policy: str, *, known: bool) -> None:
    desk = Desk(ControlConfig())
    half = Dial(DepthChoice(0.5, None, policy), desk.engine.choose, lambda: 0.0)
    auto = Dial(DepthChoice(AUTO), desk.engine.choose, lambda: 0.0)

    desk.control.tick([half, auto])

    ratio = desk.sample("asr_estimated_wer_ratio")
    assert ratio is not None
    assert (ratio > 1) == known
