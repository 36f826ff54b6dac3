"""What tests of streams stand on: sound, a session driven round by round, a server with real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from service.api.listener import server_config
from service.api.stream_messages import ServerMessage, server_messages
from service.app import Service, create_service
from service.cli.serve import DrainingServer
from service.engine.base import Cost, DepthChoice, Engine, LiveInput, LiveOutput
from service.engine.fake import FakeEngine
from service.errors import ServiceError
from service.metrics import create_metrics
from service.scheduling.depth import DropDecider, deepest
from service.scheduling.live import Round
from service.scheduling.live_load import LiveLoad
from service.settings import Settings
from service.streaming.backing import Backing
from service.streaming.commands import Command, Gap, Packet, Stop, StreamConfig
from service.streaming.events import Event, Final, Partial
from service.streaming.inbox import Inbox
from service.streaming.measures import StreamMeasures
from service.streaming.outbox import Outbox
from service.streaming.session import Session
from tests.service_kit import PATIENCE_S, FakeClock, until

RATE_HZ = 16_000
LOUD = 0.1
T = TypeVar("T")


def sound(*parts: tuple[float, float], rate_hz: int = RATE_HZ) -> bytes:
    """Stretches of a tone as 16-bit samples: (seconds, peak), silence at peak 0."""
    stretches = [
        np.sin(np.arange(round(duration_s * rate_hz)) * (1_600 / rate_hz)) * peak * 32_767
        for duration_s, peak in parts
    ]
    return np.concatenate(stretches).astype("<i2").tobytes()


def one_sentence(speech_s: float = 2.0) -> bytes:
    """Speech between two silences, the last one long enough to end it."""
    return sound((0.5, 0.0), (speech_s, LOUD), (1.0, 0.0))


def packets(pcm: bytes, num_bytes: int = 3_200) -> Iterator[bytes]:
    return (pcm[at : at + num_bytes] for at in range(0, len(pcm), num_bytes))


def config(**changes: Any) -> StreamConfig:
    return replace(StreamConfig(choice=DepthChoice(0.0)), **changes)


class SlowlyWriting(FakeEngine):
    """Writes an utterance's last words some steps after the one that ends it, as real ones may."""

    def __init__(self, steps_later: int, **options: Any) -> None:
        super().__init__(**options)
        self.num_put_off = 0
        self._steps_later = steps_later
        self._written: dict[int, tuple[int, LiveOutput]] = {}

    def step(self, inputs: Sequence[LiveInput]) -> Sequence[LiveOutput]:
        return [self._step(one) for one in inputs]

    def _step(self, one: LiveInput) -> LiveOutput:
        key = id(one.utterance)
        if key in self._written:
            assert one.ends, "expected to go on with an end"
            assert not len(one.samples), "expected no samples behind the end"
            left, output = self._written.pop(key)
        else:
            (output,) = super().step([one])
            left = self._steps_later
        if not (one.ends and left):
            return output
        self._written[key] = left - 1, replace(output, cost=Cost())
        self.num_put_off += 1
        return replace(output, words=(), stable_words=0, done=False)


