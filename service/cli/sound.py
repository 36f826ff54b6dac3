"""Sound to stream: a file at the speed at which it was spoken, or the microphone. Packets of PCM."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from service.engine.base import SAMPLE_RATE_HZ, Samples

if TYPE_CHECKING:
    from types import ModuleType

PACKET_S = 0.1
PACKET_SAMPLES = SAMPLE_RATE_HZ // 10
MAX_WAITING_PACKETS = 600
"""A minute of microphone that a slow line has not taken; what comes then is lost."""


def pcm_packets(blocks: Iterable[Samples]) -> Iterator[bytes]:
    """Cut samples into packets of 16-bit little-endian PCM; only the last may be shorter."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // PACKET_SAMPLES * PACKET_SAMPLES
        for at in range(0, whole, PACKET_SAMPLES):
            yield _pcm(rest[at : at + PACKET_SAMPLES])
        rest = rest[whole:]
    if len(rest):
        yield _pcm(rest)


async def paced(
    packets: Iterator[bytes],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[bytes]:
    """Give each packet at the moment its last sample would have been spoken.

    Counted from the start, not from the packet before: what one wait is too long, the next ones
    are shorter.
    """
    started_s, spoken_s = clock(), 0.0
    # Decoding may take a while, and the connection has to be served meanwhile.
    while (packet := await asyncio.to_thread(next, packets, b"")) != b"":
        spoken_s += len(packet) / 2 / SAMPLE_RATE_HZ
        await sleep(max(0.0, started_s + spoken_s - clock()))
        yield packet


async def microphone(stopping: asyncio.Event) -> AsyncGenerator[bytes]:
    """Give what the default microphone hears, until the event is set.

    Raises:
        OSError: there is no microphone, or nothing that could open it.
    """
    sounddevice = _sounddevice()
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING_PACKETS)

    def keep(packet: bytes) -> None:
        with suppress(asyncio.QueueFull):
            heard.put_nowait(packet)

    def hear(data: memoryview, *_status: object) -> None:
        loop.call_soon_threadsafe(keep, bytes(data))

    try:
        stream = sounddevice.RawInputStream(
            samplerate=SAMPLE_RATE_HZ,
            blocksize=PACKET_SAMPLES,
            channels=1,
            dtype="int16",
            callback=hear,
        )
    except sounddevice.PortAudioError as error:
        raise OSError("expected a microphone, got none that opens at 16 kHz") from error
    with stream:
        async for packet in _until(stopping, heard):
            yield packet


async def _until(stopping: asyncio.Event, heard: asyncio.Queue[bytes]) -> AsyncGenerator[bytes]:
    ended = asyncio.create_task(stopping.wait())
    try:
        while not stopping.is_set():
            getting = asyncio.create_task(heard.get())
            await asyncio.wait({getting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
            else:
                getting.cancel()
    finally:
        ended.cancel()


def _sounddevice() -> "ModuleType":
    try:
        import sounddevice  # pyright: ignore[reportMissingImports] optional: a system library
    except ImportError as error:
        raise OSError(
            "expected the Python package sounddevice for the microphone, got none: "
            "pip install sounddevice"
        ) from error
    except OSError as error:  # the package is there, the C library it loads is not
        raise OSError(
            "expected the library PortAudio for the microphone, got none: "
            "on Debian, apt-get install libportaudio2"
        ) from error
    return sounddevice


def _pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1.0, 1.0) * 32_767).round().astype("<i2").tobytes()
