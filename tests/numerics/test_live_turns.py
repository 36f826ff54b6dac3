"""Last words that take several steps, on both runtimes, while other streams are heard."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from model_store.decoding.live_step import LiveCost, LiveRequest, LiveResult
from model_store.registry.live import LiveOptions, LiveRecogniser
from model_store.text.agreement import CommitRule
from service.engine.onnx.live import create_live_runner
from tests.numerics.live_streams_kit import RULES, Models, Runner, Script, compare, scripts


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


def summed(costs: Sequence[LiveCost]) -> LiveCost:
    whole = LiveCost()
    for cost in costs:
        whole.add(cost.flops - cost.encoder_flops, cost.full_flops)
        whole.add(cost.encoder_flops, 0, encoder=True)
    return whole


def run_in_turns(runner: Runner, streams: Sequence[Script]) -> tuple[list[LiveResult], int]:
    """Give what each stream says at its end, and how many steps left words to a later one.

    A stream whose last words wait goes on with them while the others still hear.
    """
    turns = [stream.turns() for stream in streams]
    utterances = [runner.open_utterance() for _ in streams]
    costs: list[list[LiveCost]] = [[] for _ in streams]
    last: dict[int, LiveResult] = {}
    num_put_off = 0
    while len(last) < len(streams):
        due = [i for i in range(len(streams)) if i not in last]
        taken = [turns[i].pop(0) if len(turns[i]) > 1 else turns[i][0] for i in due]
        requests = [
            LiveRequest(
                utterances[i],
                samples,
                plan,
                ends=ends,
                second_pass=ends and streams[i].second_pass,
            )
            for i, (samples, plan, ends) in zip(due, taken, strict=True)
        ]
        for i, one, result in zip(due, taken, runner.step(requests), strict=True):
            costs[i].append(result.cost)
            if one[2] and result.done:
                last[i] = dataclasses.replace(result, cost=summed(costs[i]))
            elif one[2]:
                num_put_off += 1
                turns[i] = [(one[0][:0], one[1], True)]
    return [last[i] for i in range(len(streams))], num_put_off


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@settings(max_examples=15, deadline=None)
@given(
    streams=st.lists(scripts(), min_size=1, max_size=4),
    rule=RULES,
    reuse=st.booleans(),
    calls=st.integers(1, 3),
)
def test_finals_that_go_on_in_later_steps_say_and_cost_the_same(
    models: Models,
    runtime: str,
    streams: list[Script],
    rule: CommitRule,
    reuse: bool,
    calls: int,
) -> None:
    if runtime == "onnx":
        whole: Runner = models.runner(rule, reuse=reuse)
        in_turns: Runner = create_live_runner(
            models.onnx(), rule=rule, reuse=reuse, final_calls=calls
        )
    else:
        whole = models.expected(rule, reuse=reuse)
        options = LiveOptions(rule=rule, reuse=reuse, cache_dtype=torch.float32, final_calls=calls)
        in_turns = LiveRecogniser(models.torch, options)
    expected, none = run_in_turns(whole, streams)

    found, num_put_off = run_in_turns(in_turns, streams)

    assert none == 0
    event(f"put off: {min(num_put_off, 3)}")
    compare(found, expected)
