"""What one paced stream is told and when; and what many of them come to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PACKET_S = 0.1
PERCENTILES = (50, 95, 99)
_TOLERANCE_S = 1e-3  # times in messages are rounded to milliseconds


class StreamLog:
    """Times of one stream.

    Args:
        start_s: clock time of its first sample.
        num_packets: that it sends.
        settled_s: seconds of the stream, from its start, whose delays do not count.
    """

    def __init__(self, start_s: float, num_packets: int, settled_s: float = 0.0) -> None:
        self._start_s = start_s
        self._settled_s = settled_s
        self.num_packets = num_packets
        self._covered = 0
        self._captioned: set[int] = set()
        self.lag_s: list[float] = []
        self.first_partial_s: list[float] = []
        self.final_s: list[float] = []
        self.layers: list[float] = []
        self.client_late_s: list[float] = []
        self.errors: list[str] = []
        self.dropped_s = 0.0

    @property
    def unanswered(self) -> int:
        """Packets that no message has taken into account."""
        return self.num_packets - self._covered

    def due_s(self, packet: int) -> float:
        """When a packet's last sample has been spoken, and the packet leaves."""
        return self._start_s + (packet + 1) * PACKET_S

    def take(self, message: Mapping[str, Any], now_s: float) -> None:
        """Take a message of the server's."""
        kind = message["type"]
        if kind == "error":
            self.fail(str(message["code"]))
        elif kind == "warning":
            self.dropped_s += message["end"] - message["start"]
        elif kind in {"partial", "final", "lag"}:
            self._cover(message["end"], now_s)
            if kind != "lag":
                self._caption(message, now_s)

    def fail(self, reason: str) -> None:
        """Note what went wrong."""
        self.errors.append(reason)

    def _cover(self, end_s: float, now_s: float) -> None:
        while self._covered < self.num_packets:
            if (self._covered + 1) * PACKET_S > end_s + _TOLERANCE_S:
                return
            if self._covered * PACKET_S >= self._settled_s:
                self.lag_s.append(now_s - self.due_s(self._covered))
            self._covered += 1

    def _caption(self, message: Mapping[str, Any], now_s: float) -> None:
        settled = message["start"] >= self._settled_s
        if message["type"] == "final":
            if settled:
                self.final_s.append(now_s - self._start_s - message["end"])
            if message["layers"]:
                self.layers.append(message["layers"])
        elif message["text"] and message["utt"] not in self._captioned:
            self._captioned.add(message["utt"])
            if settled:
                self.first_partial_s.append(now_s - self._start_s - message["start"])


def summarise(logs: Sequence[StreamLog], *, audio_s: float) -> dict[str, object]:
    """Give the figures of all streams together.

    Returns:
        lag_s: from when a packet was due to the first message that takes it into account.
        first_partial_s: from an utterance's start, as the server states it, to its first words.
        final_s: from the last audio that a final takes into account, its pause included, to it.
        unanswered_packets: that no message took into account; they are in no lag.
    """
    layers = [value for log in logs for value in log.layers]
    return {
        "audio_s": audio_s,
        "lag_s": _percentiles([value for log in logs for value in log.lag_s]),
        "first_partial_s": _percentiles([value for log in logs for value in log.first_partial_s]),
        "final_s": _percentiles([value for log in logs for value in log.final_s]),
        "client_late_s": _percentiles([value for log in logs for value in log.client_late_s]),
        "finals": sum(len(log.final_s) for log in logs),
        "mean_layers": round(float(np.mean(layers)), 3) if layers else None,
        "errors": [reason for log in logs for reason in log.errors],
        "dropped_s": round(sum(log.dropped_s for log in logs), 3),
        "unanswered_packets": sum(log.unanswered for log in logs),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = np.percentile(values, PERCENTILES)
    return {f"p{p}": round(float(v), 4) for p, v in zip(PERCENTILES, found, strict=True)}
