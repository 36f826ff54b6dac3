"""Moonshine Streaming over whole utterances: windows, look-ahead, strides, cost, checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model_store.backbones import moonshine_streaming_block
from model_store.backbones.attention import attend
from model_store.backbones.elastic import RowContext
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.backbones.moonshine_streaming_block import Spans, Window, WindowedBlock
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import AudioTooLong, CheckpointError, PlanInvalid
from tests.numerics.backbones import (
    NUM_LAYERS,
    VOCABULARY,
    constant,
    encode,
    layers,
    noise,
    valid_rows,
)
from tests.numerics.moonshine_streaming_kit import CONFIG, FRAME_SAMPLES, built

FULL = constant(1, 1, 1)
STRIDES = st.sampled_from([1, 2, 4, 8])
ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
SWITCHING = DepthSchedule(
    ((0, DepthPlan((1, 2, 4))), (16, DepthPlan((4, 1, 2))), (40, DepthPlan((2, 8, 1))))
)


@pytest.fixture(scope="module")
def model() -> MoonshineStreaming:
    return built()


def stack_input_and_output(
    model: MoonshineStreaming, schedule: DepthSchedule
) -> tuple[Tensor, Tensor]:
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    handle = model.encoder.stack.register_forward_hook(keep)
    encode(model, *noise(30_000), schedule)
    handle.remove()
    return seen[0]


@torch.inference_mode()
def plain_stack(model: MoonshineStreaming, x_BTD: Tensor, kept: list[int]) -> Tensor:
    context = RowContext(0, torch.arange(x_BTD.shape[1]), None, None, None)
    for index in kept:
        x_BTD = layers(model)[index].block(x_BTD, context)
    return x_BTD


def test_the_full_plan_equals_a_plain_stack_bitwise(model: MoonshineStreaming) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, FULL)

    assert torch.equal(after_BTD, plain_stack(model, before_BTD, [0, 1, 2]))


def test_skipping_without_a_bypass_is_the_identity() -> None:
    model = built(bypass_rank=0)

    before_BTD, after_BTD = stack_input_and_output(model, constant(1, 0, 1))

    assert torch.equal(after_BTD, plain_stack(model, before_BTD, [0, 2]))


def test_a_bypass_stands_in_for_a_skipped_layer(model: MoonshineStreaming) -> None:
    before_BTD, after_BTD = stack_input_and_output(model, constant(1, 0, 1))

    assert not torch.allclose(after_BTD, plain_stack(model, before_BTD, [0, 2]), atol=1e-3)


@given(
    strides=st.lists(STRIDES, min_size=1, max_size=5),
    back=st.integers(0, 20),
    ahead=st.integers(0, 9),
)
def test_a_row_hears_the_rows_that_hold_a_frame_one_of_its_own_hears(
    strides: list[int], back: int, ahead: int
) -> None:
    # Eight frames at each stride, as where plans change along an utterance.
    rows = [
        range(start, start + stride)
        for place, stride in enumerate(strides)
        for start in range(8 * place, 8 * place + 8, stride)
    ]
    spans = Spans(
        torch.tensor([frames[0] for frames in rows]), torch.tensor([frames[-1] for frames in rows])
    )

    mask_GG = Window(back, ahead).mask(spans, spans)

    expected = [
        [any(q - back <= k <= q + ahead for q in query for k in key) for key in rows]
        for query in rows
    ]
    assert mask_GG.tolist() == expected


@pytest.mark.parametrize(("stride", "heard"), [(1, (15, 3)), (2, (8, 2)), (4, (4, 1)), (8, (2, 1))])
def test_windows_are_rounded_up_to_whole_groups(stride: int, heard: tuple[int, int]) -> None:
    first_G = torch.arange(0, 160, stride)
    spans = Spans(first_G, first_G + stride - 1)

    middle_G = Window(15, 3).mask(spans, spans)[len(first_G) // 2]

    before, after = middle_G.tensor_split(2)
    assert (int(before.sum()), int(after.sum()) - 1) == heard


@pytest.mark.parametrize(
    ("plan", "frames"),
    [
        ("1,1,1", 6),
        ("1,1,0", 3),
        ("0,1,1", 3),
        ("0,1,0", 0),
        ("2,2,2", 9),
        ("4,4,4", 11),
        ("8,8,8", 23),
        ("0,4,0", 3),
        ("4,0,0", 7),
    ],
)
def test_a_dropped_layer_takes_its_look_ahead_with_it(
    model: MoonshineStreaming, plan: str, frames: int
) -> None:
    assert model.lookahead_frames(DepthPlan.parse(plan)) == frames


def test_the_published_sizes_look_a_quarter_second_ahead() -> None:
    windows = ((15, 3), (15, 3), (15, 0), (15, 0), (15, 3), (15, 3))
    tiny = built(windows=windows)

    lookahead = [tiny.lookahead_frames(DepthPlan((stride,) * 6)) for stride in (1, 2, 4)]

    assert lookahead == [12, 17, 19]


@settings(max_examples=15)
@given(plan=ANY_PLAN, frame=st.integers(0, 40))
def test_a_frame_hears_its_look_ahead_and_no_more(
    model: MoonshineStreaming, plan: tuple[int, ...], frame: int
) -> None:
    lookahead = model.lookahead_frames(DepthPlan(plan))
    samples_BS, num_samples_B = noise(30_000)
    unheard = (frame + lookahead) * FRAME_SAMPLES + 80
    changed_BS = samples_BS.clone()
    changed_BS[:, unheard:] = 5 * noise(30_000, seed=1)[0][:, unheard:]

    first = encode(model, samples_BS, num_samples_B, constant(*plan)).states_BTD
    second = encode(model, changed_BS, num_samples_B, constant(*plan)).states_BTD

    torch.testing.assert_close(first[:, : frame + 1], second[:, : frame + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("plan", [(1, 1, 1), (2, 4, 1), (4, 4, 4), (0, 2, 1), (1, 0, 0)])
def test_the_look_ahead_is_not_overstated(model: MoonshineStreaming, plan: tuple[int, ...]) -> None:
    lookahead = model.lookahead_frames(DepthPlan(plan))
    samples_BS, num_samples_B = noise(30_000)
    first_BTD = encode(model, samples_BS, num_samples_B, constant(*plan)).states_BTD
    reaches: list[int] = []

    for frame in range(40, 48):
        changed_BS = samples_BS.clone()
        changed_BS[:, frame * FRAME_SAMPLES :] += noise(30_000, seed=1)[0][
            :, frame * FRAME_SAMPLES :
        ]
        second_BTD = encode(model, changed_BS, num_samples_B, constant(*plan)).states_BTD
        moved_T = (first_BTD - second_BTD).abs().amax((0, 2)) > 1e-6
        reaches.append(frame - int(moved_T.nonzero()[0]))

    assert max(reaches) == lookahead


@settings(max_examples=15)
@given(plan=ANY_PLAN, lengths=st.tuples(*[st.integers(1, 40_000)] * 3))
@example(plan=(1, 4, 1), lengths=(9_000, 40, 79))
def test_a_row_depends_neither_on_its_neighbours_nor_on_padding(
    model: MoonshineStreaming, plan: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    samples_BS, num_samples_B = noise(*lengths)

    together = encode(model, samples_BS, num_samples_B, constant(*plan))

    for row, states_TD in enumerate(valid_rows(together)):
        own_BS = samples_BS[row : row + 1, : lengths[row]]
        alone = encode(model, own_BS, num_samples_B[row : row + 1], constant(*plan))
        torch.testing.assert_close(states_TD, alone.states_BTD[0], rtol=1e-4, atol=1e-5)


def test_plans_that_change_along_the_way_depend_on_no_padding(model: MoonshineStreaming) -> None:
    samples_BS, num_samples_B = noise(30_000, 17_077)

    together = encode(model, samples_BS, num_samples_B, SWITCHING)
    alone = encode(model, samples_BS[1:, :17_077], num_samples_B[1:], SWITCHING)

    torch.testing.assert_close(valid_rows(together)[1], alone.states_BTD[0], rtol=1e-4, atol=1e-5)


def test_it_makes_as_many_frames_as_it_says(model: MoonshineStreaming) -> None:
    for length, frames in ((1, 1), (80, 1), (399, 1), (400, 2), (640, 2), (719, 2), (720, 3)):
        samples_BS, num_samples_B = noise(length)

        encoded = encode(model, samples_BS, num_samples_B, FULL)

        assert model.num_frames(num_samples_B).tolist() == [frames]
        assert encoded.num_frames_B.tolist() == [frames]
        assert encoded.states_BTD.shape[1] == frames
        assert bool(encoded.states_BTD.isfinite().all())


def test_every_row_hears_something(
    model: MoonshineStreaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row that hears nothing is undefined to some attention kernels; those past an utterance's
    # end, which no valid row hears, would.
    masks: list[Tensor] = []

    def kept(query: Tensor, key: Tensor, value: Tensor, mask_BGL: Tensor) -> Tensor:
        masks.append(mask_BGL)
        return attend(query, key, value, mask_BGL)

    monkeypatch.setattr(moonshine_streaming_block, "attend", kept)

    encode(model, *noise(30_000, 2_000), SWITCHING)

    assert len(masks) == NUM_LAYERS
    assert all(bool(mask_BGL.any(-1).all()) for mask_BGL in masks)


def test_silence_gives_finite_states(model: MoonshineStreaming) -> None:
    encoded = encode(model, torch.zeros(1, 8_000), torch.tensor([8_000]), constant(2, 1, 4))

    assert bool(encoded.states_BTD.isfinite().all())


def test_a_chunk_mask_takes_nothing_away(model: MoonshineStreaming) -> None:
    samples = noise(20_000, 12_000)

    whole, chunked = (encode(model, *samples, SWITCHING, chunk) for chunk in (None, 16))

    assert torch.equal(whole.states_BTD, chunked.states_BTD)


def test_a_layer_runs_as_many_rows_as_the_schedule_counts(model: MoonshineStreaming) -> None:
    rows: list[int] = []
    handles = [
        layer.block.register_forward_hook(
            lambda _module, inputs, _output: rows.append(inputs[0].shape[1])
        )
        for layer in layers(model)
    ]

    encoded = encode(model, *noise(30_000), SWITCHING)

    for handle in handles:
        handle.remove()
    frames = encoded.states_BTD.shape[1]
    assert rows == [SWITCHING.num_rows(layer, frames) for layer in range(NUM_LAYERS)]


def test_a_plan_of_another_depth_is_refused(model: MoonshineStreaming) -> None:
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 2"):
        encode(model, *noise(20_000), constant(1, 1))
    with pytest.raises(PlanInvalid, match="expected 3 strides, got 4"):
        model.lookahead_frames(DepthPlan((1, 1, 1, 1)))


def test_the_decoder_has_places_for_so_much_audio_and_no_more(model: MoonshineStreaming) -> None:
    longest = CONFIG.memory_positions * FRAME_SAMPLES

    heard = encode(model, *noise(longest), FULL)
    assert model.decoder.pool(heard).num_rows_B.tolist() == [150]
    with pytest.raises(AudioTooLong, match="expected at most 6 s"):
        model.decoder.pool(encode(model, *noise(longest + FRAME_SAMPLES), FULL))


def test_equal_states_at_another_place_are_told_apart(model: MoonshineStreaming) -> None:
    # The encoder knows no positions: the same sound gives the same frames wherever it comes.
    encoded = encode(model, torch.zeros(1, 32_000), torch.tensor([32_000]), FULL)
    states_TD, pooled_PD = encoded.states_BTD[0], model.decoder.pool(encoded).states_BPD[0]

    torch.testing.assert_close(states_TD[50], states_TD[70], rtol=0, atol=1e-6)
    assert not torch.allclose(pooled_PD[25], pooled_PD[35], atol=1e-2)


@torch.inference_mode()
def test_cached_decoding_equals_one_pass_over_all_tokens(model: MoonshineStreaming) -> None:
    token_BU = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    pooled = model.decoder.pool(model.encode(*noise(30_000, 18_000), FULL))

    whole_BUD = model.decoder(token_BU, model.decoder.begin(pooled, 12))
    cache = model.decoder.begin(pooled, 12)
    parts: list[Tensor] = list(torch.split(token_BU, [3, 1, 1, 4, 1, 2], dim=1))
    steps: list[Tensor] = [model.decoder(part, cache) for part in parts]

    torch.testing.assert_close(torch.cat(steps, dim=1), whole_BUD, rtol=1e-4, atol=1e-5)


def test_a_transcript_does_not_depend_on_its_neighbours(model: MoonshineStreaming) -> None:
    lengths, limits = (30_000, 9_000, 21_000), [5, 9, 12]
    samples_BS, num_samples_B = noise(*lengths)
    end_token = model.config.end_token

    encoded = encode(model, samples_BS, num_samples_B, FULL)
    together = decode_greedy(model, encoded, limits, end_token)

    for row, limit in enumerate(limits):
        own_BS = samples_BS[row : row + 1, : lengths[row]]
        heard = encode(model, own_BS, num_samples_B[row : row + 1], FULL)
        alone = decode_greedy(model, heard, [limit], end_token)[0]
        assert together[row].tokens == alone.tokens
        assert together[row].steps == alone.steps


@pytest.mark.parametrize("changes", [{}, {"tied_head": True, "decoder_dim": CONFIG.dim}])
def test_a_checkpoint_gives_the_model_back(changes: dict[str, object], tmp_path: Path) -> None:
    model, plan = built(**changes), constant(2, 0, 1)
    catalogue = PlanCatalogue.untuned(NUM_LAYERS)
    save_checkpoint(model, catalogue, tmp_path / "exact")
    save_checkpoint(model, catalogue, tmp_path / "small", int8=True)

    exact, small = (load_checkpoint(tmp_path / name).model for name in ("exact", "small"))

    assert exact.config == small.config == model.config
    expected_BTD = encode(model, *noise(20_000), plan).states_BTD
    assert torch.equal(encode(exact, *noise(20_000), plan).states_BTD, expected_BTD)
    error_BTD = encode(small, *noise(20_000), plan).states_BTD - expected_BTD
    assert float(error_BTD.square().mean() / expected_BTD.square().mean()) < 0.03**2


@pytest.mark.parametrize("windows", [None, 3, [[1, 2, 3]], [4]])
def test_a_checkpoint_without_windows_is_refused(tmp_path: Path, windows: object) -> None:
    save_checkpoint(built(), PlanCatalogue.untuned(NUM_LAYERS), tmp_path)
    config = tmp_path / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("windows") if windows is None else values.update(windows=windows)
    config.write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(CheckpointError, match="expected a moonshine_streaming checkpoint"):
        load_checkpoint(tmp_path)


def test_its_blocks_are_those_of_the_windows(model: MoonshineStreaming) -> None:
    blocks = [layer.block for layer in layers(model)]

    assert [b.window for b in blocks if isinstance(b, WindowedBlock)] == [
        Window(15, 3),
        Window(15, 0),
        Window(15, 3),
    ]
