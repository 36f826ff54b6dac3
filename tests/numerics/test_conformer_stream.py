"""A causal Conformer chunk by chunk equals its forward over the whole utterance."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model_store.backbones.conformer import Conformer
from model_store.backbones.conformer_stream import ConformerStream, can_stream
from model_store.depth import DepthPlan, DepthSchedule
from model_store.errors import PlanInvalid, StreamingUnsupported
from tests.numerics.backbones import NUM_LAYERS, constant, noise
from tests.numerics.ctc_backbones import CONFIGS, STREAMING, build

CHUNK_FRAMES = 8
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
FULL = DepthPlan((1, 1, 1))


@pytest.fixture(scope="module")
def model() -> Conformer:
    built = build("conformer-streaming")
    assert isinstance(built, Conformer)
    return built


def streamed(
    model: Conformer, samples_S: Tensor, cuts: Sequence[int], plans: Sequence[DepthPlan]
) -> Tensor:
    """Push packets of these sizes, then the rest; one plan a chunk, the last for all after."""
    stream = ConformerStream(model, CHUNK_FRAMES)
    states: list[Tensor] = []
    start = 0
    ends = [min(len(samples_S), sum(cuts[: n + 1])) for n in range(len(cuts))]
    for end in [*ends, len(samples_S)]:
        last = end == len(samples_S) and start <= end
        plan = plans[min(stream.num_frames // CHUNK_FRAMES, len(plans) - 1)]
        states += stream.push(samples_S[start:end], plan, ends=last)
        start = end
        if last:
            break
    return torch.cat(states)


@torch.inference_mode()
def offline(model: Conformer, samples_S: Tensor, schedule: DepthSchedule) -> Tensor:
    lengths_B = torch.tensor([len(samples_S)])
    return model.encode(samples_S.unsqueeze(0), lengths_B, schedule, CHUNK_FRAMES).states_BTD[0]


@settings(max_examples=25, deadline=None)
@given(
    plan=ANY_PLAN,
    length=st.integers(1, 30_000),
    cuts=st.lists(st.integers(0, 7_000), max_size=8),
)
def test_a_stream_computes_what_the_whole_utterance_does(
    model: Conformer, plan: tuple[int, ...], length: int, cuts: list[int]
) -> None:
    samples_S = noise(length)[0][0]

    found_TD = streamed(model, samples_S, cuts, [DepthPlan(plan)])

    expected_TD = offline(model, samples_S, constant(*plan))
    torch.testing.assert_close(found_TD, expected_TD, rtol=1e-4, atol=1e-5)


def test_a_stream_is_read_at_its_exit(model: Conformer) -> None:
    early = Conformer(dataclasses.replace(model.config, exits=(1,))).eval()
    early.load_state_dict(model.state_dict())
    with torch.no_grad():
        for layer in early.encoder.stack.layers:
            layer.final_norm.weight.normal_(1.0, 0.3)  # pyright: ignore # noqa: PGH003 so that norms tell
    samples_S = noise(20_000)[0][0]

    found_TD = streamed(early, samples_S, [6_000], [DepthPlan((1, 0, 0))])

    expected_TD = offline(early, samples_S, constant(1, 0, 0))
    torch.testing.assert_close(found_TD, expected_TD, rtol=1e-4, atol=1e-5)
    plain = Conformer(model.config).eval()
    plain.load_state_dict(early.state_dict())
    assert not torch.allclose(expected_TD, offline(plain, samples_S, constant(1, 0, 0)), atol=1e-2)


def test_strides_may_change_from_chunk_to_chunk_as_in_a_schedule(model: Conformer) -> None:
    plans = [DepthPlan((1, 2, 1)), DepthPlan((4, 8, 2)), DepthPlan((1, 1, 1))]
    schedule = DepthSchedule(tuple((CHUNK_FRAMES * n, plan) for n, plan in enumerate(plans)))
    samples_S = noise(40_000)[0][0]
    # Packets of less than a chunk, so that no packet completes two.
    found_TD = streamed(model, samples_S, [2_000] * 20, plans)

    torch.testing.assert_close(found_TD, offline(model, samples_S, schedule), rtol=1e-4, atol=1e-5)


def test_later_audio_never_changes_what_was_given(model: Conformer) -> None:
    samples_S = noise(40_000)[0][0]
    changed_S = samples_S.clone()
    changed_S[20_000:] = 5 * noise(40_000, seed=1)[0][0, 20_000:]

    first, second = (
        ConformerStream(model, CHUNK_FRAMES).push(one[:20_000], FULL)
        for one in (samples_S, changed_S)
    )

    assert first
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    frames = len(first) * CHUNK_FRAMES
    whole, other = (offline(model, one, constant(1, 1, 1)) for one in (samples_S, changed_S))
    torch.testing.assert_close(whole[:frames], torch.cat(first), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other[:frames], torch.cat(first), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[frames:], other[frames:], atol=1e-2)


def test_a_chunk_is_due_once_its_last_frame_has_been_heard(model: Conformer) -> None:
    # Frame 7 reads windows 28 to 34; window 34 reads up to sample 160 * 34 + 199.
    needed = 160 * 34 + 200
    samples_S = noise(needed)[0][0]
    stream = ConformerStream(model, CHUNK_FRAMES)

    assert stream.push(samples_S[:-1], FULL) == []
    (chunk_TD,) = stream.push(samples_S[-1:], FULL)

    assert chunk_TD.shape == (CHUNK_FRAMES, STREAMING.dim)


def test_caches_grow_by_a_row_for_each_stride(model: Conformer) -> None:
    stream = ConformerStream(model, CHUNK_FRAMES)

    stream.push(noise(30_000)[0][0], DepthPlan((1, 4, 0)))

    frames = stream.num_frames
    assert frames == 40
    assert stream.cached_rows == [frames, frames // 4, 0]
    assert stream.num_bytes > 0


def test_a_plan_that_skips_other_layers_is_refused_and_changes_nothing(model: Conformer) -> None:
    samples_S = noise(30_000)[0][0]
    stream = ConformerStream(model, CHUNK_FRAMES)
    before = stream.push(samples_S[:15_000], DepthPlan((1, 0, 1)))

    with pytest.raises(PlanInvalid, match="skips what the utterance's first one does"):
        stream.push(samples_S[15_000:], FULL)

    after = stream.push(samples_S[15_000:], DepthPlan((1, 0, 1)), ends=True)
    torch.testing.assert_close(
        torch.cat([*before, *after]),
        offline(model, samples_S, constant(1, 0, 1)),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("conformer")])
def test_only_what_hears_nothing_of_the_future_streams(name: str) -> None:
    model = build(name)
    assert isinstance(model, Conformer)

    assert can_stream(model) == (name == "conformer-streaming")
    if not can_stream(model):
        with pytest.raises(StreamingUnsupported, match="got one that hears whole utterances"):
            ConformerStream(model, CHUNK_FRAMES)


def test_the_published_sizes_say_which_of_them_stream() -> None:
    from model_store.backbones.conformer import ETF4ASR, LDASR
    from model_store.backbones.conformer import STREAMING as PUBLIC

    small = [
        dataclasses.replace(config, encoder_layers=1, inner_dim=8, dim=8, num_heads=2)
        for config in (LDASR, ETF4ASR, PUBLIC)
    ]
    assert [can_stream(Conformer(config)) for config in small] == [False, False, True]
