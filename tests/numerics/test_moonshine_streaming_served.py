"""Moonshine Streaming's live utterances: the words of the whole utterance, at every plan."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.checkpoint import load_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import AudioTooLong, PlanInvalid
from model_store.registry import Recogniser
from model_store.registry.live import LiveOptions, LiveRecogniser, LiveUtterance, can_stream
from model_store.text.agreement import CommitRule
from service.engine import choose_engine
from service.engine.base import LiveInput
from service.engine.torch_engine import create_torch_engine
from service.errors import PlanInvalid as RefusedPlan
from tests.live_kit import Samples, speech
from tests.numerics.backbones import NUM_LAYERS
from tests.numerics.moonshine_streaming_kit import FRAME_SAMPLES, saved

RATE_HZ = 16_000
FULL = DepthPlan.full(NUM_LAYERS)
STRIDES = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * NUM_LAYERS)
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
NEVER = CommitRule(method="agreement", agreeing=1_000)
"""Nothing settles before the end, so that the end says what the whole utterance would."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Recogniser:
    return Recogniser("tiny", load_checkpoint(folder), "float32")


def live(model: Recogniser, *, chunk: int = 24) -> LiveRecogniser:
    options = LiveOptions(chunk_frames=chunk, rule=NEVER, cache_dtype=torch.float32)
    return LiveRecogniser(model, options)


def pushed(
    runner: LiveRecogniser, samples: Samples, plans: Sequence[DepthPlan], cuts: Sequence[int]
) -> tuple[LiveUtterance, LiveResult]:
    """Feed samples cut at some places, each chunk at its plan; give what the last step said."""
    utterance = runner.open_utterance()
    bounds = sorted({cut % (len(samples) + 1) for cut in cuts} | {len(samples)})
    results: list[LiveResult] = []
    for start, end in zip([0, *bounds], bounds, strict=False):
        plan = plans[0] if len(plans) == 1 else plans[_chunks(runner, utterance) % len(plans)]
        ends = end == len(samples)
        results = runner.step([LiveRequest(utterance, samples[start:end], plan, ends=ends)])
    return utterance, results[0]


def _chunks(runner: LiveRecogniser, utterance: LiveUtterance) -> int:
    return utterance.num_frames * FRAME_SAMPLES // round(runner.chunk_s * RATE_HZ)


def offline_tokens(model: Recogniser, samples: Samples, schedule: DepthSchedule) -> list[int]:
    with torch.inference_mode():
        encoded = model.module.encode(
            torch.from_numpy(samples)[None], torch.tensor([len(samples)]), schedule
        )
    limit = 4 + int(6.5 * len(samples) / RATE_HZ)
    return decode_greedy(model.module, encoded, [limit], model.module.config.end_token)[0].tokens


def tokens_of(utterance: LiveUtterance) -> list[int]:
    return utterance.decoder.transcript.committed.tokens


@settings(max_examples=25)
@given(
    plan=ANY_PLAN,
    chunk=st.sampled_from([16, 24, 48]),
    length=st.integers(1, 26_000),
    cuts=st.lists(st.integers(0, 26_000), max_size=4),
)
def test_finals_are_those_of_the_whole_utterance(
    model: Recogniser, plan: tuple[int, ...], chunk: int, length: int, cuts: list[int]
) -> None:
    samples, depth = speech(length), DepthPlan(plan)

    utterance, result = pushed(live(model, chunk=chunk), samples, [depth], cuts)

    assert tokens_of(utterance) == offline_tokens(model, samples, DepthSchedule.constant(depth))
    assert result.stable_words == len(result.words)
    assert result.encoded_s == length / RATE_HZ


@settings(max_examples=15)
@given(plans=st.lists(STRIDES, min_size=2, max_size=3), length=st.integers(16_000, 30_000))
def test_strides_that_change_with_the_chunks_are_those_of_a_schedule(
    model: Recogniser, plans: list[tuple[int, ...]], length: int
) -> None:
    samples, depths = speech(length), [DepthPlan(plan) for plan in plans]
    runner = live(model)
    chunk = round(runner.chunk_s * RATE_HZ)

    utterance, _ = pushed(runner, samples, depths, range(80, length, chunk))

    starts = range(0, utterance.num_frames, 24)
    parts = [(start, depths[place % len(depths)]) for place, start in enumerate(starts)]
    assert tokens_of(utterance) == offline_tokens(model, samples, DepthSchedule(tuple(parts)))


def test_streams_of_different_plans_run_as_each_would_alone(model: Recogniser) -> None:
    runner, samples = live(model), [speech(18_000, seed) for seed in range(3)]
    plans = [FULL, DepthPlan((4, 0, 2)), DepthPlan((2, 2, 1))]
    together = [runner.open_utterance() for _ in plans]
    for start in range(0, 18_000, 6_000):
        shares = zip(together, samples, plans, strict=True)
        runner.step(
            [
                LiveRequest(u, s[start : start + 6_000], p, ends=start == 12_000)
                for u, s, p in shares
            ]
        )

    for utterance, heard, plan in zip(together, samples, plans, strict=True):
        alone, _ = pushed(live(model), heard, [plan], [6_000, 12_000])
        assert tokens_of(utterance) == tokens_of(alone)


