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


@st.composite
def maps(draw: st.DrawFn) -> ConfidenceMap:
    between = draw(st.lists(st.floats(0.001, 0.999), max_size=8, unique=True))
    values = draw(st.lists(inside, min_size=len(between) + 2, max_size=len(between) + 2))
    return ConfidenceMap((0.0, *sorted(between), 1.0), tuple(sorted(values)))


@given(made=maps(), low=inside, high=inside)
def test_a_surer_word_never_becomes_the_less_sure_one(
    made: ConfidenceMap, low: float, high: float
) -> None:
    low, high = sorted((low, high))

    assert made(low) <= made(high) + 1e-9
    assert 0 <= made(low) <= 1


@given(made=maps())
def test_knots_are_met(made: ConfidenceMap) -> None:
    for raw, calibrated in zip(made.raw, made.calibrated, strict=True):
        assert made(raw) == pytest.approx(calibrated)


@given(made=maps())
def test_a_map_is_stored_and_read_again(made: ConfidenceMap) -> None:
    assert confidence_map({KEY: made.as_json()}) == made


def test_a_model_without_a_map_has_none() -> None:
    assert confidence_map({"alignment_heads": {"0": [1]}}) is None


@pytest.mark.parametrize(
    "stored",
    [
        {},
        [0, 1],
        {"raw": [0, 1]},
        {"raw": [0, 1], "calibrated": ["a", "b"]},
        {"raw": [0, 1], "calibrated": [0.1]},
        {"raw": [0], "calibrated": [0.1]},
        {"raw": [0, 0.5], "calibrated": [0.1, 0.9]},
        {"raw": [0, 0.5, 0.5, 1], "calibrated": [0.1, 0.2, 0.3, 0.9]},
        {"raw": [0, 1], "calibrated": [0.9, 0.1]},
        {"raw": [0, 1], "calibrated": [0.1, 1.1]},
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

    raw = TranscriptReader(tokenizer, None, 0.1).words(tokens, logprobs, ends_s, 1.0)
    halved = TranscriptReader(
        tokenizer, None, 0.1, confidence=ConfidenceMap((0.0, 1.0), (0.0, 0.5))
    ).words(tokens, logprobs, ends_s, 1.0)

    assert raw
    assert [word.confidence for word in halved] == pytest.approx([w.confidence / 2 for w in raw])
    assert [(w.text, w.start_s, w.end_s) for w in halved] == [
        (w.text, w.start_s, w.end_s) for w in raw
    ]
