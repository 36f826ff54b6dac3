"""What holds for every stream, however it is cut and whatever its client asks for."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.base import DepthChoice
from service.streaming.commands import Command, Configure, Flush, Gap, Marker, Stop
from service.streaming.events import Done, Final, Lag, Partial
from tests.stream_kit import LOUD, Rig, SlowlyWriting, played, sound

SCENES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.3, 0.7, 1.1, 2.3]), st.sampled_from([0.0, LOUD])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(SCENES, st.integers(1, 7_001), st.integers(1, 7_001))
def test_finals_do_not_depend_on_the_cut_of_the_byte_stream(
    scene: list[tuple[float, float]], first_bytes: int, second_bytes: int
) -> None:
    pcm = sound(*scene)
    first, second = played(pcm, first_bytes + 200), played(pcm, second_bytes + 200)

    def content(rig: Rig) -> list[Final]:
        return [dataclasses.replace(final, lag_s=0.0) for final in rig.finals]

    assert content(first) == content(second)


@settings(max_examples=25)
@given(SCENES, st.integers(1, 4))
def test_words_that_take_several_steps_come_whole(
    scene: list[tuple[float, float]], steps_later: int
) -> None:
    pcm = sound(*scene)
    slow = SlowlyWriting(steps_later)

    at_once, later = played(pcm), played(pcm, rig=Rig(engine=slow))

    assert slow.num_put_off == steps_later * len(later.finals)
    assert later.finals == at_once.finals
    assert later.all(Done) == at_once.all(Done)
    assert later.all(Lag) == at_once.all(Lag)
    for name in ("asr_stream_final_seconds_count", "asr_flops_total"):
        assert later.sample(name) == at_once.sample(name)


@settings(max_examples=40)
@given(
    SCENES,
    st.integers(200, 20_000),
    st.lists(
        st.one_of(
            st.just(Flush()),
            st.builds(Gap, st.integers(1, 40_000), st.just(0.0)),
            st.sampled_from([Configure(DepthChoice(d)) for d in (0.0, 0.5, 0.75)]),
            st.just(Configure(endpointing_s=0.2)),
            st.just(Marker("m")),
        ),
        max_size=4,
    ),
)
def test_whatever_happens_the_promises_hold(
    scene: list[tuple[float, float]], packet_bytes: int, commands: list[Gap | Command]
) -> None:
    rig = Rig()
    for stretch, command in zip(scene, [*commands, *[None] * len(scene)], strict=False):
        rig.play(sound(stretch), packet_bytes)
        if command is not None:
            rig.tell(command)
    rig.tell(Stop())

    finals = rig.finals
    assert [final.utt for final in finals] == list(range(len(finals)))
    told = [one.end_s for one in rig.events if isinstance(one, Partial | Final | Lag)]
    assert told == sorted(told)
    for earlier, later in pairwise(finals):
        assert earlier.end_s <= later.start_s + 0.3 + 0.1  # the lead reaches into the silence
    for final in finals:
        place = rig.events.index(final)
        after = [one for one in rig.events[place:] if isinstance(one, Partial)]
        assert all(one.utt > final.utt for one in after)
        before = [one for one in rig.partials if one.utt == final.utt]
        stable = [one.text[: one.stable_chars] for one in before]
        assert all(final.text.startswith(text) for text in stable)
    heard_s = sum(len(sound(stretch)) for stretch in scene) / 32_000
    (done,) = rig.all(Done)
    assert done is rig.events[-1]
    assert done.stats.audio_s == pytest.approx(heard_s + done.stats.dropped_s, abs=1e-3)
    assert done.stats.utterances == len(finals)
    covered = [(final.start_s, final.end_s) for final in finals]
    bounds_s = [0.0, *np.cumsum([duration_s for duration_s, _ in scene]).tolist()]
    for (start_s, end_s), (duration_s, peak) in zip(pairwise(bounds_s), scene, strict=True):
        if commands or not peak or duration_s < 0.2:
            continue
        inside = sum(max(0.0, min(e, end_s) - max(s, start_s)) for s, e in covered)
        assert inside >= end_s - start_s - 0.04
