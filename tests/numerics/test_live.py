"""Live utterances on tiny random models: equal to decoding offline under the same mask, and alone."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.backbones.incremental import KeyValueStore
from model_store.backbones.moonshine import Moonshine
from model_store.decoding.greedy import decode_greedy
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import CheckpointError, PlanInvalid
from model_store.registry import Recogniser
from model_store.registry.live import LiveOptions, LiveRecogniser, LiveUtterance
from model_store.text.agreement import CommitRule
from tests.live_kit import Samples, recogniser, speech
from tests.numerics.backbones import NUM_LAYERS

RATE_HZ = 16_000
CHUNK = 24 * 384
STRIDES = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * NUM_LAYERS)
SKIPS = st.tuples(*[st.sampled_from([0, 1, 2, 4])] * NUM_LAYERS).filter(any)
FULL = DepthPlan.full(NUM_LAYERS)
NEVER = CommitRule(method="attention", edge_s=1e6)
EAGER = CommitRule(method="attention", edge_s=-1e6, least_s=0, most_tentative=6)


@pytest.fixture(scope="module", params=["moonshine", "moonshine-factorised"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return recogniser(tmp_path_factory.mktemp("tiny"), request.param)


def live(
    model: Recogniser, rule: CommitRule = NEVER, *, chunk: int = 24, reuse: bool = True
) -> LiveRecogniser:
    options = LiveOptions(chunk_frames=chunk, rule=rule, reuse=reuse, cache_dtype=torch.float32)
    return LiveRecogniser(model, options)


def pushed(
    runner: LiveRecogniser,
    samples: Samples,
    plans: Sequence[DepthPlan],
    cuts: Sequence[int],
    **last: Any,
) -> tuple[LiveUtterance, list[LiveResult]]:
    """Feed samples cut at some places, the n-th chunk at the n-th plan."""
    utterance = runner.open_utterance()
    results: list[LiveResult] = []
    bounds = sorted({cut % len(samples) for cut in cuts} | {len(samples)})
    start = 0
    for end in bounds:
        plan = plans[0] if len(plans) == 1 else _plan_at(runner, utterance, plans)
        ends = end == len(samples)
        flags = last if ends else {}
        request = LiveRequest(utterance, samples[start:end], plan, ends=ends, **flags)
        results += runner.step([request])
        start = end
    return utterance, results


def _plan_at(
    runner: LiveRecogniser, utterance: LiveUtterance, plans: Sequence[DepthPlan]
) -> DepthPlan:
    chunks = utterance.num_frames // round(runner.chunk_s * RATE_HZ / 384)
    return plans[chunks % len(plans)]


def tokens_of(utterance: LiveUtterance) -> list[int]:
    return utterance.decoder.transcript.committed.tokens


def offline_tokens(
    model: Recogniser, samples: Samples, schedule: DepthSchedule, chunk: int, limit: int
) -> list[int]:
    with torch.inference_mode():
        encoded = model.module.encode(
            torch.from_numpy(samples)[None], torch.tensor([len(samples)]), schedule, chunk
        )
    return decode_greedy(model.module, encoded, [limit], model.module.config.end_token)[0].tokens


@contextlib.contextmanager
def looking_ahead(model: Recogniser, frames: int) -> Generator[None]:
    """Have a model's chunks hear so many frames of the next one."""
    assert isinstance(model.backbone, Moonshine)
    stack = model.backbone.encoder.stack
    stack.look_ahead_frames = frames
    try:
        yield
    finally:
        stack.look_ahead_frames = 0


def limit_of(samples: Samples) -> int:
    return 4 + int(6.5 * len(samples) / RATE_HZ)


@settings(max_examples=6)
@given(
    plan=st.one_of(STRIDES, SKIPS),
    chunk=st.sampled_from([16, 24, 48]),
    length=st.integers(500, 30_000),
    cuts=st.lists(st.integers(0, 30_000), max_size=4),
    ahead=st.sampled_from([0, 8, 16]),
)
def test_finals_are_those_of_an_offline_decode_under_the_mask(
    model: Recogniser, plan: tuple[int, ...], chunk: int, length: int, cuts: list[int], ahead: int
) -> None:
    samples, depth = speech(length), DepthPlan(plan)

    with looking_ahead(model, ahead):
        utterance, _ = pushed(live(model, chunk=chunk), samples, [depth], cuts)

        schedule = DepthSchedule.constant(depth)
        assert tokens_of(utterance) == offline_tokens(
            model, samples, schedule, chunk, limit_of(samples)
        )


