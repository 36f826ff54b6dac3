import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import conditions, confidence
from benchmarks.shipped_words import PEER, STATIC, references, with_references, with_words
from model_store.decoding.confidence import ConfidenceMap
from model_store.decoding.reading import DecodedWord
from model_store.depth import PlanCatalogue
from model_store.recipes.evaluate import Case, under_conditions
from model_store.recipes.fit_confidence import fitted_on, read_cases
from model_store.text.wer import normalised_word_errors
from model_store.training.manifest import Utterance
from model_store.training.measure import Heard, Recording

HALF = "2,2,2,2,2,2,2,2"
FULL = "1,1,1,1,1,1,1,1"


class Teacher:
    """Says what it is asked to, and counts how often."""

    name, config = "teacher", {"decoding": "none"}

    def __init__(self) -> None:
        self.asked = 0

    def transcribe(self, samples: np.ndarray[Any, Any]) -> str:
        self.asked += 1
        return f"{len(samples)} samples"


def recording(stem: str, reference: str) -> Recording:
    utterance = Utterance(f"set/{stem}", Path(stem), 1.0, "ann", reference)
    return Recording(utterance, np.zeros(16_000, np.float32), reference)


def heard(stem: str, reference: str, text: str, sure: float = 0.9) -> Heard:
    words = tuple(DecodedWord(word, 0.0, 0.1, sure) for word in text.split())
    errors = normalised_word_errors(reference, text)
    return Heard(f"set/{stem}", text, errors, 1.0, 10, 5, words)


def case(
    texts: dict[str, tuple[str, str]],
    weights: str = "shipped",
    plan: str = FULL,
    corpus: str = "native",
    condition: Any = "clean",
) -> dict[str, Any]:
    """A line of the log: (reference, text) by utterance."""
    made = Case(weights, "ladder", plan, None, corpus, condition)
    recordings = [recording(stem, reference) for stem, (reference, _) in texts.items()]
    said = [heard(stem, *pair) for stem, pair in texts.items()]
    return json.loads(json.dumps(with_words(made, recordings, said)))


def test_a_line_holds_words_and_what_evaluate_holds() -> None:
    found = case({"a": ("The cat sat.", "The bat sat.")}, condition="noisy-10db")

    assert found["key"] == f"shipped/ladder/{FULL}/full/native@noisy-10db"
    assert found["wer"] == pytest.approx(1 / 3)
    item = found["utterances"]["set/a"]
    assert item["words"] == [["The", 0.9], ["bat", 0.9], ["sat.", 0.9]]
    assert item["reference"] == "The cat sat."


def test_the_teacher_is_asked_once_and_only_where_nobody_wrote(tmp_path: Path) -> None:
    teacher = Teacher()
    log = tmp_path / "words.jsonl"

    first = with_references([recording("a", "known"), recording("b", "")], {}, teacher)
    log.write_text(json.dumps(case({"b": (first[1].reference, "so")})) + "\n", encoding="utf-8")
    again = with_references([recording("b", "")], references(log), teacher)

    assert [one.reference for one in first] == ["known", "16000 samples"]
    assert again[0].reference == "16000 samples"
    assert teacher.asked == 1


def test_the_ladder_is_measured_at_a_few_budgets_under_each_condition() -> None:
    listed = list(
        under_conditions(PlanCatalogue.untuned(8), ["native"], ["noisy-10db", "telephone-8khz"])
    )

    assert {one.condition for one in listed} == {"noisy-10db", "telephone-8khz"}
    assert len({one.key for one in listed}) == len(listed) == 2 * len(listed[: len(listed) // 2])
    assert all(one.policy == "ladder" and one.chunk_frames is None for one in listed)


def test_a_ratio_is_to_the_published_model_under_the_same_condition() -> None:
    texts = {"a": ("one two three four", "one two three"), "b": ("five six", "five six")}
    worse = {"a": ("one two three four", "one two"), "b": ("five six", "five")}
    found = conditions.rows(
        [
            case(texts, condition="noisy-10db"),
            case(texts, plan=HALF),
            case(worse, weights=PEER, plan=STATIC, condition="noisy-10db"),
        ]
    )

    noisy, clean, published = found
    assert noisy["over_published"]["ratio"] == pytest.approx(1 / 3)
    assert clean["over_published"] is None
    assert clean["layers"] == 4
    assert published["layers"] is None
    assert (noisy["deletions"], noisy["substitutions"], noisy["insertions"]) == (1, 0, 0)


def test_texts_as_written_count_case_and_points() -> None:
    (native,) = conditions.rows([case({"a": ("It is so.", "it is so")})])
    (other,) = conditions.rows([case({"a": ("IT IS SO", "it is so")}, corpus="non_native")])

    assert native["wer"] == 0
    assert native["written"]["wer"] == pytest.approx(2 / 3)
    assert other["written"] is None


def test_sets_that_nothing_is_stated_on_have_no_row() -> None:
    assert conditions.rows([case({"a": ("so", "so")}, corpus="read")]) == []


def test_confidence_is_told_before_and_after(tmp_path: Path) -> None:
    cases = [
        case({"a": ("one two", "one too")}, corpus="native"),
        case({"a": ("one two", "one too")}, corpus="held_out", plan=HALF),
        case({"a": ("one two", "one too")}, weights=PEER, plan=STATIC),
    ]

    native, fitted = confidence.rows(cases, ConfidenceMap(1.0, 0.0, -math.log(9)))

    assert (native["fitted_on"], fitted["fitted_on"]) == (False, True)
    assert native["before"]["mean_confidence"] == pytest.approx(0.9)
    assert native["after"]["mean_confidence"] == pytest.approx(0.5)
    assert native["after"]["accuracy"] == 0.5
    confidence.draw([native], tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_the_dev_sets_and_other_models_are_not_fitted_on(tmp_path: Path) -> None:
    texts = {"a": ("one two", "one too")}
    log = tmp_path / "words.jsonl"
    kept = case({"b": ("one two three", "one two three")}, corpus="read")
    other = case(texts, corpus="synthetic")
    lines = [case(texts), case(texts, weights=PEER, corpus="read"), kept, other]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")

    assert [len(found) for found in fitted_on(read_cases([log]))] == [3, 2]
    with pytest.raises(SystemExit, match="expected two"):
        fitted_on(lines[:3])
