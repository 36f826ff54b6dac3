"""What one stream may hold, however long it lasts and whatever is sent on it."""

from collections import deque
from collections.abc import Iterable
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.engine.fake import FakeEngine
from service.metrics import Metrics
from service.streaming.commands import Flush, Marker
from service.streaming.events import Marked, Refused
from service.streaming.markers import MAX_WAITING_MARKERS
from service.streaming.session import Session
from tests.stream_kit import LOUD, Rig, sound


def test_markers_that_wait_are_bounded_and_more_are_refused() -> None:
    rig = Rig()
    # Half a chunk of speech is never covered before more comes: whatever stands behind it waits.
    rig.play(sound((0.5, 0.0), (0.65, LOUD)))

    for number in range(2 * MAX_WAITING_MARKERS):
        rig.tell(Marker(str(number)))

    told = len(rig.all(Marked))
    assert len(rig.session.markers) == MAX_WAITING_MARKERS
    assert len(rig.all(Refused)) == MAX_WAITING_MARKERS - told
    rig.play(sound((1.0, 0.0)))
    assert [one.id for one in rig.all(Marked)] == [
        str(n) for n in range(MAX_WAITING_MARKERS + told)
    ]


@pytest.mark.parametrize("pause_s", [0.8, 0.1])
def test_a_stream_holds_no_more_after_many_minutes_than_after_few(pause_s: float) -> None:
    rig, held = Rig(), list[int]()
    minute = sound(*[(3.0, LOUD), (pause_s, 0.0)] * round(60 / (3.0 + pause_s)))

    for number in range(12):
        rig.play(minute, 32_000)
        rig.tell(Marker(str(number)), Flush())  # so that every minute ends alike
        rig.events.clear()
        held.append(held_by(rig.session))

    assert max(held[6:]) <= max(held[:3])


def held_by(session: Session) -> int:
    """Count what a session has in memory: every element of every collection in it, and of what it holds."""
    seen: set[int] = set()

    def count(one: object) -> int:
        if id(one) in seen or isinstance(
            one, str | bytes | FakeEngine | CollectorRegistry | Metrics
        ):
            return 0
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            return one.size
        if isinstance(one, dict):
            values = list[object](cast("dict[object, object]", one).values())
            return len(values) + sum(map(count, values))
        if isinstance(one, list | tuple | set | deque):
            values = list(cast("Iterable[object]", one))
            return len(values) + sum(map(count, values))
        names = [*getattr(one, "__dict__", ()), *getattr(type(one), "__slots__", ())]
        return sum(count(getattr(one, name, None)) for name in names)

    return count(session)
