"""Live utterances on ONNX Runtime: those of torch, whatever the plans, the cuts and the company."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.decoding.live import MOST_DRAFT, Written
from model_store.decoding.live_runner import LiveRunner
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.decoding.reading import Decoded, TranscriptReader
from model_store.depth import DepthPlan
from model_store.errors import PlanInvalid
from model_store.text.agreement import CommitRule
from service.engine.onnx.decoder import Decoder, StepInput, StepOutput
from service.engine.onnx.processor import Numerics
from tests.live_kit import Samples, speech
from tests.numerics.backbones import NUM_LAYERS
from tests.numerics.live_streams_kit import (
    AGREEING,
    CAREFUL,
    CHUNK,
    EAGER,
    FULL,
    RULES,
    Models,
    Script,
    compare,
    run,
    scripts,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@settings(max_examples=25, deadline=None)
@given(streams=st.lists(scripts(), min_size=1, max_size=4), rule=RULES, reuse=st.booleans())
def test_streams_side_by_side_say_and_cost_what_torchs_do(
    models: Models, streams: list[Script], rule: CommitRule, reuse: bool
) -> None:
    expected = run(models.expected(rule, reuse=reuse), streams)

    found = run(models.runner(rule, reuse=reuse), streams)

    for one, other in zip(found, expected, strict=True):
        compare(one, other)


@pytest.mark.parametrize("numerics", ["float32", "int8"])
@settings(max_examples=10, deadline=None)
@given(streams=st.lists(scripts(), min_size=2, max_size=5), rule=RULES)
def test_a_stream_says_the_same_alone_and_with_others(
    models: Models, numerics: Numerics, streams: list[Script], rule: CommitRule
) -> None:
    runner = models.runner(rule, numerics)

    together = run(runner, streams)

    for stream, found in zip(streams, together, strict=True):
        compare(found, run(runner, [stream])[0])


@settings(max_examples=15, deadline=None)
@given(streams=st.lists(scripts(), min_size=1, max_size=3), rule=RULES)
def test_stable_words_never_change(models: Models, streams: list[Script], rule: CommitRule) -> None:
    once = [replace(stream, second_pass=False) for stream in streams]  # a second one starts afresh
    for results in run(models.runner(rule, "int8"), once):
        said: list[str] = []
        for result in results:
            stable = [word.text for word in result.words[: result.stable_words]]
            assert stable[: len(said)] == said
            said = stable
        assert results[-1].stable_words == len(results[-1].words)


def test_there_is_something_to_compare(models: Models) -> None:
    """A random model might say nothing, or settle nothing before its end."""
    script = Script(speech(40_000), (CHUNK, 2 * CHUNK, 3 * CHUNK), (FULL,))

    for rule in (EAGER, CAREFUL, AGREEING):
        (results,) = run(models.runner(rule), [script])

        assert len({word.text for word in results[-1].words}) > 3
        assert any(result.words for result in results[:-1])
    assert run(models.runner(EAGER), [script])[0][-2].stable_words > 0


def test_a_long_utterance_outgrows_its_first_room(models: Models) -> None:
    length = 24 * 16_000
    cuts = tuple(range(CHUNK, length, 3 * CHUNK))
    script = Script(speech(length), cuts, (FULL, DepthPlan((2, 4, 1))))

    (found,) = run(models.runner(EAGER), [script])

    (expected,) = run(models.expected(EAGER), [script])
    compare(found, expected)
    assert len(found[-1].words) > 32


def test_a_second_pass_is_the_transcript_of_the_whole(models: Models) -> None:
    samples = (np.rint(speech(30_000) * 32_767) / 32_767).astype(np.float32)
    plan = DepthPlan((2, 1, 4))
    script = Script(samples, (CHUNK,), (plan,), second_pass=True)

    (results,) = run(models.runner(AGREEING), [script])

    (whole,) = models.onnx().transcribe_windows([samples], plan)
    assert [word.text for word in results[-1].words] == [word.text for word in whole.words]
    assert results[-1].cost.flops >= whole.flops  # rows of a draft that did not hold are counted
    assert results[-1].stable_words == len(whole.words)


def heard_again(
    runner: LiveRunner[Any, Any], samples: Samples, guess: Sequence[int], hotwords: tuple[str, ...]
) -> LiveResult:
    """Give the second pass at an utterance of which this was written live."""
    utterance = runner.open_utterance()
    runner.step([LiveRequest(utterance, samples, FULL, decode=False)])
    utterance.decoder.transcript.committed = Written(list(guess))
    last = LiveRequest(utterance, samples[:0], FULL, ends=True, second_pass=True, hotwords=hotwords)
    (result,) = runner.step([last])
    return result


def no_retry(_reader: TranscriptReader, _decoded: Decoded) -> int:
    return 0


def test_a_guess_that_holds_is_confirmed_in_few_calls_and_a_broken_one_gone_on_with(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, model, samples = models.runner(EAGER), models.onnx(), speech(30_000)
    most = model._reader.most_tokens(len(samples))
    tokens = model.decoder.greedy(model.encoder.encode([samples], FULL), [most])[0].tokens
    calls, run = list[int](), Decoder.run

    def counted(decoder: Decoder, step: StepInput, *, with_rows: bool = False) -> StepOutput:
        calls.append(len(step.token_M))
        return run(decoder, step, with_rows=with_rows)

    monkeypatch.setattr(Decoder, "run", counted)
    monkeypatch.setattr(TranscriptReader, "retry_samples", no_retry)

    def num_calls(guess: Sequence[int]) -> int:
        calls.clear()
        heard_again(runner, samples, guess, ())
        return len(calls)

    alone, half = num_calls([]), len(tokens) // 2
    assert alone >= len(tokens) > 4
    assert num_calls(tokens) <= -(-len(tokens) // MOST_DRAFT) + 1 < alone / 2
    assert num_calls([*tokens[:half], 3, 3, 3]) <= alone - half + -(-half // MOST_DRAFT) + 2


@settings(deadline=None, max_examples=15)
@given(
    guess=st.lists(st.integers(3, 40), max_size=12),
    kept=st.integers(0, 12),
    hotwords=st.sampled_from([(), ("w5", "w7 w8")]),
)
def test_whatever_is_guessed_the_transcript_is_the_same(
    models: Models, guess: list[int], kept: int, hotwords: tuple[str, ...]
) -> None:
    samples = (np.rint(speech(30_000) * 32_767) / 32_767).astype(np.float32)
    model, runner = models.onnx(), models.runner(EAGER)
    (plain,) = model.transcribe_windows([samples], FULL, hotwords=hotwords)
    tokens = model.tokenizer.encode(plain.text)

    for guessed in ([*tokens[:kept], *guess, *tokens[kept:]], guess):
        found = heard_again(runner, samples, guessed, hotwords)

        assert [word.text for word in found.words] == [word.text for word in plain.words]
        assert [word.end_s for word in found.words] == pytest.approx(
            [word.end_s for word in plain.words], abs=1e-6
        )
        assert [word.confidence for word in found.words] == pytest.approx(
            [word.confidence for word in plain.words], abs=1e-4
        )


def test_without_decode_a_step_only_encodes(models: Models) -> None:
    runner = models.runner(EAGER)
    utterance = runner.open_utterance()

    (result,) = runner.step([LiveRequest(utterance, speech(CHUNK + 600), FULL, decode=False)])

    assert (result.words, result.stable_words) == ((), 0)
    assert result.encoded_s == (23 * 384 + 895) / 16_000
    assert utterance.decoder.transcript.calls == 0
    assert result.cost.encoder_flops > 0


@pytest.mark.parametrize("second_pass", [False, True])
@pytest.mark.parametrize("length", [0, 10, 900])
def test_hardly_anything_said_ends_all_the_same(
    models: Models, length: int, *, second_pass: bool
) -> None:
    for runner in (models.runner(EAGER), models.expected(EAGER)):
        utterance = runner.open_utterance()
        last = LiveRequest(utterance, speech(length), FULL, ends=True, second_pass=second_pass)

        (result,) = runner.step([last])

        assert result.done
        assert result.encoded_s == length / 16_000
        assert length or not result.words


def test_a_step_that_is_refused_changes_nothing(models: Models) -> None:
    runner = models.runner(EAGER)
    skipping, other = runner.open_utterance(), runner.open_utterance()
    runner.step([LiveRequest(skipping, speech(12_000), DepthPlan((1, 0, 1)))])

    with pytest.raises(PlanInvalid, match="skips what"):
        runner.step(
            [
                LiveRequest(other, speech(12_000), FULL),
                LiveRequest(skipping, speech(12_000), FULL),
            ]
        )

    assert (other.num_samples, skipping.num_samples) == (0, 12_000)


def test_shallower_plans_keep_less(models: Models) -> None:
    kept: list[int] = []
    for stride in (1, 2, 4, 8):
        runner = models.runner(EAGER)
        utterance = runner.open_utterance()
        plan = DepthPlan((stride,) * NUM_LAYERS)
        runner.step([LiveRequest(utterance, speech(110_000), plan)])
        kept.append(utterance.state_bytes)

    assert kept == sorted(set(kept), reverse=True)


def test_streaming_on_what_was_built_needs_neither_torch_nor_the_builder(models: Models) -> None:
    models.onnx("int8")
    probe = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
from pathlib import Path
import numpy as np
from service.engine.base import LiveInput, PlanInUse
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.decoder import Decoder, StepInput, StepOutput
from service.engine.onnx.live import create_live_runner
from service.engine.onnx.recogniser import OnnxRecogniser
from service.engine.torch_live import step_streams
model = OnnxRecogniser(open_checkpoint({str(models.root / "tiny")!r}), Path({str(models.root)!r}) / "cache", "int8", 1)
runner = create_live_runner(model)
plan = PlanInUse((1, 2, 1), 2.5, 3, 0.1)
step_streams(runner, [LiveInput(runner.open_utterance(), np.zeros(20_000, np.float32), plan, ends=True)])
"""

    ran = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False, capture_output=True)

    assert ran.returncode == 0, ran.stderr.decode()
