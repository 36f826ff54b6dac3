from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from model_store.backbones import EncoderStates, SpeechModule
from model_store.decoding.greedy import decode_greedy
from model_store.decoding.hypothesis import Hypothesis
from model_store.depth import DepthPlan, DepthSchedule
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, encode, noise

LENGTHS = (9_000, 16_000, 5_000)
NEVER = -1
"""No token ends a transcript."""


@dataclass(frozen=True)
class Heard:
    model: SpeechModule
    encoded: EncoderStates
    alone: list[EncoderStates]


@pytest.fixture(scope="module", params=["moonshine", "whisper"])
def heard(request: pytest.FixtureRequest) -> Heard:
    model = BACKBONES[request.param].build()
    schedule = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))
    samples_BS, num_samples_B = noise(*LENGTHS)
    alone = [
        encode(model, samples_BS[row : row + 1, :length], num_samples_B[row : row + 1], schedule)
        for row, length in enumerate(LENGTHS)
    ]
    return Heard(model, encode(model, samples_BS, num_samples_B, schedule), alone)


def batch_sizes(model: SpeechModule) -> tuple[list[int], torch.utils.hooks.RemovableHandle]:
    seen: list[int] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].shape[0])

    return seen, model.decoder.register_forward_pre_hook(note)


def alike(one: Hypothesis, other: Hypothesis) -> None:
    assert one.tokens == other.tokens
    assert (one.ended, one.steps) == (other.ended, other.steps)
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert one.end_logprob == pytest.approx(other.end_logprob, abs=1e-4)


def test_a_batch_says_what_each_says_alone(heard: Heard) -> None:
    limits = [12, 7, 9]
    end_token = decode_greedy(heard.model, heard.alone[0], [12], NEVER)[0].tokens[5]

    together = decode_greedy(heard.model, heard.encoded, limits, end_token, {0: [1], 1: [0, 3]})

    for row, (encoded, limit) in enumerate(zip(heard.alone, limits, strict=True)):
        (alone,) = decode_greedy(heard.model, encoded, [limit], end_token, {0: [1], 1: [0, 3]})
        alike(together[row], alone)
        assert together[row].weights_HUP is not None
        assert together[row].weights_HUP == pytest.approx(alone.weights_HUP, abs=1e-4)


def test_the_limit_of_each_transcript_is_respected(heard: Heard) -> None:
    found = decode_greedy(heard.model, heard.encoded, [1, 6, 3], NEVER)

    assert [len(item.tokens) for item in found] == [1, 6, 3]
    assert [item.steps for item in found] == [1, 6, 3]
    assert not any(item.ended for item in found)


def test_finished_transcripts_leave_the_batch(heard: Heard) -> None:
    seen, handle = batch_sizes(heard.model)

    with handle:
        decode_greedy(heard.model, heard.encoded, [1, 6, 3], NEVER)

    assert seen == [3, 2, 2, 1, 1, 1]


def test_the_end_token_ends_a_transcript_and_is_no_part_of_it(heard: Heard) -> None:
    (free,) = decode_greedy(heard.model, heard.alone[0], [12], NEVER)
    end_token = free.tokens[-1]
    before = free.tokens.index(end_token)

    (ended,) = decode_greedy(heard.model, heard.alone[0], [12], end_token)

    assert ended.ended
    assert ended.tokens == free.tokens[:before]
    assert ended.steps == before + 1
    assert ended.end_logprob == pytest.approx(free.logprobs[before], abs=1e-5)
    mean = sum(free.logprobs[: before + 1]) / (before + 1)
    assert ended.avg_logprob == pytest.approx(mean, abs=1e-5)


def test_log_probabilities_are_those_of_a_forward_without_caches(heard: Heard) -> None:
    model = heard.model
    (found,) = decode_greedy(model, heard.alone[1], [10], NEVER)

    decoder = model.decoder
    input_BU = torch.tensor([[*model.prompt, *found.tokens[:-1]]])
    with torch.enable_grad():  # which is what leaves the caches out
        cache = decoder.begin(decoder.pool(heard.alone[1]), input_BU.shape[1])
        logp_BUV = decoder.logits(decoder(input_BU, cache)).log_softmax(-1)
    logp_UV = logp_BUV[0, len(model.prompt) - 1 :]

    assert logp_UV.argmax(-1).tolist() == found.tokens
    assert logp_UV.amax(-1).tolist() == pytest.approx(found.logprobs, abs=1e-4)


def test_watched_weights_are_shares_of_the_frames_an_utterance_has(heard: Heard) -> None:
    watched = {1: [2, 0], 0: [3]}

    found = decode_greedy(heard.model, heard.encoded, [5, 4, 3], NEVER, watched)

    rows_B = [int(rows) for rows in heard.model.decoder.pool(heard.encoded).num_rows_B]
    for item, limit, rows in zip(found, [5, 4, 3], rows_B, strict=True):
        assert item.weights_HUP is not None
        assert item.weights_HUP.shape == (3, limit, rows)
        assert np.allclose(item.weights_HUP.sum(-1), 1, atol=1e-5)


def test_watched_weights_hold_the_end_token_last(heard: Heard) -> None:
    (free,) = decode_greedy(heard.model, heard.alone[0], [8], NEVER, {1: [0]})
    end_token = free.tokens[-1]

    (ended,) = decode_greedy(heard.model, heard.alone[0], [8], end_token, {1: [0]})

    assert ended.weights_HUP is not None
    assert free.weights_HUP is not None
    places = len(ended.tokens) + 1
    assert ended.weights_HUP == pytest.approx(free.weights_HUP[:, :places], abs=1e-5)


def test_nothing_is_watched_unless_asked_for(heard: Heard) -> None:
    (found,) = decode_greedy(heard.model, heard.alone[0], [3], NEVER)

    assert found.weights_HUP is None
