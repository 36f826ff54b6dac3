import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import ListenInput, LiveInput, LiveOutput, LiveUtterance, Samples
from service.engine.fake import FakeEngine
from service.engine.fake_live import CHUNK_S
from service.errors import PlanInvalid

ENGINE = FakeEngine()
FULL, HALF = (ENGINE.choose(drop, None, "ladder") for drop in (0.0, 0.5))


def loud(duration_s: float) -> Samples:
    return np.full(round(duration_s * 16_000), 0.1, np.float32)


def silent(duration_s: float) -> Samples:
    return np.zeros(round(duration_s * 16_000), np.float32)


def stepped(
    utterance: LiveUtterance, samples: Samples, plan: object = FULL, **flags: bool
) -> LiveOutput:
    (output,) = ENGINE.step([LiveInput(utterance, samples, plan, **flags)])  # type: ignore[arg-type]
    return output


def texts(output: LiveOutput) -> list[str]:
    return [word.text for word in output.words]


def test_a_half_second_is_a_stable_word_and_what_is_under_way_is_half_of_one() -> None:
    output = stepped(ENGINE.open_utterance(), loud(1.2))

    assert texts(output) == ["alpha", "bravo", "cha" + "r"]
    assert output.stable_words == 2


def test_only_whole_chunks_are_encoded_until_the_end() -> None:
    utterance = ENGINE.open_utterance()

    assert stepped(utterance, loud(1.0)).encoded_s == pytest.approx(2 * CHUNK_S)
    assert stepped(utterance, loud(0.3), ends=True).encoded_s == pytest.approx(1.3)


def test_at_the_end_every_word_is_whole_and_stable() -> None:
    output = stepped(ENGINE.open_utterance(), loud(1.2), ends=True)

    assert texts(output) == ["alpha", "bravo", "charlie"]
    assert output.stable_words == 3
    assert output.words[-1].end_s == pytest.approx(1.2)


def test_silence_has_no_words_but_its_place_is_kept() -> None:
    output = stepped(
        ENGINE.open_utterance(), np.concatenate([loud(0.5), silent(0.5), loud(0.5)]), ends=True
    )

    assert texts(output) == ["alpha", "charlie"]


def test_the_plan_of_the_chunk_decides_what_is_heard() -> None:
    utterance = ENGINE.open_utterance()
    stepped(utterance, loud(1.2), HALF)

    assert texts(stepped(utterance, loud(0.8), ends=True)) == ["um", "bravo", "charlie", "delta"]


def test_without_decoding_the_words_are_those_of_last_time() -> None:
    utterance = ENGINE.open_utterance()
    before = stepped(utterance, loud(0.8))

    after = stepped(utterance, loud(0.8), decode=False)

    assert after.words == before.words
    assert after.encoded_s > before.encoded_s


def test_a_second_pass_costs_the_whole_utterance_again() -> None:
    once = stepped(ENGINE.open_utterance(), loud(1.2), ends=True)
    twice = stepped(ENGINE.open_utterance(), loud(1.2), ends=True, second_pass=True)

    assert twice.cost.flops == 2 * once.cost.flops
    assert {word.confidence for word in twice.words} == {0.99}


def test_skipped_layers_hold_for_the_utterance() -> None:
    utterance = ENGINE.open_utterance()
    stepped(utterance, loud(0.4), ENGINE.choose(0.5, None, "skip"))

    with pytest.raises(PlanInvalid, match="expected the layers skipped so far"):
        stepped(utterance, loud(0.4), FULL)


def test_caches_grow_with_audio_and_shrink_with_depth() -> None:
    full, half = ENGINE.open_utterance(), ENGINE.open_utterance()
    stepped(full, loud(2.0), FULL)
    stepped(half, loud(2.0), HALF)

    assert full.state_bytes == 2 * half.state_bytes > 0


def test_time_is_spent_for_all_streams_together() -> None:
    spent: list[float] = []
    engine = FakeEngine(realtime_factor=0.5, sleep=spent.append)
    inputs = [LiveInput(engine.open_utterance(), loud(0.8), plan) for plan in (FULL, HALF)]

    engine.step(inputs)

    assert spent == [pytest.approx(0.8 * 0.5 * 1.5)]


@given(st.lists(st.integers(0, 20_000), max_size=6))
def test_the_end_does_not_depend_on_the_cut(places: list[int]) -> None:
    samples = np.concatenate([loud(0.7), silent(0.4), loud(0.6)])
    whole = stepped(ENGINE.open_utterance(), samples, ends=True)
    utterance = ENGINE.open_utterance()
    *parts, last = np.split(samples, sorted(place % len(samples) for place in places))
    for part in parts:
        stepped(utterance, part)

    assert stepped(utterance, last, ends=True).words == whole.words


@given(st.lists(st.integers(0, 4_000), max_size=6))
def test_the_gate_does_not_depend_on_the_cut(places: list[int]) -> None:
    samples = np.concatenate([loud(0.1), silent(0.1)])
    listener = ENGINE.open_listener()
    parts = np.split(samples, sorted(place % len(samples) for place in places))
    heard = [ENGINE.listen([ListenInput(listener, part)])[0] for part in parts]
    (whole,) = ENGINE.listen([ListenInput(ENGINE.open_listener(), samples)])

    assert np.concatenate(heard).tolist() == whole.tolist()
    assert len(whole) == len(samples) // 512


def test_the_gate_hears_loud_from_silent() -> None:
    (heard,) = ENGINE.listen([ListenInput(ENGINE.open_listener(), loud(0.1))])
    (nothing,) = ENGINE.listen([ListenInput(ENGINE.open_listener(), silent(0.1))])

    assert heard.min() > 0.9
    assert nothing.max() == 0.0
