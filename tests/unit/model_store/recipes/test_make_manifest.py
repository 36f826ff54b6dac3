from pathlib import Path

import numpy as np
import soundfile

from model_store.recipes.make_manifest import librispeech, tedlium
from model_store.training.manifest import read_manifest, write_manifest


def test_librispeech_folders_become_a_manifest_with_paths_below_it(tmp_path: Path) -> None:
    chapter = tmp_path / "train-clean-100" / "103" / "1240"
    chapter.mkdir(parents=True)
    soundfile.write(chapter / "103-1240-0000.flac", np.zeros(16_000), 16_000)
    (chapter / "103-1240.trans.txt").write_text("103-1240-0000 CHAPTER ONE\n")

    found = list(librispeech(tmp_path / "train-clean-100"))
    write_manifest(found, tmp_path / "train-clean-100" / "manifest.tsv", "train")

    (item,) = read_manifest(tmp_path / "train-clean-100" / "manifest.tsv")
    assert item.transcript == "CHAPTER ONE"
    assert item.seconds == 1.0
    assert item.speaker == "103"
    assert item.path.is_file()


def test_tedlium_talks_are_cut_into_their_scored_segments(tmp_path: Path) -> None:
    for name in ("stm", "sph"):
        (tmp_path / name).mkdir()
    sound = np.linspace(0, 0.5, 48_000, dtype=np.float32)
    soundfile.write(tmp_path / "sph" / "Talk.sph", sound, 16_000, format="NIST", subtype="PCM_16")
    (tmp_path / "stm" / "Talk.stm").write_text(
        "Talk 1 Speaker 0.50 1.50 <o,f0,male> it 's <unk> here (2)\n"
        "Talk 1 inter 1.50 3.00 <o,f0,male> ignore_time_segment_in_scoring\n"
    )

    found = list(tedlium(tmp_path, tmp_path / "segments"))

    (item,) = found
    assert item.transcript == "it's here"
    cut, rate_hz = soundfile.read(item.path)
    assert len(cut) == rate_hz
    assert abs(cut[0] - sound[8_000]) < 1e-3
