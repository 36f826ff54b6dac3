"""A head on an encoder's states: streaming equals offline, it is causal, and it reads through the protocol."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.backbones.ctc_head import CtcHead, HeadConfig, HeadedModel
from model_store.decoding.ctc import CtcWindowDecoder
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.bpe import train_bpe
from model_store.text.tokens import Tokenizer
from tests.training_kit import TINY, student

DIM, VOCABULARY = 12, 7
LINEAR = HeadConfig(dim=DIM, vocabulary=VOCABULARY)
KINDS = {
    "linear": LINEAR,
    "hidden": dataclasses.replace(LINEAR, hidden=8),
    "convolution": dataclasses.replace(LINEAR, hidden=8, taps=5),
}


def made(name: str, seed: int = 0) -> CtcHead:
    torch.manual_seed(seed)
    return CtcHead(KINDS[name]).eval()


def states(frames: int, batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, frames, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_has_a_distribution(name: str) -> None:
    log_probs_BTV = made(name)(states(9))

    assert log_probs_BTV.shape == (2, 9, VOCABULARY)
    assert torch.allclose(log_probs_BTV.exp().sum(-1), torch.ones(2, 9), atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(sorted(KINDS)),
    chunks=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_chunk_by_chunk_equals_the_whole(name: str, chunks: list[int], seed: int) -> None:
    head, states_BTD = made(name), states(sum(chunks), seed=seed)
    memory = head.begin(len(states_BTD))

    parts: list[torch.Tensor] = []
    for end, size in zip(itertools.accumulate(chunks), chunks, strict=True):
        log_probs_BTV, memory = head.step(states_BTD[:, end - size : end], memory)
        parts.append(log_probs_BTV)

    assert torch.allclose(torch.cat(parts, dim=1), head(states_BTD), atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_frame_does_not_depend_on_later_ones_nor_on_neighbours(name: str) -> None:
    head, states_BTD = made(name), states(8)
    other_BTD = states_BTD.clone()
    other_BTD[0, 5:, 0] += 3
    other_BTD[1, :, 0] += 3

    before, after = head(states_BTD)[0], head(other_BTD)[0]

    assert torch.allclose(before[:5], after[:5], atol=1e-6)
    assert not torch.allclose(before[5:], after[5:], atol=1e-3)


@pytest.mark.parametrize(("name", "frames"), [("linear", 1), ("convolution", 5)])
def test_a_frame_reads_as_many_frames_as_there_are_taps(name: str, frames: int) -> None:
    head, states_BTD = made(name), states(12)
    other_BTD = states_BTD.clone()
    other_BTD[:, 3, 0] += 3

    changed_T = (head(states_BTD) - head(other_BTD)).abs().amax(dim=(0, 2)) > 1e-6

    assert changed_T.nonzero().flatten().tolist() == list(range(3, 3 + frames))


def test_nothing_is_left_out_but_in_training() -> None:
    head, states_BTD = made("convolution"), states(6)

    assert torch.equal(head(states_BTD), head(states_BTD))
    head.train()
    assert not torch.equal(head(states_BTD), head(states_BTD))


@pytest.mark.parametrize("name", KINDS)
def test_parameters_are_counted(name: str) -> None:
    config, head = KINDS[name], made(name)
    width = config.hidden or DIM
    expected = 2 * DIM + (width + 1) * VOCABULARY
    expected += (DIM * config.taps + 1) * width if config.hidden else 0

    assert head.num_parameters == expected


@pytest.mark.parametrize("chunk_frames", [None, 8])
def test_a_headed_model_is_read_as_any_model_that_scores_frames(chunk_frames: int | None) -> None:
    tokenizer = Tokenizer(train_bpe(["so it was said"], 50))
    torch.manual_seed(0)
    headed = HeadedModel(student(), CtcHead(HeadConfig(dim=TINY.dim, vocabulary=50)).eval())
    draw = np.random.default_rng(0)
    windows = [draw.standard_normal(n).astype(np.float32) * 0.1 for n in (16_000, 12_000)]
    schedule = DepthSchedule.constant(DepthPlan((1, 2, 4)))

    together = CtcWindowDecoder(headed, tokenizer).decode(windows, schedule, chunk_frames)
    alone = [
        CtcWindowDecoder(headed, tokenizer).decode([one], schedule, chunk_frames)[0]
        for one in windows
    ]

    assert headed.vocabulary == 50
    assert headed.num_layers == TINY.encoder_layers
    assert [one.text for one in together] == [one.text for one in alone]
    for one, samples in zip(together, windows, strict=True):
        assert all(0 <= word.start_s <= word.end_s <= len(samples) / 16_000 for word in one.words)