def test_layers_that_are_skipped_stay_so_and_a_refusal_changes_nothing(model: Recogniser) -> None:
    runner, samples = live(model), speech(20_000)
    utterance = runner.open_utterance()
    runner.step([LiveRequest(utterance, samples[:9_000], DepthPlan((1, 0, 2)))])

    for other in ((1, 1, 2), (0, 0, 2), (1, 0, 0), (1, 0)):
        with pytest.raises(PlanInvalid, match="expected"):
            runner.step([LiveRequest(utterance, samples[9_000:], DepthPlan(other), ends=True)])
    runner.step([LiveRequest(utterance, samples[9_000:], DepthPlan((1, 0, 2)), ends=True)])

    schedule = DepthSchedule.constant(DepthPlan((1, 0, 2)))
    assert tokens_of(utterance) == offline_tokens(model, samples, schedule)


def test_the_encoder_keeps_no_more_of_a_longer_utterance(model: Recogniser) -> None:
    runner, utterance = live(model), live(model).open_utterance()
    kept: list[int] = []
    for place in range(16):
        chunk = speech(7_680, place)
        runner.step([LiveRequest(utterance, chunk, FULL, decode=False)])
        kept.append(utterance.encoder.num_bytes)

    assert utterance.state_bytes > kept[-1] > 0
    assert max(kept[8:]) <= max(kept[2:8])


def test_an_utterance_in_which_nothing_was_said_has_no_words(model: Recogniser) -> None:
    utterance, result = pushed(live(model), np.zeros(0, np.float32), [FULL], [])

    assert (tuple(result.words), result.encoded_s) == ((), 0.0)
    assert utterance.encoder.num_bytes == 0


def test_a_second_pass_says_what_the_file_would(model: Recogniser) -> None:
    runner, samples = (
        live(model),
        np.rint(speech(16_000) * 32_767).astype(np.float32) / np.float32(32_767),
    )
    request = LiveRequest(runner.open_utterance(), samples, FULL, ends=True, second_pass=True)

    (result,) = runner.step([request])
    (file,) = model.transcribe_windows([samples], FULL)

    assert [word.text for word in result.words] == [word.text for word in file.words]
    assert result.cost.flops == file.flops


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 4), (4, 0, 2)])
def test_operations_are_about_those_that_run(model: Recogniser, strides: tuple[int, ...]) -> None:
    runner, plan = live(model), DepthPlan(strides)
    utterance = runner.open_utterance()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        results = [
            *runner.step([LiveRequest(utterance, speech(24_000), plan, decode=False)]),
            *runner.step([LiveRequest(utterance, speech(24_000), plan, ends=True)]),
        ]

    counted = counter.get_total_flops()
    assert sum(result.cost.flops for result in results) == pytest.approx(counted, rel=0.02)
    costs = [result.cost for result in results]
    assert all((cost.flops == cost.full_flops) == (strides == (1, 1, 1)) for cost in costs)


def test_half_a_minute_has_to_have_places(tmp_path: Path) -> None:
    few = Recogniser("few", load_checkpoint(saved(tmp_path, memory_positions=60)), "float32")
    runner = live(few)

    assert not can_stream(few)
    with pytest.raises(AudioTooLong):
        runner.step([LiveRequest(runner.open_utterance(), speech(40_000), FULL, ends=True)])


def test_the_engine_streams_it(folder: Path, model: Recogniser) -> None:
    engine = create_torch_engine(str(folder), num_threads=1, device="cpu")
    info = engine.load()
    samples = speech(20_000)
    plan = info.offered[1]
    utterance = engine.open_utterance()

    for start in range(0, 15_000, 5_000):
        engine.step([LiveInput(utterance, samples[start : start + 5_000], plan)])
    last = LiveInput(utterance, samples[15_000:], plan, ends=True, second_pass=True)
    (heard,) = engine.step([last])
    while not heard.done:
        (heard,) = engine.step([replace(last, samples=samples[:0])])

    (file,) = model.transcribe_windows([samples], DepthPlan(plan.strides))
    assert choose_engine(str(folder)) == "torch"
    assert info.chunk_s == 24 * FRAME_SAMPLES / RATE_HZ
    assert heard.stable_words == len(heard.words) == len(file.words)
    other = engine.choose(0.6, None, "skip")
    begun = engine.open_utterance()
    engine.step([LiveInput(begun, samples, info.offered[0])])
    with pytest.raises(RefusedPlan):
        engine.step([LiveInput(begun, samples, other)])


def test_nothing_counts_as_encoded_that_a_window_waits_for(model: Recogniser) -> None:
    runner = live(model)
    utterance = runner.open_utterance()

    results = [runner.step([LiveRequest(utterance, speech(7_680, n), FULL)])[0] for n in range(4)]

    made_s = utterance.num_frames * 320 / RATE_HZ
    assert 0 < results[-1].encoded_s < made_s
    assert utterance.encoder.num_final_frames < utterance.num_frames