@settings(max_examples=4)
@given(
    plans=st.lists(STRIDES, min_size=2, max_size=3),
    length=st.integers(20_000, 32_000),
)
def test_strides_that_change_with_the_chunks_are_those_of_a_schedule(
    model: Recogniser, plans: list[tuple[int, ...]], length: int
) -> None:
    depths = [DepthPlan(plan) for plan in plans]
    samples = speech(length)
    ends = [384 * (frames - 1) + 895 for frames in range(24, length // 384, 24)]

    utterance, _ = pushed(live(model), samples, depths, ends)

    parts = tuple((24 * i, depths[i % len(depths)]) for i in range(length // CHUNK + 1))
    assert tokens_of(utterance) == offline_tokens(
        model, samples, DepthSchedule(parts), 24, limit_of(samples)
    )


@settings(max_examples=4)
@given(
    plans=st.lists(SKIPS, min_size=3, max_size=3),
    lengths=st.lists(st.integers(2_000, 24_000), min_size=3, max_size=3),
    reuse=st.booleans(),
)
def test_a_stream_says_the_same_alone_and_with_others(
    model: Recogniser, plans: list[tuple[int, ...]], lengths: list[int], reuse: bool
) -> None:
    runner = live(model, EAGER, reuse=reuse)
    streams = [speech(length, seed) for seed, length in enumerate(lengths)]
    together = [runner.open_utterance() for _ in streams]
    told: list[list[LiveResult]] = [[] for _ in streams]
    for start in range(0, max(lengths), CHUNK):
        due = [i for i, one in enumerate(streams) if start < len(one)]
        found = runner.step(
            [
                LiveRequest(
                    together[i],
                    streams[i][start : start + CHUNK],
                    DepthPlan(plans[i]),
                    ends=start + CHUNK >= len(streams[i]),
                )
                for i in due
            ]
        )
        for i, result in zip(due, found, strict=True):
            told[i].append(result)

    for samples, plan, utterance, results in zip(streams, plans, together, told, strict=True):
        cuts = list(range(CHUNK, len(samples), CHUNK))
        alone, expected = pushed(runner, samples, [DepthPlan(plan)], cuts)
        assert tokens_of(alone) == tokens_of(utterance)
        assert [r.stable_words for r in results] == [r.stable_words for r in expected]
        assert [r.cost.flops for r in results] == [r.cost.flops for r in expected]


@settings(max_examples=4)
@given(length=st.integers(16_000, 32_000), cuts=st.lists(st.integers(0, 32_000), max_size=4))
def test_stable_words_never_change(model: Recogniser, length: int, cuts: list[int]) -> None:
    rule = CommitRule(method="attention", edge_s=0.1, least_s=0)

    _, results = pushed(live(model, rule), speech(length), [FULL], cuts)

    said: list[str] = []
    for result in results:
        stable = [word.text for word in result.words[: result.stable_words]]
        assert stable[: len(said)] == said
        said = stable
    assert results[-1].stable_words == len(results[-1].words)


def test_committed_tokens_are_read_again_where_nothing_is_reused(model: Recogniser) -> None:
    samples = speech(26_000)
    module = model.module
    assert isinstance(module, Moonshine)
    utterance, _ = pushed(live(model, EAGER, reuse=False), samples, [FULL], [CHUNK, 2 * CHUNK])

    tokens = tokens_of(utterance)
    settled = len(tokens)
    with torch.inference_mode():
        encoded = module.encode(
            torch.from_numpy(samples)[None],
            torch.tensor([len(samples)]),
            DepthSchedule.constant(FULL),
            24,
        )
        cache = module.decoder.begin(module.decoder.pool(encoded), settled + 1)
        state_BUD = module.decoder(torch.tensor([[*module.prompt, *tokens]]), cache)
        best_U = module.decoder.logits(state_BUD)[0].argmax(-1)
    # What the last update wrote follows from all before it, over all of the audio.
    last = settled - 3
    assert torch.equal(torch.tensor(tokens[last:]), best_U[last:settled])


def test_words_have_times_in_order_and_within_what_was_heard(model: Recogniser) -> None:
    samples = speech(34_000)

    _, results = pushed(live(model, EAGER), samples, [FULL], [CHUNK, 2 * CHUNK, 3 * CHUNK])

    assert results[-1].words
    for result in results:
        bounds = [t for word in result.words for t in (word.start_s, word.end_s)]
        assert bounds == sorted(bounds)
        assert all(0 <= bound <= result.encoded_s + 1e-9 for bound in bounds)
        assert all(0 <= word.confidence <= 1 for word in result.words)
    assert results[-1].encoded_s == len(samples) / RATE_HZ


def test_a_second_pass_is_the_transcript_of_the_whole(model: Recogniser) -> None:
    samples = (np.rint(speech(30_000) * 32_767) / 32_767).astype(np.float32)
    plan = DepthPlan((2, 1, 4))

    _, results = pushed(live(model), samples, [plan], [CHUNK], second_pass=True)

    (whole,) = model.transcribe_windows([samples], plan)
    assert [word.text for word in results[-1].words] == [word.text for word in whole.words]
    assert results[-1].cost.flops >= whole.flops  # rows of a guess that did not hold are counted
    assert results[-1].stable_words == len(whole.words)


def test_a_stream_is_kept_in_half_precision_and_heard_again_in_full(model: Recogniser) -> None:
    runner = LiveRecogniser(model, LiveOptions(final_calls=1))
    utterance = runner.open_utterance()
    runner.step([LiveRequest(utterance, speech(30_000), FULL)])
    nothing = np.zeros(0, np.float32)
    runner.step([LiveRequest(utterance, nothing, FULL, ends=True, second_pass=True)])

    assert utterance.whole is not None, "expected a second pass that takes more than one call"

    (live_key, _), (whole_key, _) = (
        state.memory.audio[0].read() for state in (utterance.decoder, utterance.whole.decoder)
    )
    assert torch.equal(live_key, live_key.half().float())
    assert not torch.equal(whole_key, whole_key.half().float())


def test_without_decode_a_step_only_encodes(model: Recogniser) -> None:
    runner = live(model)
    utterance = runner.open_utterance()

    (result,) = runner.step([LiveRequest(utterance, speech(CHUNK + 600), FULL, decode=False)])

    assert (result.words, result.stable_words) == ((), 0)
    assert result.encoded_s == (23 * 384 + 895) / RATE_HZ
    assert utterance.decoder.transcript.calls == 0
    assert result.cost.encoder_flops > 0


def test_nothing_said_has_no_words(model: Recogniser) -> None:
    runner = live(model)

    for samples in (speech(0), speech(10)):
        (result,) = runner.step([LiveRequest(runner.open_utterance(), samples, FULL, ends=True)])

        assert result.encoded_s == len(samples) / RATE_HZ
        assert len(samples) or not result.words


def test_a_step_that_is_refused_changes_nothing(model: Recogniser) -> None:
    runner = live(model)
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


def test_a_backbone_without_chunks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"that streams .moonshine or moonshine_streaming., got 'whisper'"
    ):
        LiveRecogniser(recogniser(tmp_path, "whisper"))


def counted(run: Callable[[], LiveResult]) -> tuple[int, LiveResult]:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result


@pytest.fixture(params=[0, 8], ids=["no look-ahead", "look-ahead"])
def ahead(request: pytest.FixtureRequest, model: Recogniser) -> Generator[Recogniser]:
    with looking_ahead(model, request.param):
        yield model


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize(
    "plans", [["1,1,1"], ["2,4,8"], ["1,0,2"], ["1,2,4", "8,1,2", "1,1,1"]], ids=str
)
def test_every_step_costs_what_is_counted(ahead: Recogniser, plans: list[str], reuse: bool) -> None:
    runner = live(ahead, EAGER, reuse=reuse)
    utterance, samples = runner.open_utterance(), speech(24_000)
    depths = [DepthPlan.parse(plan) for plan in plans]

    for index, start in enumerate(range(0, len(samples), CHUNK)):
        request = LiveRequest(
            utterance,
            samples[start : start + CHUNK],
            _plan_at(runner, utterance, depths),
            decode=index % 3 != 1,
            ends=start + CHUNK >= len(samples),
        )
        flops, result = counted(lambda: runner.step([request])[0])  # noqa: B023 called at once

        assert result.cost.flops == flops
        assert result.cost.encoder_flops <= result.cost.flops <= result.cost.full_flops


def test_a_deeper_plan_costs_more_and_keeps_more(model: Recogniser) -> None:
    runner = live(model)
    flops: list[int] = []
    kept: list[int] = []
    for stride in (1, 2, 4, 8):
        plan = DepthPlan((stride,) * NUM_LAYERS)
        utterance, results = pushed(runner, speech(70_000), [plan], [30_000])
        flops.append(sum(result.cost.encoder_flops for result in results))
        kept.append(utterance.state_bytes)
        assert {result.cost.full_flops >= result.cost.flops for result in results} == {True}

    assert flops == sorted(flops, reverse=True)
    assert kept == sorted(kept, reverse=True)


def test_fifteen_seconds_at_full_depth_take_less_than_14_mb_in_half_precision() -> None:
    # Moonshine base: 8 + 8 layers, 416 channels in 8 heads, four frames a row; 5 tokens a second.
    frames, rows, tokens = 625, 157, 75
    total = 15 * RATE_HZ * 2
    for count, layers in ((frames, 8), (rows, 8), (tokens, 8)):
        for _ in range(layers):
            store = KeyValueStore(LiveOptions().cache_dtype)
            for start in range(0, count, 24):
                new = torch.zeros(8, min(24, count - start), 52)
                store.append(new, new)
            total += store.num_bytes

    assert total < 14e6
