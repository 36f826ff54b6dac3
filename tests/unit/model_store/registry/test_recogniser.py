import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import model_store
from model_store.checkpoint import save_checkpoint
from model_store.decoding.alignment import alignment_heads
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import AudioEmpty, AudioTooLong, DropOutOfRange, PolicyUnknown
from model_store.flops import decoder_flops, encoder_flops
from model_store.registry import Recogniser
from tests.decoder_kit import LoudGate, plain, tone
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, write_tokenizer

FULL = DepthPlan.full(NUM_LAYERS)
HALF = DepthPlan((2, 2, 2))
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("tiny")
    catalogue = PlanCatalogue.untuned(NUM_LAYERS)
    save_checkpoint(BACKBONES["moonshine"].build(), catalogue, folder)
    write_tokenizer(folder)
    decoding = {"alignment_heads": {"0": [1], "1": [0, 2]}, "end_offset_s": -0.05}
    (folder / "decoding.json").write_text(json.dumps(decoding), encoding="utf-8")
    return model_store.load(str(folder))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    path.write_bytes(plain(tone(2.0, rate_hz=RATE_HZ), RATE_HZ, "WAV", "PCM_16"))
    return path


def test_a_file_is_transcribed_in_three_lines(model: Recogniser, recording: Path) -> None:
    transcript = model.transcribe(recording, gate=LoudGate())

    assert transcript.plan == FULL
    assert transcript.audio_s == pytest.approx(2.0)
    assert transcript.flops > transcript.encoder_flops > 0
    assert transcript.elapsed_s > 0
    assert [segment.end_s for segment in transcript.segments] == [pytest.approx(2.0)]
    assert transcript.text == " ".join(s.text for s in transcript.segments if s.text)


def test_a_path_a_name_and_bytes_are_one_recording(model: Recogniser, recording: Path) -> None:
    texts = {
        model.transcribe(source, gate=LoudGate()).text
        for source in (recording, str(recording), recording.read_bytes())
    }

    assert len(texts) == 1


@pytest.mark.parametrize(
    ("drop", "policy", "plan"),
    [
        (0.0, "ladder", "1,1,1"),
        (0.5, "ladder", "2,2,2"),
        (0.5, "first-k", "1,0,0"),
        (0.3, "skip", "1,1,0"),
    ],
)
def test_the_dial_turns_the_plan(
    model: Recogniser, recording: Path, drop: float, policy: str, plan: str
) -> None:
    transcript = model.transcribe(recording, drop=drop, policy=policy, gate=LoudGate())

    assert str(transcript.plan) == plan


def test_silence_has_no_words_and_costs_nothing(model: Recogniser) -> None:
    quiet = plain(np.zeros(2 * RATE_HZ, np.float32), RATE_HZ, "WAV", "PCM_16")

    transcript = model.transcribe(quiet)

    assert transcript.text == ""
    assert transcript.segments == ()
    assert transcript.flops == 0
    assert transcript.audio_s == pytest.approx(2.0)


def test_words_of_a_long_file_keep_to_their_windows(model: Recogniser) -> None:
    pause = np.zeros(RATE_HZ, np.float32)
    samples = np.concatenate(
        [part for _ in range(3) for part in (tone(11, rate_hz=RATE_HZ), pause)]
    )

    transcript = model.transcribe(plain(samples, RATE_HZ, "WAV", "PCM_16"), gate=LoudGate())

    assert transcript.audio_s == pytest.approx(36.0)
    assert len(transcript.segments) > 1
    for segment in transcript.segments:
        assert all(segment.start_s <= word.start_s < word.end_s for word in segment.words)
        assert all(word.end_s <= segment.end_s + 1e-6 for word in segment.words)


def test_windows_cost_what_the_formula_says_of_every_try(model: Recogniser) -> None:
    windows = [tone(1.0, rate_hz=RATE_HZ), tone(0.7, rate_hz=RATE_HZ)]

    for heard, samples in zip(model.transcribe_windows(windows, HALF), windows, strict=True):
        lengths = [len(samples), len(samples) + round(0.4 * RATE_HZ)]
        half, full = (
            [encoder_flops(model.sizes, DepthSchedule.constant(plan), n) for n in lengths]
            for plan in (HALF, FULL)
        )
        tries = [count for count in (1, 2) if heard.encoder_flops == sum(half[:count])]
        assert tries, "expected the cost of one try or of two"
        assert heard.full_flops - heard.flops == sum(full[: tries[0]]) - sum(half[: tries[0]])
        assert heard.flops - heard.encoder_flops >= decoder_flops(model.sizes, len(samples), 1)


def test_alignment_is_paid_for(model: Recogniser) -> None:
    unwatched = dataclasses.replace(model.sizes, watched_heads=0)

    assert model.sizes.watched_heads == 3
    assert decoder_flops(model.sizes, 16_000, 5) > decoder_flops(unwatched, 16_000, 5)


def test_no_windows_are_no_transcripts(model: Recogniser) -> None:
    assert model.transcribe_windows([], FULL) == []


def test_what_cannot_be_transcribed_is_refused(model: Recogniser, recording: Path) -> None:
    with pytest.raises(AudioEmpty):
        model.transcribe(b"")
    with pytest.raises(AudioTooLong, match="at most 1 s"):
        model.transcribe(recording, max_s=1.0)
    with pytest.raises(DropOutOfRange):
        model.transcribe(recording, drop=1.0)
    with pytest.raises(PolicyUnknown):
        model.transcribe(recording, policy="deepest")


def test_heads_are_read_where_there_are_any() -> None:
    heads = alignment_heads({"alignment_heads": {"5": [1, 2]}, "end_offset_s": 0.1})

    assert alignment_heads({}) is None
    assert heads is not None
    assert heads.by_layer == {5: (1, 2)}
    assert heads.end_offset_s == 0.1
