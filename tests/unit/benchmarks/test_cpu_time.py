import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.cpu_time import joined, main, user_seconds
from benchmarks.record import missing_keys
from tests.onnx_kit import Samples, windows, write_checkpoint


def test_clips_are_joined_and_cut_to_the_length() -> None:
    clips = [np.arange(3, dtype=np.float32), np.full(2, 9, np.float32)]

    assert joined(clips, 4 / 16_000).tolist() == [0, 1, 2, 9]
    with pytest.raises(SystemExit, match="expected clips of"):
        joined(clips, 6 / 16_000)


def test_time_is_what_hearing_took() -> None:
    def busy(samples: Samples) -> str:
        return str(sum(float(value) for value in samples))

    assert user_seconds(busy, np.ones(300_000, np.float32)) > 0


def test_every_budget_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "tiny", "moonshine")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, windows(12_000)[0], 16_000)

    main(
        [
            *("--model", str(folder), "--engine-cache", str(tmp_path / "cache")),
            *("--clip", str(clip), "--seconds", "0.7", "--repeats", "2"),
        ]
    )

    content = json.loads(capsys.readouterr().out)
    assert not missing_keys(content)
    names = [row["recogniser"] for row in content["results"]]
    assert [name.split()[-1] for name in names] == ["1,1,1", "2,2,2", "4,4,4", "8,8,8"]
    assert all(row["cpu_s_per_s"]["low"] >= 0 for row in content["results"])
