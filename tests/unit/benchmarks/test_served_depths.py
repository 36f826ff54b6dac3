"""What the served engine is asked for the card, and what is kept of it."""

import json
from pathlib import Path

import pytest

from benchmarks.served_depths import rows_of, served
from model_store.depth import PlanCatalogue


def test_an_engine_answers_for_its_own_weights_and_all_of_the_audio() -> None:
    cases = list(served(PlanCatalogue.untuned(4), ["native", "non_native"]))

    assert {case.weights for case in cases} == {"trained"}
    assert {case.chunk_frames for case in cases} == {None}
    assert {case.policy for case in cases if case.corpus == "non_native"} == {"ladder"}
    assert len({case.key for case in cases}) == len(cases)


def test_a_row_has_rates_and_no_texts(tmp_path: Path) -> None:
    errors = {"substitutions": 1, "deletions": 0, "insertions": 0, "reference_words": 4}
    case = {
        "corpus": "native",
        "policy": "ladder",
        "plan": "1,1",
        "wer": 0.25,
        "flops_per_s": 2.0,
        "encoder_flops_per_s": 1.0,
        "utterances": {"a": {"text": "said", "errors": errors}},
    }
    log = tmp_path / "served.jsonl"
    log.write_text(json.dumps(case) + "\n", encoding="utf-8")

    (row,) = rows_of(log)

    assert row["wer"] == pytest.approx(0.25)
    assert (row["wer_low"], row["wer_high"]) == pytest.approx((0.25, 0.25))
    assert "said" not in json.dumps(row)
