"""Hotwords on both runtimes, on a tiny random model: the same choices, and nobody else's words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_store.decoding.hotwords import HotwordLists
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan
from model_store.registry import Recogniser
from model_store.registry.live import LiveOptions, LiveRecogniser
from model_store.text.agreement import CommitRule
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.decoder import Decoder, StepInput, StepOutput
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.processor import Numerics
from service.engine.onnx.recogniser import OnnxRecogniser
from tests.live_kit import Samples, recogniser, speech
from tests.numerics.backbones import NUM_LAYERS, VOCABULARY

PLAN = DepthPlan.full(NUM_LAYERS)
LENGTHS = (30_000, 9_000, 21_000)
HOTWORDS = (*(f"w{number}" for number in range(1, VOCABULARY, 6)), "w2 w4 w5", "w8 w10")
UNHEARD = ("nobody", "says this", "w9999")
"""None of them is a word of the tokenizer, so none can be written."""
RULE = CommitRule(least_s=0, most_tentative=12)


class Models:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.torch: Recogniser = recogniser(root / "tiny", "moonshine-factorised", int8=True)

    def onnx(self, numerics: Numerics = "float32") -> OnnxRecogniser:
        checkpoint = open_checkpoint(str(self.root / "tiny"))
        return OnnxRecogniser(checkpoint, self.root / "cache", numerics, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def windows() -> list[Samples]:
    return [speech(length, seed) for seed, length in enumerate(LENGTHS)]


def texts(model: Any, hotwords: Sequence[str] = (), only: int | None = None) -> list[str]:
    heard = windows() if only is None else [windows()[only]]
    return [one.text for one in model.transcribe_windows(heard, PLAN, hotwords=hotwords)]


def test_files_of_both_runtimes_have_the_same_words(models: Models) -> None:
    biased = texts(models.onnx(), HOTWORDS)

    assert biased == texts(models.torch, HOTWORDS)
    assert biased != texts(models.onnx()), "expected hotwords that make a difference"


def test_confidence_and_log_probabilities_stay_the_models_own(models: Models) -> None:
    found = models.onnx().transcribe_windows(windows(), PLAN, hotwords=HOTWORDS)
    expected = models.torch.transcribe_windows(windows(), PLAN, hotwords=HOTWORDS)

    for one, other in zip(found, expected, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
        assert [word.confidence for word in one.words] == pytest.approx(
            [word.confidence for word in other.words], abs=1e-3
        )


@pytest.mark.parametrize("numerics", ["float32", "int8", "int8-reduced"])
def test_words_that_cannot_be_written_change_nothing(models: Models, numerics: Numerics) -> None:
    model = models.onnx(numerics)

    assert texts(model, UNHEARD) == texts(model, ()) == texts(model)
    assert texts(models.torch, UNHEARD) == texts(models.torch)


def test_a_window_has_the_words_it_has_alone(models: Models) -> None:
    model = models.onnx()
    together = texts(model, HOTWORDS)

    assert together == [texts(model, HOTWORDS, only)[0] for only in range(len(LENGTHS))]


@pytest.mark.parametrize("numerics", ["float32", "int8", "int8-reduced"])
def test_tokens_scored_outside_have_the_graphs_own_log_probabilities(
    models: Models, numerics: Numerics, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.onnx(numerics)
    original = Decoder.run
    compared: list[tuple[float, float]] = []

    def compare(decoder: Decoder, step: StepInput, *, with_rows: bool = False) -> StepOutput:
        assert with_rows, "expected rows, since there are hotwords"
        found = original(decoder, step, with_rows=True)
        for row in range(len(found.token_S)):
            asked = np.array([found.other_S[row], found.token_S[row]])
            other, best = decoder.logprobs_of(found, row, asked).tolist()
            compared.append((other, float(found.other_logprob_S[row])))
            compared.append((best, float(found.logprob_S[row])))
        return found

    monkeypatch.setattr(Decoder, "run", compare)
    texts(model, HOTWORDS)

    outside, inside = zip(*compared, strict=True)
    np.testing.assert_allclose(outside, inside, atol=2e-4)
    assert len(compared) > 50


def test_without_hotwords_a_step_gives_what_it_always_gave(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Decoder.run

    def plain(decoder: Decoder, step: StepInput, *, with_rows: bool = False) -> StepOutput:
        assert not with_rows, "expected no rows, since there are no hotwords"
        found = original(decoder, step)
        assert found.rows_SD is None
        return found

    monkeypatch.setattr(Decoder, "run", plain)

    assert len(texts(models.onnx())) == len(LENGTHS)


def streamed(runner: Any, lists: Sequence[tuple[str, ...]], *, two_pass: bool = False) -> list[Any]:
    """Run a stream for each list, side by side, in pieces of 0.4 s; give the results of each."""
    sounds = [speech(30_000, seed) for seed in range(len(lists))]
    utterances = [runner.open_utterance() for _ in lists]
    told: list[list[LiveResult]] = [[] for _ in lists]
    for start in range(0, 30_000, 6_400):
        ends = start + 6_400 >= 30_000
        requests = [
            LiveRequest(
                utterance,
                sound[start : start + 6_400],
                PLAN,
                ends=ends,
                second_pass=ends and two_pass,
                hotwords=hotwords,
            )
            for utterance, sound, hotwords in zip(utterances, sounds, lists, strict=True)
        ]
        for results, result in zip(told, runner.step(requests), strict=True):
            results.append(result)
    return told


def spoken(results: Sequence[Sequence[LiveResult]]) -> list[list[list[str]]]:
    return [[[word.text for word in one.words] for one in stream] for stream in results]


def of_torch(models: Models) -> LiveRecogniser:
    return LiveRecogniser(models.torch, LiveOptions(rule=RULE, cache_dtype=torch.float32))


@pytest.mark.parametrize("two_pass", [False, True])
def test_streams_of_both_runtimes_have_the_same_words(models: Models, *, two_pass: bool) -> None:
    lists = [HOTWORDS, (), HOTWORDS[:5]]
    runner = create_live_runner(models.onnx(), rule=RULE)

    found = spoken(streamed(runner, lists, two_pass=two_pass))

    assert found == spoken(streamed(of_torch(models), lists, two_pass=two_pass))
    assert found != spoken(streamed(runner, [(), (), ()], two_pass=two_pass))


@pytest.mark.parametrize("two_pass", [False, True])
def test_a_streams_hotwords_are_nobody_elses(models: Models, *, two_pass: bool) -> None:
    runner = create_live_runner(models.onnx("int8"), rule=RULE)
    plain = spoken(streamed(runner, [(), (), ()], two_pass=two_pass))

    beside = spoken(streamed(runner, [HOTWORDS, (), ()], two_pass=two_pass))

    assert beside[1:] == plain[1:]
    assert beside[0] != plain[0]


def test_a_final_has_the_hotwords_that_a_file_has(models: Models) -> None:
    """Whatever the drafts before it were, and however its tokens were committed."""
    careful = CommitRule(method="attention", edge_s=1e6, least_s=0)
    runner = create_live_runner(models.onnx(), rule=careful)
    ((*_, last),) = streamed(runner, [HOTWORDS], two_pass=True)

    (heard,) = models.onnx().transcribe_windows([speech(30_000)], PLAN, hotwords=HOTWORDS)
    assert [word.text for word in last.words] == [word.text for word in heard.words]


def test_hotwords_that_cannot_be_written_leave_a_stream_as_it_is(models: Models) -> None:
    runner = create_live_runner(models.onnx("int8"), rule=RULE)

    assert spoken(streamed(runner, [UNHEARD])) == spoken(streamed(runner, [()]))


def test_the_tree_has_the_tokens_that_the_model_writes(models: Models) -> None:
    hotwords = HotwordLists(models.torch.tokenizer).of(["w5", "w7 w8"])

    assert hotwords is not None
    assert sorted(hotwords.candidates([])[0].tolist()) == [5, 7]
    assert 8 in hotwords.candidates([7])[0].tolist()
