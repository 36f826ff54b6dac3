"""The shipped weights on real sound: as a library, and behind a started server."""

import itertools
import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

import model_store
from model_store.audio import read_audio
from model_store.depth import DepthSchedule
from model_store.flops import encoder_flops
from model_store.registry import DEFAULT_MODEL, Recogniser
from model_store.text import normalise
from model_store.text.wer import normalised_word_errors
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser
from service.settings import Settings
from tests.e2e.server_process import Server, started
from tests.service_kit import wav_bytes

pytestmark = [pytest.mark.weights, pytest.mark.e2e, pytest.mark.timeout(120)]

ASSETS = Path(__file__).parents[1] / "assets"
FOX = "The quick brown fox jumps over the lazy dog, and then it sleeps until the morning."
REPORT = "Please send the report to the whole team before the meeting on Thursday afternoon."


@pytest.fixture(scope="module")
def model() -> Recogniser:
    return model_store.load()


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with started() as running:
        running.wait_until_ready()
        yield running


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("clip", "words"), [("fox.opus", FOX), ("report.opus", REPORT)])
def test_a_clear_sentence_keeps_its_words_down_to_half_the_depth(
    model: Recogniser, clip: str, words: str, drop: float
) -> None:
    heard = model.transcribe(ASSETS / clip, drop=drop)

    assert normalised_word_errors(words, heard.text).rate <= 0.13
    assert heard.plan.drop >= drop


def test_words_spoken_twice_are_written_twice(model: Recogniser) -> None:
    said = normalise(model.transcribe(ASSETS / "no-no-no.opus").text)

    assert said.startswith("no no no i said no")


def test_word_times_rise_and_stay_inside_the_speech(model: Recogniser) -> None:
    heard = model.transcribe(ASSETS / "fox.opus")

    words = [word for segment in heard.segments for word in segment.words]
    assert len(words) == len(FOX.split())
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in itertools.pairwise(words))
    assert all(0 <= word.start_s < word.end_s <= heard.audio_s + 1e-6 for word in words)


def test_what_a_file_says_does_not_depend_on_the_files_beside_it() -> None:
    """A difference in the last place is one of a byte a layer on; it once moved a comma."""
    served = OnnxRecogniser(
        open_checkpoint(DEFAULT_MODEL), Settings().engine_cache, read_processor().numerics, 1
    )
    clips = [read_audio(ASSETS / f"{name}.opus") for name in ("fox", "report", "digits")]
    memories = served.encoder.encode(
        [clip[: len(clip) - cut] for clip in clips for cut in range(0, 24_000, 2_400)],
        served.catalogue.ladder[0],
    )
    draw = np.random.default_rng(0)

    alone = [served.decoder.greedy([memory], [40])[0] for memory in memories]
    for _ in range(3):
        order: list[int] = draw.permutation(len(memories)).tolist()
        for place in range(0, len(order), 4):
            some = order[place : place + 4]
            together = served.decoder.greedy([memories[one] for one in some], [40] * len(some))
            for one, found in zip(some, together, strict=True):
                assert found.tokens == alone[one].tokens
                assert found.logprobs == pytest.approx(alone[one].logprobs, abs=1e-5)


def test_one_pass_of_a_plan_costs_less_than_of_the_plan_above_and_deep_ones_write_text(
    model: Recogniser,
) -> None:
    samples = read_audio(ASSETS / "fox.opus")
    for policy in ("ladder", "skip"):
        plans = model.catalogue.plans(policy)
        cost = [
            encoder_flops(model.sizes, DepthSchedule.constant(plan), len(samples)) for plan in plans
        ]

        assert cost == sorted(set(cost), reverse=True)
        deep = [plan for plan in plans if plan.drop <= 0.5]
        assert all(model.transcribe_windows([samples], plan)[0].text for plan in deep)


def test_speech_far_from_the_microphone_is_heard_and_silence_is_not(model: Recogniser) -> None:
    samples = read_audio(ASSETS / "fox.opus")
    quiet = samples * (10 ** (-35 / 20) / np.abs(samples).max())
    silence = np.random.default_rng(0).standard_normal(10 * 16_000).astype(np.float32) * 1e-3

    heard = model.transcribe(wav_of(quiet))
    nothing = model.transcribe(wav_of(silence))

    assert normalised_word_errors(FOX, heard.text).rate <= 0.2
    assert nothing.text == ""


def test_a_long_file_loses_and_doubles_no_words_at_its_cuts(model: Recogniser) -> None:
    pause = np.zeros(4_000, np.float32)
    clip = np.concatenate([read_audio(ASSETS / "fox.opus"), pause])
    copies = 12

    heard = model.transcribe(wav_of(np.tile(clip, copies)), drop=0.25)

    said = normalise(heard.text).split()
    for word in ("fox", "dog", "sleeps", "morning"):
        assert abs(said.count(word) - copies) <= 1


def test_the_server_answers_with_the_words_and_what_they_cost(server: Server) -> None:
    body = (ASSETS / "fox.opus").read_bytes()

    status, answer = server.ask("POST", "/transcribe?drop=0.5", body)

    assert status == 200
    found = json.loads(answer)
    assert normalised_word_errors(FOX, found["text"]).rate <= 0.13
    assert found["layers"] == 4.0


def test_the_server_is_unhurt_by_what_is_no_audio(server: Server) -> None:
    refused, _ = server.ask("POST", "/transcribe", b"not audio at all" * 100)
    served, answer = server.ask("POST", "/transcribe?format=text", wav_bytes(1.0))

    assert 400 <= refused < 500
    assert served == 200
    assert answer.decode().strip() == ""


def wav_of(samples: np.ndarray) -> bytes:
    """The samples as the bytes of a 16-bit wav file."""
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()
