import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.confidence import KEY, ConfidenceMap, confidence_map
from model_store.decoding.reading import TranscriptReader
from model_store.errors import CheckpointError
from model_store.text.tokens import Tokenizer
from tests.numerics.backbones import write_tokenizer

inside = st.floats(0, 1)


maps = st.builds(ConfidenceMap, st.floats(0, 9), st.floats(0, 9), st.floats(-9, 9))


@given(made=maps, raw=st.lists(inside, min_size=1, max_size=9), low=inside, high=inside)
def test_a_surer_word_never_becomes_the_less_sure_one(
    made: ConfidenceMap, raw: list[float], low: float, high: float
) -> None:
    low, high = sorted((low, high))

    (before, *_), (after, *_) = made([low, *raw]), made([high, *raw])

    assert before <= after + 1e-9
    assert all(0 <= one <= 1 for one in made(raw))
    assert len(made(raw)) == len(raw)


@given(made=maps, raw=inside)
def test_a_word_among_surer_words_is_no_less_sure(made: ConfidenceMap, raw: float) -> None:
    assert made([raw, 0.2])[0] <= made([raw, 0.9])[0] + 1e-9


@given(raw=st.lists(st.floats(0.001, 0.999), max_size=9))
def test_the_map_that_changes_nothing(raw: list[float]) -> None:
    assert ConfidenceMap(1.0, 0.0, 0.0)(raw) == pytest.approx(raw)


@given(made=maps)
def test_a_map_is_stored_and_read_again(made: ConfidenceMap) -> None:
    assert confidence_map({KEY: {"words": 12, **made.as_json()}}) == made


def test_a_model_without_a_map_has_none() -> None:
    assert confidence_map({"alignment_heads": {"0": [1]}}) is None


@pytest.mark.parametrize(
    "stored",
    [
        {},
        [1, 0, 0],
        {"word": 1, "utterance": 0},
        {"word": "one", "utterance": 0, "offset": 0},
        {"word": -0.1, "utterance": 0, "offset": 0},
        {"word": 1, "utterance": -1, "offset": 0},
        {"word": 1, "utterance": 0, "offset": math.nan},
    ],
)
def test_what_is_no_map_is_refused(stored: object) -> None:
    with pytest.raises(CheckpointError, match="expected"):
        confidence_map({KEY: stored})


def test_words_carry_the_calibrated_confidence(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    tokens, logprobs = [5, 6, 7], [math.log(0.5), math.log(0.25), math.log(0.9)]
    ends_s = [0.3, 0.6, 0.9]

    made = ConfidenceMap(0.8, 0.6, -0.5)

    raw = TranscriptReader(tokenizer, None, 0.1).words(tokens, logprobs, ends_s, 1.0)
    calibrated = TranscriptReader(tokenizer, None, 0.1, confidence=made).words(
        tokens, logprobs, ends_s, 1.0
    )

    assert raw
    assert [word.confidence for word in calibrated] == pytest.approx(
        made([word.confidence for word in raw])
    )
    assert [(w.text, w.start_s, w.end_s) for w in calibrated] == [
        (w.text, w.start_s, w.end_s) for w in raw
    ]
