import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ctc_head import (
    Read,
    area,
    delays_s,
    log_likelihood,
    scores_of,
    with_loop,
    without_middle,
)
from model_store.decoding.ctc import spell_greedily
from model_store.decoding.reading import DecodedWord, WindowTranscript
from model_store.text.bpe import BLANK, train_bpe
from model_store.text.tokens import Tokenizer

FRAMES, TOKENS = 4, 3


def log_probs(seed: int, tokens: int = TOKENS, frames: int = FRAMES) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(frames, tokens, generator=draw).log_softmax(-1)


def written(*words: tuple[str, float]) -> WindowTranscript:
    timed = tuple(DecodedWord(text, end_s - 0.1, end_s, 1.0) for text, end_s in words)
    text = " ".join(word.text for word in timed)
    return WindowTranscript(text, timed, 1, 0.0, 1.0, 0, 0, 0, 0.0, 0.0)


def read(*words: tuple[str, float]) -> Read:
    one = written(*words)
    return Read(one.text, one.words, log_probs(0))


@given(st.integers(0, 50), st.lists(st.integers(1, TOKENS - 1), max_size=FRAMES))
def test_a_texts_likelihood_is_the_sum_over_its_paths(seed: int, tokens: list[int]) -> None:
    log_probs_TV = log_probs(seed)

    expected = 0.0
    for path in itertools.product(range(TOKENS), repeat=FRAMES):
        spelled = [one for one, _ in itertools.groupby(path) if one != BLANK]
        if spelled == tokens:
            steps = [log_probs_TV[frame, one] for frame, one in enumerate(path)]
            expected += float(torch.stack(steps).sum().exp())
    found = log_likelihood(log_probs_TV, tokens)

    assert pytest.approx(expected, abs=1e-6) == float(torch.tensor(found).exp())


def test_a_text_that_says_less_or_more_than_was_heard_scores_worse() -> None:
    tokenizer = Tokenizer(train_bpe(["so it was said and done"], 41))
    text = "so it was said and done"
    tokens = [place for one in tokenizer.encode(text) for place in (one, BLANK)]
    log_probs_TV = torch.full((len(tokens), 41), 0.1 / 40).log()
    log_probs_TV[torch.arange(len(tokens)), tokens] = torch.tensor(0.9).log()
    heard = Read(tokenizer.decode(spell_greedily(log_probs_TV, BLANK).tokens), (), log_probs_TV)

    right, cut, loop = scores_of(
        [heard] * 3, [text, without_middle(text), with_loop(text)], tokenizer
    )

    assert heard.text == text
    assert right < 0.01
    assert cut > 1
    assert loop == float("inf")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5), ([1, 3, 2, 4], 0.75)],
)
def test_area_says_how_often_a_labelled_one_scores_above(
    scores: list[float], expected: float
) -> None:
    assert area(scores, [False, False, True, True]) == expected
    assert area(scores, [True] * 4) is None


def test_a_cut_takes_the_middle_and_a_loop_repeats_the_end() -> None:
    assert without_middle("a b c d e f") == "a b e f"
    assert without_middle("a b") == "a b"
    assert with_loop("a b c d") == "a b c d b c d b c d"


def test_a_delay_is_from_a_words_end_to_its_last_letter_until_the_texts_part() -> None:
    ends = [written(("So", 1.0), ("it", 2.0), ("was,", 3.0), ("said", 4.0))]

    found = delays_s([read(("so", 1.1), ("it", 2.3), ("is", 3.0), ("said", 9.0))], ends)

    assert found["median_s"] == pytest.approx(0.2)
    assert found["p90_s"] == pytest.approx(0.28)
    assert delays_s([read(("no", 1.0))], ends) == {}
