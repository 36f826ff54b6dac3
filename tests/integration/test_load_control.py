"""The load turns the depth of running streams and shuts the door: sessions, rounds and controller
together, in time that the engine and the tests turn; then the door on a real socket.
"""

import math
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from service.engine.base import AUTO, DepthChoice
from service.engine.fake import FakeEngine
from service.errors import ServiceError
from service.metrics import create_metrics
from service.scheduling.live import TICK_S, Round
from service.scheduling.live_load import MAX_PARTIAL_INTERVAL_S
from service.scheduling.load_control import TICK_S as CONTROL_TICK_S
from service.scheduling.load_control import ControlConfig, LoadControl
from service.streaming.backing import Backing
from service.streaming.commands import Packet, StreamConfig
from service.streaming.events import Depth, Event, Final
from service.streaming.inbox import Inbox
from service.streaming.measures import StreamMeasures
from service.streaming.outbox import Outbox
from service.streaming.session import Session
from tests.service_kit import FakeClock, until
from tests.stream_kit import LOUD, packets, serving, sound

PACKET_S = 0.1
SENTENCES = list(packets(sound((2.6, LOUD), (0.8, 0.0))))
REALTIME_FACTOR = 0.1
"""Of the engine: ten streams that never pause at full depth."""
SETPOINT_S = 0.3
"""What these scenes are laid out for."""


@dataclass(eq=False)
class Speaker:
    """A client that says the same sentence over and over, at the pace of speech."""

    session: Session
    inbox: Inbox
    outbox: Outbox
    since_s: float
    num_sent: int = 0
    events: list[Event] = field(default_factory=list[Event])

    def speak(self, now_s: float) -> None:
        while (at_s := self.since_s + self.num_sent * PACKET_S) <= now_s:
            self.inbox.put(Packet(SENTENCES[self.num_sent % len(SENTENCES)], at_s))
            self.num_sent += 1

    def publish(self) -> None:
        self.session.publish()
        self.events += [one for one in self.outbox._waiting if not isinstance(one, ServiceError)]
        self.outbox._waiting.clear()

    def depths(self, since: int = 0) -> list[float]:
        return [e.plan.effective_layers for e in self.events[since:] if isinstance(e, Depth)]


