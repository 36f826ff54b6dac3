"""The loop of a static model over growing buffers, on a clock that the tests turn."""

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.local_agreement import MOST_BUFFER_S, UPDATE_S, Loop, run
from model_store.audio import SAMPLE_RATE_HZ


@dataclass
class Listener:
    """Hears a word a second of its buffer, and takes time for it."""

    took_s: float
    now_s: float = 0.0
    last_word: str = "open"

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def transcribe(self, samples: np.ndarray) -> str:
        self.now_s += self.took_s
        seconds = int(len(samples) / SAMPLE_RATE_HZ)
        return " ".join([*(f"w{second}" for second in range(seconds)), self.last_word])


def loops(count: int, seconds: float) -> list[Loop]:
    samples = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    return [Loop(samples, 0.0) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_every_packet_has_its_lag_and_the_rest_is_committed_at_the_end(count: int) -> None:
    listener, streams = Listener(took_s=0.1), loops(count, 5.0)

    run(streams, listener.transcribe, listener.clock, listener.sleep)

    for one in streams:
        assert len(one.lag_s) == 50
        assert min(one.lag_s) > 0
        assert max(one.lag_s) <= UPDATE_S + 0.1 * count + 1e-6
        assert one.committed == ["w0", "w1", "w2", "w3", "w4", "open"]


def test_words_are_committed_once_two_updates_agree() -> None:
    listener, (one,) = Listener(took_s=0.0), loops(1, 5.0)
    listener.now_s = 1.0

    one.update(listener.transcribe, listener.clock)
    assert one.committed == []
    listener.now_s = 2.0
    one.update(listener.transcribe, listener.clock)
    assert one.committed == ["w0"]


def test_a_buffer_is_closed_at_its_limit_and_a_new_one_begun() -> None:
    listener, (one,) = Listener(took_s=0.0), loops(1, MOST_BUFFER_S + 2)

    run([one], listener.transcribe, listener.clock, listener.sleep)

    words = [f"w{second}" for second in range(int(MOST_BUFFER_S))]
    assert one.committed == [*words, "open", "w0", "w1", "open"]


def test_more_than_it_keeps_up_with_falls_behind() -> None:
    listener, streams = Listener(took_s=0.4), loops(4, 10.0)

    run(streams, listener.transcribe, listener.clock, listener.sleep)

    assert max(lag_s for one in streams for lag_s in one.lag_s) > 2 * UPDATE_S
