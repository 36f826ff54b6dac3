from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import SAMPLE_RATE_HZ, Utterance
from benchmarks.peers import Peer
from benchmarks.peers.base import Samples, Setting
from benchmarks.peers.measure import Clocks, cost, transcribe_all


class CountingPeer:
    """A peer whose text is the number of calls so far; each call costs as long as the audio."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.time_s = 0.0

    @property
    def name(self) -> str:
        return "counting"

    @property
    def config(self) -> Mapping[str, Setting]:
        return {"threads": 1}

    def transcribe(self, samples: Samples) -> str:
        self.num_calls += 1
        self.time_s += samples.size / SAMPLE_RATE_HZ * self.num_calls
        return str(self.num_calls)

    @property
    def clocks(self) -> Clocks:
        return Clocks(cpu_s=lambda: self.time_s, wall_s=lambda: 2 * self.time_s)


def utterance(name: str, audio_s: float) -> Utterance:
    return Utterance(f"dev/{name}", Path(name), audio_s, "ann", "reference")


def silence(one: Utterance) -> Samples:
    return np.zeros(int(one.audio_s * SAMPLE_RATE_HZ), dtype=np.float32)


def test_reading_the_file_costs_the_peer_nothing() -> None:
    peer = CountingPeer()

    def slow_read(one: Utterance) -> Samples:
        peer.time_s += 100
        return silence(one)

    (transcribed,) = transcribe_all(peer, [utterance("a", 2.0)], read=slow_read, clocks=peer.clocks)

    assert transcribed.cpu_s == pytest.approx((2.0,))
    assert transcribed.wall_s == pytest.approx((4.0,))


def test_repeats_are_summed_each_and_then_summarised() -> None:
    peer = CountingPeer()

    transcribed = list(
        transcribe_all(
            peer,
            [utterance("a", 1.0), utterance("b", 2.0)],
            repeats=3,
            read=silence,
            clocks=peer.clocks,
        )
    )
    spent = cost(transcribed)

    # Calls 1, 2, 3 on one second, then 4, 5, 6 on two: sums 1 + 8, 2 + 10, 3 + 12.
    assert (spent.cpu_s.low, spent.cpu_s.median, spent.cpu_s.high) == (9.0, 12.0, 15.0)
    assert spent.audio_s == 3.0
    assert spent.cpu_s_per_audio_s == 4.0
    assert spent.real_time_factor == 8.0
    assert spent.rtfx == 1 / 8


def test_a_record_holds_the_text_beside_its_reference() -> None:
    peer: Peer = CountingPeer()

    (transcribed,) = transcribe_all(peer, [utterance("a", 1.0)], repeats=2, read=silence)
    record = transcribed.as_json(peer.name)

    assert record["peer"] == "counting"
    assert record["id"] == "dev/a"
    assert record["text"] == "2"
    assert record["reference"] == "reference"
    assert record["audio_s"] == 1.0
