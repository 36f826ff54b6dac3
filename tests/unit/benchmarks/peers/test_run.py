import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.corpus import SAMPLE_RATE_HZ, Utterance
from benchmarks.peers.base import Samples, Setting
from benchmarks.peers.run import measure_peer, warm_up


class SteadyPeer:
    """A peer that always hears the same two words."""

    def __init__(self) -> None:
        self.num_calls = 0

    @property
    def name(self) -> str:
        return "steady"

    @property
    def config(self) -> Mapping[str, Setting]:
        return {"engine": "none", "threads": 1}

    def transcribe(self, samples: Samples) -> str:
        assert samples.size
        self.num_calls += 1
        return "Two words."


def utterance(folder: Path, name: str, reference: str) -> Utterance:
    path = folder / f"{name.replace('/', '-')}.wav"
    soundfile.write(path, np.zeros(SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    return Utterance(name, path, 1.0, "ann", reference)


def test_each_set_gets_a_row_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    utterances = [
        utterance(tmp_path, "near/a", "two words"),
        utterance(tmp_path, "near/b", "TWO OTHER"),
        utterance(tmp_path, "silent/c", ""),
    ]

    measured = list(measure_peer(SteadyPeer(), utterances, repeats=2))

    (near, near_texts), (silent, _) = measured
    assert near["set"] == "near"
    assert near["utterances"] == len(near_texts) == 2
    assert near["audio_s"] == 2.0
    assert json.loads(json.dumps(near))["wer"]["wer"] == 0.25
    assert near["peer_config"] == {"engine": "none", "threads": 1}
    assert silent["wer"] is None
    assert "25.00" in capsys.readouterr().out


def test_warming_up_transcribes_without_leaving_a_row(tmp_path: Path) -> None:
    peer = SteadyPeer()

    warm_up(peer, utterance(tmp_path, "near/a", ""), times=3)

    assert peer.num_calls == 3