class Rig:
    """One session on the fake engine; a round runs when a test says so."""

    def __init__(
        self,
        begin: StreamConfig | None = None,
        engine: Engine | None = None,
        decide: DropDecider = deepest,
        *,
        two_pass: bool = False,
    ) -> None:
        self.clock = FakeClock()
        self.engine = engine or FakeEngine(sleep=self.spend)
        self.info = self.engine.load()
        self.registry = CollectorRegistry()
        self.inbox = Inbox(10**9)
        self.outbox = Outbox()
        self.load = LiveLoad()
        self.events: list[Event] = []
        measures = StreamMeasures(create_metrics(self.registry), self.info)
        backing = Backing(self.engine, self.info, decide, measures, two_pass)
        self.session = Session(begin or config(), self.inbox, self.outbox, backing)

    def spend(self, seconds: float) -> None:
        self.clock.now_s += seconds

    def run(self) -> None:
        """Do rounds until there is nothing more to do."""
        while self.session.has_news:
            self.round()

    def round(self) -> None:
        Round([self.session], [self.session]).run(self.engine, self.clock, self.load)
        self.session.publish()
        self.events += [one for one in self.outbox._waiting if not isinstance(one, ServiceError)]
        self.outbox._waiting.clear()

    def say(self, pcm: bytes) -> None:
        self.inbox.put(Packet(pcm, self.clock.now_s))

    def tell(self, *commands: Command | Gap) -> None:
        for command in commands:
            self.inbox.put(command)
        self.run()

    def play(self, pcm: bytes, packet_bytes: int = 3_200, *, bytes_per_s: int = 32_000) -> None:
        """Send at the pace of the sound, a round behind each packet."""
        for packet in packets(pcm, packet_bytes):
            self.clock.now_s += len(packet) / bytes_per_s
            self.say(packet)
            self.run()

    def all(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finals(self) -> list[Final]:
        return self.all(Final)

    @property
    def partials(self) -> list[Partial]:
        return self.all(Partial)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def mean(self, name: str) -> float:
        """The mean of a histogram that has observations."""
        total, count = self.sample(f"{name}_sum"), self.sample(f"{name}_count")
        assert count, f"expected observations of {name}, got none"
        assert total is not None
        return total / count


def played(pcm: bytes, packet_bytes: int = 3_200, rig: Rig | None = None) -> Rig:
    """Play a sound to its end, and stop."""
    rig = rig or Rig()
    rig.play(pcm, packet_bytes)
    rig.tell(Stop())
    return rig


@dataclass
class Served:
    """A service on a port of this process."""

    service: Service
    server: DrainingServer
    registry: CollectorRegistry
    port: int
    clients: list["Client"] = field(default_factory=list["Client"])

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def connect(self, query: str = "", **options: Any) -> "Client":
        uri = f"ws://127.0.0.1:{self.port}/v1/stream?{query}"
        socket = await connect(uri, compression=None, ping_interval=None, **options)
        client = Client(socket)
        self.clients.append(client)
        return client

    async def transcribe(self, pcm: bytes, query: str = "drop=0") -> "Client":
        """Stream a sound as fast as it goes and read to the end."""
        client = await self.connect(query)
        await client.send(*packets(pcm), {"type": "stop"})
        await client.read_to_end()
        return client


class Client:
    """A client that keeps what it is sent, each message checked against its schema."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[ServerMessage] = []
        self._schema = server_messages()

    async def send(self, *frames: bytes | str | dict[str, Any]) -> None:
        for frame in frames:
            await self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def read(self) -> ServerMessage:
        async with asyncio.timeout(PATIENCE_S):
            text = await self.socket.recv()
        assert isinstance(text, str), "expected text, got bytes"
        self.messages.append(self._schema.validate_json(text, strict=True))
        return self.messages[-1]

    async def read_until(self, kind: str) -> Any:
        """Read up to the next message of a type."""
        while (message := await self.read()).type != kind:
            pass
        return message

    async def read_to_end(self) -> int | None:
        """Read until the connection closes and give the code."""
        try:
            while True:
                await self.read()
        except ConnectionClosed:
            return self.socket.close_code

    def all(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.type == kind]

    @property
    def text(self) -> str:
        return " / ".join(final.text for final in self.all("final"))


@asynccontextmanager
async def serving(engine: Engine | None = None, **settings: Any) -> AsyncGenerator[Served]:
    """Serve on a free port, in this loop, on the fake engine unless told otherwise."""
    registry = CollectorRegistry()
    read = Settings(port=0, **settings)
    # On a thread, as it is built before the loop runs: it reads its version from the disk.
    service = await asyncio.to_thread(
        create_service, read, engine or FakeEngine(), registry, time.monotonic
    )
    server = DrainingServer(
        server_config(service.app, read), service.admission, read.shutdown_grace_s
    )
    running = asyncio.create_task(server.serve_until(asyncio.Event()))
    await until(lambda: server.started)
    await until(lambda: service.admission.phase.value != "loading")
    served = Served(service, server, registry, server.servers[0].sockets[0].getsockname()[1])
    try:
        yield served
    finally:
        for client in served.clients:
            client.socket.transport.abort()
        server.should_exit = True
        await running


def words_of(finals: Sequence[Final]) -> list[str]:
    return [word.text for final in finals for word in final.words]
