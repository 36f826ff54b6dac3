import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.engine.base import SAMPLE_RATE_HZ
from service.engine.sound import read_sound
from service.errors import AudioTooLong, AudioUndecodable
from tests.service_kit import wav_bytes

FOX = Path(__file__).parents[3] / "assets" / "fox.opus"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(1.0, rate_hz=48_000))
    return path


def test_a_file_of_any_rate_is_read_at_16_khz(recording: Path) -> None:
    samples = np.concatenate(list(read_sound(recording, max_s=math.inf)))

    assert samples.dtype == np.float32
    assert abs(len(samples) - SAMPLE_RATE_HZ) <= 1


def test_compressed_speech_is_read() -> None:
    samples = np.concatenate(list(read_sound(FOX, max_s=math.inf)))

    assert len(samples) > 4 * SAMPLE_RATE_HZ
    assert np.abs(samples).max() > 0.1


def test_errors_are_those_of_the_service(tmp_path: Path, recording: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")

    with pytest.raises(AudioUndecodable):
        list(read_sound(broken, max_s=math.inf))
    with pytest.raises(AudioTooLong):
        list(read_sound(recording, max_s=0.5))


def test_a_client_loads_no_torch() -> None:
    probe = "import sys, service.cli.stream; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
