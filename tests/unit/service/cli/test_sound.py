import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.sound import PACKET_S, PACKET_SAMPLES, microphone, paced, pcm_packets
from tests.service_kit import FakeClock


@given(st.lists(st.integers(0, 3 * PACKET_SAMPLES), max_size=6))
def test_packets_hold_all_samples_once_in_order(lengths: list[int]) -> None:
    whole = np.linspace(-1, 1, sum(lengths), dtype=np.float32)
    blocks = np.split(whole, np.cumsum(lengths))

    packets = list(pcm_packets(blocks))

    assert all(len(packet) == 2 * PACKET_SAMPLES for packet in packets[:-1])
    assert all(packets)
    heard = np.frombuffer(b"".join(packets), "<i2")
    assert np.array_equal(heard, (whole * 32_767).round())


def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    (packet,) = pcm_packets([np.array([2.0, -2.0], np.float32)])

    assert np.frombuffer(packet, "<i2").tolist() == [32_767, -32_767]


async def leave_times(waits_too_long_s: Callable[[int], float]) -> list[float]:
    clock, waited = FakeClock(), 0

    async def sleep(duration_s: float) -> None:
        nonlocal waited
        waited += 1
        clock.now_s += duration_s + waits_too_long_s(waited)

    packets = iter([bytes(2 * PACKET_SAMPLES)] * 5)
    return [clock.now_s async for _ in paced(packets, clock, sleep)]


async def test_a_packet_leaves_when_its_last_sample_has_been_spoken() -> None:
    times = await leave_times(lambda _: 0.0)

    assert times == pytest.approx([PACKET_S * number for number in range(1, 6)])


async def test_a_wait_that_was_too_long_is_made_good() -> None:
    times = await leave_times(lambda waited: 0.25 if waited == 2 else 0.0)

    assert times == pytest.approx([0.1, 0.45, 0.45, 0.45, 0.5])


class PortAudioError(Exception):
    pass


class Stream:
    """Stands for PortAudio: calls back from its start on, from a thread of its own."""

    def __init__(self, callback: Callable[..., None], **options: Any) -> None:
        self.options = options
        self._callback = callback

    def __enter__(self) -> "Stream":
        for number in range(3):
            packet = memoryview(bytes([number]) * 2 * PACKET_SAMPLES)
            self._callback(packet, PACKET_SAMPLES, None, None)
        return self

    def __exit__(self, *_error: object) -> None:
        return None


async def test_the_microphone_is_heard_until_the_event_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SimpleNamespace(RawInputStream=Stream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    stopping, heard = asyncio.Event(), bytearray()

    async for packet in microphone(stopping):
        heard.append(packet[0])
        if len(heard) == 3:
            stopping.set()

    assert heard == bytes([0, 1, 2])


async def test_a_microphone_that_says_nothing_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent(Stream):
        def __enter__(self) -> Stream:
            return self

    module = SimpleNamespace(RawInputStream=Silent, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_soon(stopping.set)

    assert [packet async for packet in microphone(stopping)] == []


async def test_a_microphone_that_does_not_open_is_an_os_error_of_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_options: object) -> None:
        raise PortAudioError("-9996")

    module = SimpleNamespace(RawInputStream=fail, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)

    with pytest.raises(OSError, match="expected a microphone, got none"):
        await anext(microphone(asyncio.Event()))


async def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    with pytest.raises(OSError, match="pip install sounddevice"):
        await anext(microphone(asyncio.Event()))
