import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_store.decoding.alignment import LEAST_WORD_S, monotone_path, separated, token_spans

Array = npt.NDArray[np.float32]


def cheapest(cost_UP: Array) -> float:
    """The cheapest path by trying every order of steps: frame, token, or both."""
    tokens, frames = cost_UP.shape

    def rest(token: int, frame: int) -> float:
        here = float(cost_UP[token, frame])
        if (token, frame) == (tokens - 1, frames - 1):
            return here
        onward = [(token + 1, frame), (token, frame + 1), (token + 1, frame + 1)]
        return here + min(
            rest(*place) for place in onward if place[0] < tokens and place[1] < frames
        )

    return rest(0, 0)


def cost_of(first_U: npt.NDArray[np.int64], cost_UP: Array) -> float:
    """The cheapest of the paths that enter each token at its frame."""
    total = 0.0
    for token, (start, end) in enumerate(itertools.pairwise([*first_U.tolist(), cost_UP.shape[1]])):
        total += float(cost_UP[token, start]) + float(cost_UP[token, start + 1 : end].sum())
        last_token = token == len(first_U) - 1
        if not last_token and end > start:
            # A token may share the frame that the next one starts at.
            total += min(0.0, float(cost_UP[token, end]))
    return total


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 5)),
        elements=st.integers(-8, 8).map(lambda eighths: eighths / 8),
    )
)
def test_the_path_is_as_cheap_as_the_best_of_all(cost_UP: Array) -> None:
    first_U = monotone_path(cost_UP)

    assert first_U[0] == 0
    assert (np.diff(first_U) >= 0).all()
    assert cost_of(first_U, cost_UP) == cheapest(cost_UP)


@st.composite
def diagonals(draw: st.DrawFn) -> tuple[Array, list[tuple[int, int]]]:
    """Weights of heads that look at each token's frames alone, and these frames."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=8))
    ends = list(itertools.accumulate(lengths))
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    weights_UP = np.full((len(spans), ends[-1]), 1e-3, np.float32)
    for token, (start, end) in enumerate(spans):
        weights_UP[token, start:end] = 1 / (end - start)
    heads = draw(st.integers(1, 3))
    return np.repeat(weights_UP[None], heads, axis=0), spans


@given(diagonals())
def test_attention_along_the_diagonal_gives_the_spans_it_was_made_of(
    made: tuple[Array, list[tuple[int, int]]],
) -> None:
    weights_HUP, spans = made

    assert token_spans(weights_HUP) == spans


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 9)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_spans_of_any_attention_never_go_back_and_hold_a_frame(weights_HUP: Array) -> None:
    spans = token_spans(weights_HUP)

    assert len(spans) == weights_HUP.shape[1]
    assert all(0 <= start < end <= weights_HUP.shape[2] for start, end in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans))


BOUNDS = st.lists(st.floats(-1, 9), min_size=2, max_size=30).map(sorted)


@given(BOUNDS, st.floats(0.1, 8))
def test_separated_words_rise_and_stay_inside_the_audio(
    bound_s: list[float], audio_s: float
) -> None:
    moved_s = separated(bound_s, audio_s)

    least_s = min(LEAST_WORD_S, audio_s / (len(bound_s) - 1))
    assert moved_s[0] >= 0
    assert moved_s[-1] <= audio_s
    assert all(b - a >= least_s - 1e-9 for a, b in itertools.pairwise(moved_s))


def test_words_with_room_stay_where_they_are() -> None:
    assert separated([0.1, 0.5, 0.9, 1.3], 1.5) == [0.1, 0.5, 0.9, 1.3]


def test_a_word_without_duration_takes_a_little_of_the_next() -> None:
    assert separated([0.0, 0.57, 0.57, 1.0], 1.5) == pytest.approx([0.0, 0.57, 0.61, 1.0])


def test_words_at_the_end_take_a_little_of_the_one_before() -> None:
    assert separated([0.0, 1.5, 1.6, 1.7], 1.5) == pytest.approx([0.0, 1.42, 1.46, 1.5])
