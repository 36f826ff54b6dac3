"""A file of hours sent to a server: its memory over time, its speed, and whether cuts lose words.

    python -m benchmarks.long_file --speech MANIFEST... --hours 3 > benchmarks/results/long-file_X.json

The file is made of a corpus' recordings with pauses between them, in an order drawn once, over and
over until it is long enough. Its words are compared with the transcripts a stretch of twenty
recordings at a time (their times say which stretch); the same is done with what the server says to
each recording sent by itself, so the ratio of the two is what joining, cutting into windows and the
gate cost.
"""

import argparse
import http.client
import io
import json
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.capacity_server import PinnedServer
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document
from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.text.wer import WordErrors, normalised_word_errors, paired_ratio_interval, total
from model_store.training.manifest import Utterance, read_manifest

RECORDINGS_PER_STRETCH = 20
"""Few stretches begin and end within earshot of a word that is timed on the wrong side."""
PAUSES_S = (0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.5)
SAMPLED_EVERY_S = 1.0
PATIENCE_S = 7200.0


@dataclass(frozen=True, slots=True)
class Part:
    """A recording and where its share of the file ends, the pause behind it included."""

    utterance: Utterance
    end_s: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was said in some recordings on end, as written down and as heard one by one."""

    transcript: str
    alone: str
    end_s: float

    @classmethod
    def of(cls, parts: Sequence[Part], alone: Mapping[Path, str]) -> "Stretch":
        """Join recordings that follow each other."""
        return cls(
            " ".join(part.utterance.transcript for part in parts),
            " ".join(alone[part.utterance.path] for part in parts),
            parts[-1].end_s,
        )


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--drop", type=float, default=0.5)
    parser.add_argument("--server-core", type=int, default=0)
    options = parser.parse_args()
    corpus = [item for manifest in options.speech for item in read_manifest(manifest)]
    file, parts = joined(corpus, options.hours * 3600)
    with PinnedServer(options.server_core, {"ASR_MAX_REQUEST_S": str(PATIENCE_S)}) as server:
        alone = {
            item.path: sent(server, item.path.read_bytes(), options)["text"] for item in corpus
        }
        memory = MemoryLog(server)
        before_s, began_s = server.cpu_s(), time.monotonic()
        with memory:
            answer = sent(server, file, options)
        wall_s, cpu_s = time.monotonic() - began_s, server.cpu_s() - before_s
    stretches = [
        Stretch.of(parts[start : start + RECORDINGS_PER_STRETCH], alone)
        for start in range(0, len(parts), RECORDINGS_PER_STRETCH)
    ]
    errors = errors_by_stretch(stretches, answer["words"])
    same = [normalised_word_errors(stretch.transcript, stretch.alone) for stretch in stretches]
    low, high = paired_ratio_interval(errors, same)
    audio_s = parts[-1].end_s
    row: dict[str, object] = {
        "audio_s": round(audio_s, 1),
        "file_bytes": len(file),
        "parts": len(parts),
        "recordings": len(corpus),
        "wall_s": round(wall_s, 1),
        "audio_s_per_wall_s": round(audio_s / wall_s, 1),
        "server_cpu_s": round(cpu_s, 1),
        "layers": answer["layers"],
        "memory_bytes": memory.summary(),
        "wer_alone": total(same).rate,
        "wer_in_file": total(errors).rate,
        "errors_alone": asdict(total(same)),
        "errors_in_file": asdict(total(errors)),
        "ratio": total(errors).rate / max(1e-9, total(same).rate),
        "ratio_interval_95": [low, high],
    }
    sys.stderr.write(f"{row}\n")
    run = Run(
        benchmark="long-file",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={
            "speech": [manifest.parent.name for manifest in options.speech],
            "drop": options.drop,
            "pauses_s": PAUSES_S,
            "format": "Ogg Opus",
            "server_core": options.server_core,
        },
        warm_up=len(corpus),
        repeats=1,
    )
    sys.stdout.write(f"{json.dumps(document(run, [row]))}\n")


def joined(corpus: Sequence[Utterance], seconds: float) -> tuple[bytes, list[Part]]:
    """Give an Ogg Opus file of a corpus' recordings, and where each of them ends."""
    drawn = random.Random(7)
    file, parts, order = io.BytesIO(), list[Part](), list[Utterance]()
    end_s = 0.0
    with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, 1, format="OGG", subtype="OPUS") as writer:
        while end_s < seconds:
            order = order or drawn.sample(corpus, len(corpus))
            utterance = order.pop()
            pause_S = np.zeros(round(drawn.choice(PAUSES_S) * SAMPLE_RATE_HZ), np.float32)
            samples_S: npt.NDArray[np.float32] = read_audio(utterance.path)
            for piece_S in (samples_S, pause_S):
                writer.write(piece_S)
                end_s += len(piece_S) / SAMPLE_RATE_HZ
            parts.append(Part(utterance, end_s))
    return file.getvalue(), parts


def errors_by_stretch(
    stretches: Sequence[Stretch], words: Sequence[Mapping[str, Any]]
) -> list[WordErrors]:
    """Compare each stretch with the words whose middle lies in its share of the file."""
    ends_s = [stretch.end_s for stretch in stretches]
    said: list[list[str]] = [[] for _ in stretches]
    for word in words:
        place = int(np.searchsorted(ends_s, (word["start"] + word["end"]) / 2))
        said[min(place, len(stretches) - 1)].append(word["word"])
    return [
        normalised_word_errors(stretch.transcript, " ".join(its))
        for stretch, its in zip(stretches, said, strict=True)
    ]


class MemoryLog:
    """Notes a server's memory each second while it is entered.

    Args:
        server: whose.
    """

    def __init__(self, server: PinnedServer) -> None:
        self._server = server
        self._bytes: list[int] = []
        self._done = threading.Event()
        self._noting = threading.Thread(target=self._note)

    def __enter__(self) -> None:
        self._noting.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._noting.join()

    def summary(self) -> dict[str, int]:
        """Give the most in each tenth of the time: flat, or not."""
        tenths = np.array_split(self._bytes, 10)
        return {f"tenth_{place}": int(tenth.max()) for place, tenth in enumerate(tenths, 1)}

    def _note(self) -> None:
        while not self._done.wait(SAMPLED_EVERY_S):
            self._bytes.append(self._server.memory_bytes())


def sent(server: PinnedServer, file: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Send a file and give the answer.

    Raises:
        SystemExit: it is an error.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        query = f"drop={options.drop}&format=verbose_json"
        headers = {"Content-Type": "audio/ogg"}
        connection.request("POST", f"/transcribe?{query}", body=file, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise SystemExit(f"expected a transcript, got {answer.status}: {body[:300]!r}")
    return json.loads(body)


if __name__ == "__main__":
    main()
