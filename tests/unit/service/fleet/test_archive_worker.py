import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from service.engine.fake import FakeEngine
from service.fleet.archive_files import ArchiveFile
from service.fleet.archive_worker import SHALLOWEST, ArchiveWorker, Dial, Work
from service.settings import Settings
from tests.archive_kit import SETTINGS, archive_of
from tests.service_kit import running


@pytest.fixture
def worker() -> Generator[ArchiveWorker]:
    worker = ArchiveWorker(SETTINGS, Dial("ladder"))
    yield worker
    worker.close()


def test_work_goes_to_an_actor_as_a_line() -> None:
    work = Work(ArchiveFile("s3://b/ö.wav", "s3://k@b/", "b/ö.wav", 7), 1, 3, 0.25)

    assert Work.of_line(work.line()) == work
    assert "\n" not in work.line()
    assert json.loads(work.line())["of"] == 3


@pytest.mark.parametrize(
    ("drop", "layers"), [(None, 8.0), (0.0, 8.0), (0.5, 4.0), (0.9, 1.0), (SHALLOWEST, 1.0)]
)
def test_a_file_gets_the_depth_of_its_work(
    worker: ArchiveWorker, tmp_path: Path, drop: float | None, layers: float
) -> None:
    (file,) = archive_of(tmp_path / "in", 2)

    (part,) = worker.transcribed([Work(file, drop=drop)])

    assert (part.layers, part.error_code) == (layers, "")


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.875])
def test_words_and_cost_are_those_of_a_request(
    worker: ArchiveWorker, tmp_path: Path, drop: float
) -> None:
    (file,) = archive_of(tmp_path / "in", 20)
    upload = (tmp_path / "in" / "00.wav").read_bytes()

    async def ask() -> Any:
        async with running(FakeEngine()) as service:
            return (await service.transcribe(f"drop={drop}&format=verbose_json", upload)).json()

    (part,) = worker.transcribed([Work(file, drop=drop)])
    answer = asyncio.run(ask())

    assert " ".join(segment.text for segment in part.segments) == answer["text"] != ""
    words = [
        {"word": w.text, "start": w.start_s, "end": w.end_s, "confidence": w.confidence}
        for segment in part.segments
        for w in segment.words
    ]
    assert words == answer["words"]
    assert (part.flops, part.encoder_flops) == (answer["flops"], answer["encoder_flops"])


def test_parts_of_a_file_have_each_step_once(worker: ArchiveWorker, tmp_path: Path) -> None:
    (file,) = archive_of(tmp_path / "in", 60)
    (whole,) = worker.transcribed([Work(file)])

    parts = worker.transcribed([Work(file, k, 3) for k in range(3)])

    assert [len(part.segments) for part in parts] == [3, 3, 2]
    found = sorted((s for part in parts for s in part.segments), key=lambda s: s.start_s)
    assert found == list(whole.segments)
    assert sum(part.flops for part in parts) == whole.flops
    assert {part.audio_s for part in parts} == {60.0}


def test_a_share_beyond_the_end_of_a_file_is_empty(worker: ArchiveWorker, tmp_path: Path) -> None:
    (file,) = archive_of(tmp_path / "in", 1)

    (part,) = worker.transcribed([Work(file, 2, 3)])

    assert (part.segments, part.flops, part.error_code) == ((), 0, "")


def test_what_is_wrong_with_a_file_is_in_its_part_and_the_next_is_transcribed(
    worker: ArchiveWorker, tmp_path: Path
) -> None:
    good, bad = archive_of(tmp_path / "in", 1, 1)
    Path(bad.path).write_bytes(b"")

    parts = worker.transcribed([Work(bad), Work(good)])

    assert [part.error_code for part in parts] == ["audio_empty", ""]
    assert not any(part.fatal for part in parts)


def test_a_step_that_fails_is_an_error_of_its_file(tmp_path: Path) -> None:
    def fail(windows: object, _plan: object) -> None:
        raise RuntimeError("secrets of ours")

    worker = ArchiveWorker(SETTINGS, Dial("ladder"), lambda _s: FakeEngine(before_step=fail))
    (file,) = archive_of(tmp_path / "in", 1)

    (part,) = worker.transcribed([Work(file)])

    assert part.error_code == "engine_failed"
    assert "secrets" not in part.error_message
    worker.close()


def test_a_depth_that_a_file_cannot_have_is_its_error(
    worker: ArchiveWorker, tmp_path: Path
) -> None:
    (file,) = archive_of(tmp_path / "in", 1)

    (part,) = worker.transcribed([Work(file, drop=1.5)])

    assert part.error_code == "drop_out_of_range"


@pytest.mark.parametrize(
    ("settings", "dial", "code"),
    [
        (SETTINGS, Dial("nonsense"), "policy_unknown"),
        (SETTINGS, Dial("ladder", max_drop=2.0), "drop_out_of_range"),
        (Settings(engine="onnx", model="no-such-model"), Dial("ladder"), "model_unusable"),
    ],
)
def test_what_is_wrong_with_every_file_is_fatal(
    tmp_path: Path, settings: Settings, dial: Dial, code: str
) -> None:
    worker = ArchiveWorker(settings, dial)
    (file,) = archive_of(tmp_path / "in", 1)

    (part,) = worker.transcribed([Work(file)])

    assert (part.error_code, part.fatal) == (code, True)
    worker.close()


def test_hotwords_are_those_of_the_dial(tmp_path: Path) -> None:
    worker = ArchiveWorker(SETTINGS, Dial("ladder", hotwords=("Alpha",)))
    (file,) = archive_of(tmp_path / "in", 1)

    (part,) = worker.transcribed([Work(file, drop=0.5)])

    assert part.segments[0].text == "Alpha bravo"
    worker.close()


def test_as_many_steps_are_batched_as_the_service_batches(tmp_path: Path) -> None:
    sizes: list[int] = []
    settings = SETTINGS.model_copy(update={"batch_windows": 3})
    engine = FakeEngine(before_step=lambda windows, _plan: sizes.append(len(windows)))
    worker = ArchiveWorker(settings, Dial("ladder"), lambda _settings: engine)
    (file,) = archive_of(tmp_path / "in", 40)

    worker.transcribed([Work(file)])

    assert sizes == [3, 2]
    worker.close()


def test_a_file_without_samples_on_a_system_nobody_knows_is_unreadable(
    worker: ArchiveWorker,
) -> None:
    work = Work(ArchiveFile("nope://x/a.wav", "nope://x/", "a.wav", 0))

    (part,) = worker.transcribed([work])

    assert (part.path, part.error_code) == ("nope://x/a.wav", "file_unreadable")