class Hall:
    """Speakers before one engine; rounds and ticks come as the scheduler makes them."""

    def __init__(self, *, max_wer_increase: float = 0.5, min_layers: float = 0.0) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(realtime_factor=REALTIME_FACTOR, sleep=self._spend)
        self.info = self.engine.load()
        self.registry = CollectorRegistry()
        self.metrics = create_metrics(self.registry)
        config = ControlConfig(
            setpoint_s=SETPOINT_S, max_wer_increase=max_wer_increase, min_layers=min_layers
        )
        self.control = LoadControl(self.metrics, self.clock, config)
        self.control.loaded(self.info)
        self.speakers: list[Speaker] = []
        self.control.num_places_taken = lambda: len(self.speakers)
        self._next_tick_s = 0.0

    def enter(self, count: int, choice: DepthChoice | None = None) -> list[Speaker]:
        measures = StreamMeasures(self.metrics, self.info)
        backing = Backing(self.engine, self.info, self.control.decide, measures, two_pass=True)
        entered: list[Speaker] = []
        for index in range(count):
            inbox, outbox = Inbox(10**9), Outbox()
            config = StreamConfig(choice=choice or DepthChoice(AUTO))
            session = Session(config, inbox, outbox, backing)
            begin_s = self.clock.now_s + 0.13 * index
            entered.append(Speaker(session, inbox, outbox, begin_s))
        self.speakers += entered
        return entered

    def leave(self, speakers: list[Speaker]) -> None:
        self.speakers = [one for one in self.speakers if one not in speakers]

    def run(self, seconds: float) -> None:
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self._hear()
            taking = [one for one in self.speakers if one.session.has_news or one.session.waits]
            if taking:
                sessions = [one.session for one in taking]
                self.control.submitted()
                report = Round(sessions, sessions).run(self.engine, self.clock, self.control.load)
                self.control.done(report.sample)
            for one in taking:
                one.publish()
            self._spend(TICK_S)

    def _spend(self, seconds: float) -> None:
        """Time passes, for the controller too."""
        until_s = self.clock.now_s + seconds
        while self._next_tick_s <= until_s:
            self.clock.now_s = max(self.clock.now_s, self._next_tick_s)
            self.control.tick([one.session.dial for one in self.speakers])
            self._next_tick_s += CONTROL_TICK_S
        self.clock.now_s = max(self.clock.now_s, until_s)

    def _hear(self) -> None:
        for one in self.speakers:
            one.speak(self.clock.now_s)

    def sample(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"expected a sample of {name}, got none"
        return value


def test_a_load_takes_depth_from_running_streams_and_its_end_gives_it_back() -> None:
    hall = Hall()
    auto = hall.enter(2)
    pinned = hall.enter(1, DepthChoice(0.0))
    hall.run(10)
    assert [one.depths() for one in auto] == [[], []]

    crowd = hall.enter(12)
    hall.run(15)

    for one in (*auto, *crowd):
        assert one.session.dial.told.effective_layers < 8
    assert all(one.depths()[0] < 8 for one in auto)
    assert hall.sample("asr_depth_drop_effective_ratio", source="auto") > 0
    assert hall.sample("asr_depth_drop_effective_ratio", source="request") == 0
    assert hall.sample("asr_estimated_wer_ratio") > 1
    decided = hall.control.budget
    assert decided is not None
    assert decided.decisions[0].reason == "burst"

    hall.leave(crowd)
    hall.run(30)

    assert [one.depths()[-1] for one in auto] == [8, 8]
    assert hall.sample("asr_depth_drop_effective_ratio", source="auto") == 0
    assert hall.sample("asr_estimated_wer_ratio") == 1
    assert pinned[0].depths() == []
    finals = [one for one in pinned[0].events if isinstance(one, Final)]
    assert {one.layers for one in finals} == {8}


def test_a_burst_finds_the_depth_that_carries_it_before_its_first_chunk_is_due() -> None:
    hall = Hall()
    hall.enter(4)
    hall.run(10)
    assert hall.control.decide() == 0

    hall.enter(20)
    hall.run(2 * CONTROL_TICK_S)

    assert hall.control.budget is not None
    first, *others = hall.control.budget.decisions
    assert (first.reason, others) == ("burst", [])
    assert hall.control.decide() > 0.5
    late_before = hall.sample("asr_stream_lag_seconds_bucket", le="2.0")
    said_before = hall.sample("asr_stream_lag_seconds_count")
    hall.run(20)
    in_time = hall.sample("asr_stream_lag_seconds_bucket", le="2.0") - late_before
    assert in_time == hall.sample("asr_stream_lag_seconds_count") - said_before


def test_depth_keeps_the_latency_that_full_depth_does_not() -> None:
    def late_share(min_layers: float) -> float:
        hall = Hall(min_layers=min_layers)
        hall.enter(16)
        hall.run(30)
        fast = hall.sample("asr_stream_lag_seconds_bucket", le="1.0")
        return 1 - fast / hall.sample("asr_stream_lag_seconds_count")

    assert late_share(min_layers=2) < 0.3
    assert late_share(min_layers=8) > 0.5


def test_second_passes_and_partials_are_given_up_as_long_as_depth_is() -> None:
    hall = Hall()
    hall.enter(16)
    hall.run(15)

    assert hall.control.decide() > 0
    assert hall.control.load.least_doubt == math.inf
    load = hall.control.load
    assert load.partial_interval_s == MAX_PARTIAL_INTERVAL_S - 2 * load.mean_round_s


def test_a_client_that_limits_the_drop_gets_the_shallowest_it_admits() -> None:
    hall = Hall()
    limited = hall.enter(1, DepthChoice(AUTO, max_drop=0.6))
    hall.enter(24)
    hall.run(20)

    assert hall.control.decide() == 0.75
    assert limited[0].session.dial.told.effective_layers == 4


def test_the_floor_is_kept_and_then_the_door_is_shut() -> None:
    hall = Hall(max_wer_increase=0.3)
    hall.enter(4)
    hall.run(5)
    assert not hall.control.refuses_streams()

    hall.enter(30)
    hall.run(20)

    assert hall.control.decide() == 0.5
    assert hall.control.refuses_streams()
    assert hall.control.refuses_files()
    hall.leave(hall.speakers[4:])
    hall.run(15)
    assert not hall.control.refuses_streams()


def test_fixed_depth_is_left_alone() -> None:
    hall = Hall()
    hall.control = LoadControl(hall.metrics, hall.clock)
    hall.control.loaded(hall.info)
    hall.enter(20)
    hall.run(10)

    assert hall.control.decide() == 0


async def test_one_stream_too_many_for_the_least_depth_gets_1013_though_places_are_free() -> None:
    async with serving(FakeEngine(realtime_factor=0.9), max_streams=32, min_layers=8) as app:
        first = await app.connect("drop=0")
        await first.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken == 1)

        late = await app.connect()
        code = await late.read_to_end()
        first_code = first.socket.close_code

    assert code == 1013
    assert first_code is None
    error = late.all("error")[0]
    assert (error.code, (error.retry_after_ms or 0) >= 1_000) == ("overloaded", True)
    assert app.sample("asr_admission_rejected_total", reason="overloaded") == 1


async def test_without_early_refusal_the_places_alone_count() -> None:
    async with serving(
        FakeEngine(realtime_factor=0.9), max_streams=2, min_layers=8, early_refusal=False
    ) as app:
        first = await app.connect("drop=0")
        await first.send(sound((0.1, 0.0)))
        await until(lambda: app.service.admission.streams.num_taken == 1)

        assert (await (await app.connect()).read()).type == "ready"
