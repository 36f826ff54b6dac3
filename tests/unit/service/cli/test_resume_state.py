"""Whatever breaks: all speech is in one final, and what is not is said to be missing."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cli.resume_state import KEPT_S, Message, Missing, Resumption

RATE_HZ = 100
PACKET_SAMPLES = 10
ENDPOINTING_SAMPLES = 50


def pcm(start: int, end: int) -> bytes:
    """Samples that are their own positions."""
    return struct.pack(f"<{end - start}h", *range(start, end))


def positions(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


@dataclass
class ServerModel:
    """Keeps to the protocol: speech is in a final once a silence behind it has been heard.

    Args:
        query: of the connection.
        is_speech: what is spoken, by position in the stream.
    """

    query: dict[str, str]
    is_speech: Sequence[bool]
    told: list[Message] = field(default_factory=list[Message])
    heard: int = 0
    leaving: str = ""
    stopping: bool = False
    is_done: bool = False
    utterance: list[int] = field(default_factory=list[int])
    voice_end: int = 0

    def __post_init__(self) -> None:
        self.heard = round(float(self.query.get("start_s", "0")) * RATE_HZ)
        self.seq = int(self.query.get("seq", "0"))
        self.utt = int(self.query.get("utt", "0"))
        self.tell("ready", start_s=self.heard / RATE_HZ, utt=self.utt, limits={"max_buffer_s": 6})

    def tell(self, kind: str, **message: object) -> None:
        self.told.append({"type": kind, "seq": self.seq, **message})
        self.seq += 1

    def take(self, sound: bytes) -> None:
        for position in positions(sound):
            if self.is_done:
                return
            assert position == self.heard, "expected sound without holes"
            self.heard += 1
            if self.is_speech[position]:
                self.utterance.append(position)
                self.voice_end = self.heard
            elif self.utterance and self.heard - self.voice_end >= ENDPOINTING_SAMPLES:
                self.final()
            if self.heard % 40 == 0:
                accepted = self.utterance[0] if self.utterance else self.heard
                self.tell("lag", end=self.heard / RATE_HZ, accepted=accepted / RATE_HZ)
            self.leave_at_a_pause()

    def final(self) -> None:
        end = self.heard / RATE_HZ
        self.tell("final", utt=self.utt, end=end, text="", heard=self.utterance)
        self.utt += 1
        self.utterance = []

    def leave(self, reason: str) -> None:
        self.leaving = reason
        self.leave_at_a_pause()

    def leave_at_a_pause(self) -> None:
        if self.leaving and not self.utterance and not self.is_done:
            self.done(self.leaving)

    def done(self, reason: str) -> None:
        if self.utterance:
            self.final()
        self.tell("done", reason=reason, end=self.heard / RATE_HZ)
        self.is_done = True


@dataclass
class World:
    """A client that never sleeps, and servers that come and go."""

    is_speech: Sequence[bool]
    client: Resumption = field(default_factory=lambda: Resumption(RATE_HZ))
    server: ServerModel | None = None
    spoken: int = 0
    finals: list[Message] = field(default_factory=list[Message])
    seqs: list[int] = field(default_factory=list[int])
    missing: list[Missing] = field(default_factory=list[Missing])
    queries: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def speak(self, num_packets: int) -> None:
        for _ in range(num_packets):
            end = min(self.spoken + PACKET_SAMPLES, len(self.is_speech))
            self.client.hear(pcm(self.spoken, end))
            self.spoken = end

    def connect(self) -> None:
        if self.server is None:
            self.queries.append(self.client.opening(0.0))
            self.server = ServerModel(self.queries[-1], self.is_speech)

    def talk(self, num_turns: int) -> None:
        """Let sound and messages pass, a packet and a message at a time."""
        for _ in range(num_turns):
            server = self.server
            if server is None:
                return
            if self.client.is_slow:
                self.lose()
                return
            packet = self.client.packet()
            if packet is not None:
                server.take(packet)
            if server.told:
                self.read(server.told.pop(0))
            elif packet is None:
                return

    def read(self, message: Message) -> None:
        missing = self.client.take(message, 0.0)
        if missing is not None:
            self.missing.append(missing)
        self.seqs.append(message["seq"])
        if message["type"] == "final":
            self.finals.append(message)
        if message["type"] == "done":
            self.lose()

    def lose(self) -> None:
        self.client.lost()
        self.server = None

    def finish(self) -> None:
        self.speak(len(self.is_speech) // PACKET_SAMPLES + 1)
        while self.client.done_reason != "stop":
            self.connect()
            self.talk(10_000)
            if self.server is not None and self.client.all_sent and not self.server.is_done:
                self.server.done("stop")


SCENES = st.lists(
    st.tuples(st.integers(1, 600), st.booleans()),
    min_size=1,
    max_size=12,
).map(lambda runs: [speech for length, speech in runs for _ in range(length)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["speak", "talk"]), st.integers(1, 120)),
        st.tuples(st.sampled_from(["connect", "fail", "crash", "drain", "move"]), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(SCENES, STEPS)
def test_whatever_breaks_all_speech_is_in_one_final_or_said_to_be_missing(
    is_speech: list[bool], steps: list[tuple[str, int]]
) -> None:
    world = World(is_speech)
    for kind, number in steps:
        if kind == "speak":
            world.speak(number)
        elif kind == "talk":
            world.talk(number)
        elif kind == "connect":
            world.connect()
        elif kind == "fail" and world.server is None:
            world.client.opening(0.0)
            world.client.lost()
        elif kind == "crash" and world.server is not None:
            world.lose()
        elif world.server is not None and kind in ("drain", "move"):
            world.server.leave(kind)
    world.finish()

    heard = [position for final in world.finals for position in final["heard"]]
    lost = {
        position
        for gap in world.missing
        for position in range(round(gap.start_s * RATE_HZ), round(gap.end_s * RATE_HZ))
    }
    assert len(set(heard)) == len(heard), "expected nothing twice"
    spoken = {position for position, speech in enumerate(is_speech) if speech}
    assert spoken - lost <= set(heard)
    assert not lost & set(heard)
    assert heard == sorted(heard)
    assert [final["utt"] for final in world.finals] == list(range(len(world.finals)))
    assert world.seqs == list(range(len(world.seqs)))
    if len(is_speech) <= KEPT_S * RATE_HZ:
        assert not lost


def opened(client: Resumption, *messages: Message) -> dict[str, str]:
    query = client.opening(0.0)
    for message in ({"type": "ready"}, *messages):
        client.take(message, 0.0)
    return query


def test_a_stream_that_begins_says_only_that_it_can_go_on() -> None:
    assert Resumption().opening(5.0) == {"resumes": "true"}


def test_the_next_connection_is_told_how_the_last_one_ended() -> None:
    client = Resumption(RATE_HZ)
    client.hear(pcm(0, 500))
    opened(client, {"type": "done", "reason": "move", "end": 2.5, "seq": 9})
    client.lost()

    assert client.opening(1.5) == {
        "resumes": "true",
        "after": "move",
        "start_s": "2.5",
        "utt": "0",
        "seq": "10",
        "moved_s": "1.500",
    }


def test_a_move_is_remembered_over_a_loss() -> None:
    client = Resumption(RATE_HZ)
    opened(client, {"type": "done", "reason": "drain", "end": 0.0, "seq": 3})
    client.lost()
    opened(client, {"type": "lag", "end": 0.0, "accepted": 0.0, "seq": 5})
    client.lost()

    query = client.opening(60.0)
    assert (query["after"], query["moved_s"]) == ("lost", "60.000")


def test_tries_that_come_to_nothing_change_nothing() -> None:
    client = Resumption(RATE_HZ)
    opened(client, {"type": "done", "reason": "drain", "end": 0.0, "seq": 3})
    client.lost()
    client.opening(1.0)
    client.lost()

    assert client.opening(2.0)["after"] == "drain"


def test_what_a_connection_was_asked_to_begin_with_is_kept_until_it_does() -> None:
    client = Resumption(RATE_HZ)
    client.hear(pcm(0, 500))
    client.opening(0.0)
    for at in range(500, 6_000, 100):
        client.hear(pcm(at, at + 100))

    assert client.take({"type": "ready"}, 0.0) is None
    assert positions(client.packet() or b"")[0] == 0


def test_no_more_is_sent_ahead_than_the_server_holds() -> None:
    client = Resumption(RATE_HZ)
    for at in range(0, 2_000, 100):
        client.hear(pcm(at, at + 100))
    opened(client, {"type": "ready", "limits": {"max_buffer_s": 6.0}})
    sent = [packet for packet in iter(client.packet, None) if packet]

    assert sum(map(len, sent)) // 2 == 400
    assert client.awaits_answer
    client.take({"type": "lag", "end": 1.0, "accepted": 0.0}, 0.0)
    assert positions(client.packet() or b"")[0] == 400


def test_a_line_slower_than_the_sound_is_given_up() -> None:
    client = Resumption(RATE_HZ)
    opened(client)
    for at in range(0, 4_000, 100):
        client.hear(pcm(at, at + 100))

    assert client.is_slow
    assert client.packet() is None
    client.lost()
    client.opening(0.0)
    assert client.take({"type": "ready"}, 0.0) == Missing(0.0, 10.0)
    assert client.owed_s == KEPT_S


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "ready", "utt": 2}, "expected utt 1 to follow, got 2"),
        ({"type": "ready", "seq": 0}, "expected seq 8 to follow, got 0"),
        ({"type": "ready", "start_s": 0.0}, "expected a stream that goes on at 1.5 s, got 0.0"),
    ],
)
def test_a_server_that_does_not_go_on_is_found_out(message: Message, expected: str) -> None:
    client = Resumption(RATE_HZ)
    client.hear(pcm(0, 500))
    opened(client, {"type": "final", "utt": 0, "end": 1.5, "seq": 7})
    client.lost()
    client.opening(0.0)

    with pytest.raises(ConnectionError, match=expected):
        client.take(message, 0.0)


def test_sound_is_whole_samples() -> None:
    with pytest.raises(AssertionError, match="expected whole samples"):
        Resumption().hear(b"abc")
