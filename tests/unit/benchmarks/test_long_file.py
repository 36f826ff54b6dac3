"""A file made of recordings, and the words of it that belong to each."""

import argparse
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.capacity_server import PinnedServer
from benchmarks.long_file import Part, Stretch, errors_by_stretch, joined, sent
from model_store.text.wer import total
from model_store.training.manifest import Utterance

RATE_HZ = 16_000


def utterance(path: Path, transcript: str) -> Utterance:
    return Utterance(path.stem, path, 1.0, "somebody", transcript)


def said(text: str, start_s: float) -> dict[str, object]:
    return {"word": text, "start": start_s, "end": start_s + 0.2}


def test_a_file_is_as_long_as_its_parts_say(tmp_path: Path) -> None:
    corpus: list[Utterance] = []
    for name, seconds in (("one", 1.0), ("two", 1.7)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.full(round(seconds * RATE_HZ), 0.1, np.float32), RATE_HZ)
        corpus.append(utterance(path, name))

    file, parts = joined(corpus, 6.0)

    assert parts[-1].end_s >= 6.0 > parts[-2].end_s
    assert {part.utterance.path for part in parts[:2]} == {one.path for one in corpus}
    assert soundfile.info(io.BytesIO(file)).duration == pytest.approx(parts[-1].end_s, abs=0.01)


def test_words_belong_to_the_stretch_in_which_they_were_said(tmp_path: Path) -> None:
    parts = [
        Part(utterance(tmp_path / "a", "good"), 1.0),
        Part(utterance(tmp_path / "b", "morning"), 2.0),
        Part(utterance(tmp_path / "c", "to all of you"), 5.0),
    ]
    alone = {part.utterance.path: part.utterance.transcript for part in parts}
    stretches = [Stretch.of(parts[:2], alone), Stretch.of(parts[2:], alone)]
    words = [said("good", 0.1), said("morning", 1.8), said("to", 2.5), said("all", 3.0)]

    whole = errors_by_stretch(stretches, [*words, said("of", 3.5), said("you", 5.1)])
    lost = errors_by_stretch(stretches, words)
    doubled = errors_by_stretch(stretches, [words[0], words[1], words[1], *words[2:]])

    assert stretches[0] == Stretch("good morning", "good morning", 2.0)
    assert total(whole).errors == 0
    assert [one.deletions for one in lost] == [0, 2]
    assert [one.insertions for one in doubled] == [1, 0]


def test_an_answer_that_is_an_error_ends_the_measurement() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

    with HTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        server = PinnedServer(0, {})
        server.port = refusing.server_port
        answering = threading.Thread(target=refusing.handle_request)
        answering.start()
        with pytest.raises(SystemExit, match="expected a transcript, got 503"):
            sent(server, b"OggS", argparse.Namespace(drop="0.5"))
        answering.join()
