from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.text import WordPiece
from model_store.text.agreement import (
    CommitRule,
    Committer,
    Method,
    Update,
    expected_rows,
    stable_words,
)

ROW_S = 0.1
SURE = 0.0
TOKENS = st.lists(st.integers(0, 2), max_size=6)


def update(
    tokens: list[int], rows: list[float] | None = None, num_rows: int = 100, *, ended: bool = False
) -> Update:
    positions = [0.0] * len(tokens) if rows is None else rows
    return Update(tokens, [SURE] * len(tokens), positions, num_rows, ended)


def committer(method: Method, edge_s: float = 0.4) -> Committer:
    rule = CommitRule(method=method, sure_logprob=np.inf, edge_s=edge_s, least_s=0)
    return Committer(rule, ROW_S)


def test_agreement_commits_what_two_updates_begin_with() -> None:
    rule = committer("agreement")

    assert rule.commit(update([1, 2, 3])) == 0
    assert rule.commit(update([1, 2, 4, 5])) == 2
    assert rule.tentative == (4, 5)


def test_as_many_updates_agree_as_the_rule_asks_for() -> None:
    rule = Committer(CommitRule(method="agreement", agreeing=3, least_s=0), ROW_S)

    settled = [rule.commit(update(tokens)) for tokens in ([1, 2, 3], [1, 2, 4], [1, 2, 4, 5])]

    assert settled == [0, 0, 2]
    assert rule.commit(update([4, 5])) == 1  # the update before last had no second one


def test_nothing_is_committed_on_too_little_audio() -> None:
    rule = Committer(CommitRule(method="agreement", agreeing=2, least_s=2.0), ROW_S)

    settled = [rule.commit(update([1, 2], num_rows=num_rows)) for num_rows in (10, 19, 20)]

    assert settled == [0, 0, 2]
    assert rule.commit(update([3], num_rows=10, ended=True)) == 1


def test_agreement_compares_with_what_was_left_of_the_last_update() -> None:
    rule = committer("agreement")
    rule.commit(update([1, 2, 3]))
    rule.commit(update([1, 2, 3, 7]))

    assert rule.commit(update([7, 8])) == 1


def test_attention_commits_until_the_edge_of_the_audio() -> None:
    rule = committer("attention")

    settled = rule.commit(update([1, 2, 3, 4], [2.0, 9.0, 16.0, 10.0], num_rows=20))

    assert settled == 2
    assert rule.tentative == (3, 4)


def test_the_edge_is_as_wide_as_the_rule_says() -> None:
    positions = [5.0, 15.9, 17.9, 19.0]

    wide = committer("attention", edge_s=0.4).commit(update([1, 2, 3, 4], positions, 20))
    narrow = committer("attention", edge_s=0.2).commit(update([1, 2, 3, 4], positions, 20))

    assert (wide, narrow) == (2, 3)


def test_both_commits_what_each_would() -> None:
    rule = committer("both")
    rule.commit(update([1, 2, 3, 4]))

    assert rule.commit(update([1, 2, 3, 9], [1.0, 18.0, 2.0, 3.0], num_rows=20)) == 1


def test_what_the_decoder_is_sure_of_needs_no_second_update() -> None:
    rule = CommitRule(method="both", sure_logprob=-0.2, edge_s=0.4, least_s=0)
    early, doubtful, late = (
        Update([1, 2, 3], logprobs, positions, 20)
        for logprobs, positions in (
            ([-0.1, -0.2, -0.1], [1.0, 2.0, 3.0]),
            ([-0.1, -0.3, -0.1], [1.0, 2.0, 3.0]),
            ([-0.1, -0.1, -0.1], [1.0, 17.0, 3.0]),
        )
    )

    assert [Committer(rule, ROW_S).commit(one) for one in (early, doubtful, late)] == [3, 1, 1]


def test_an_update_that_began_otherwise_agrees_with_nothing_behind_it() -> None:
    rule = CommitRule(method="both", agreeing=3, sure_logprob=-0.2, edge_s=0.4, least_s=0)
    committer = Committer(rule, ROW_S)
    updates = [
        Update([9, 2, 3], [-0.5, -0.5, -0.5], [1.0, 2.0, 3.0], 20),
        Update([1, 2, 3], [-0.1, -0.5, -0.5], [1.0, 2.0, 3.0], 20),
        Update([2, 3], [-0.5, -0.5], [2.0, 3.0], 20),
        Update([2, 3], [-0.5, -0.5], [2.0, 3.0], 20),
    ]

    assert [committer.commit(one) for one in updates] == [0, 1, 0, 2]


def test_without_alignment_heads_nobody_is_sure() -> None:
    rule = Committer(CommitRule(method="both", sure_logprob=-0.2, least_s=0), ROW_S)

    assert rule.commit(Update([1, 2], [-0.1, -0.1], (), 20)) == 0


@pytest.mark.parametrize("method", ["agreement", "attention", "both"])
def test_without_alignment_heads_agreement_decides(method: Method) -> None:
    rule = committer(method)

    first = rule.commit(replace(update([1, 2]), position_rows=()))
    second = rule.commit(replace(update([1, 3]), position_rows=()))

    assert (first, second) == (0, 1)


@pytest.mark.parametrize("method", ["agreement", "attention", "both"])
def test_everything_is_committed_at_the_end(method: Method) -> None:
    rule = committer(method)

    assert rule.commit(update([1, 2, 3], [99.0] * 3, ended=True)) == 3
    assert rule.tentative == ()


def test_a_token_that_is_a_guess_waits_with_those_after_it() -> None:
    rule = CommitRule(method="attention", min_logprob=-1.0, patience_s=2.0, least_s=0)
    guess = Update([1, 2, 3], [-0.5, -1.5, -0.1], [0.0, 1.0, 2.0], 12)

    assert Committer(rule, ROW_S).commit(guess) == 1


def test_nobody_waits_for_ever() -> None:
    rule = CommitRule(method="attention", min_logprob=-1.0, patience_s=2.0, least_s=0)
    guess = Update([1, 2, 3], [-0.5, -1.5, -1.5], [0.0, 1.0, 12.0], 30)

    assert Committer(rule, ROW_S).commit(guess) == 2


def test_a_token_that_closes_the_text_waits() -> None:
    closed = replace(update([1, 2, 3]), stopped=True)

    assert committer("attention").commit(closed) == 2
    assert committer("attention").commit(replace(closed, ended=True)) == 3


@given(st.lists(TOKENS, min_size=1, max_size=5), st.sampled_from(["agreement", "both"]))
def test_only_what_an_update_wrote_and_the_one_before_is_committed(
    texts: list[list[int]], method: Method
) -> None:
    rule = committer(method)

    for tokens in texts:
        before = rule.tentative
        settled = rule.commit(update(tokens))

        assert tuple(tokens[:settled]) == before[:settled]
        assert rule.tentative == tuple(tokens[settled:])


@given(st.lists(st.floats(0, 30), max_size=6))
def test_no_token_at_the_edge_is_committed(rows: list[float]) -> None:
    rule = committer("attention")

    settled = rule.commit(update(list(range(len(rows))), rows, num_rows=20))

    assert all(not rule.at_edge(row, 20) for row in rows[:settled])
    assert settled == len(rows) or rule.at_edge(rows[settled], 20)


def test_the_expected_row_is_the_mean_over_heads_and_frames() -> None:
    weights_HUP = np.zeros((2, 2, 5), np.float32)
    weights_HUP[:, 0, 1] = 1.0
    weights_HUP[0, 1, 2] = 1.0
    weights_HUP[1, 1, 4] = 1.0

    assert expected_rows(weights_HUP) == pytest.approx([1.0, 3.0])


def words(*bounds: tuple[int, int]) -> list[WordPiece]:
    return [WordPiece("word", start, end) for start, end in bounds]


def test_a_word_is_stable_once_the_next_one_is_begun_by_a_committed_token() -> None:
    found = words((0, 2), (2, 3), (3, 5))

    assert [stable_words(found, committed) for committed in range(6)] == [0, 0, 0, 1, 2, 2]


def test_nothing_said_is_nothing_stable() -> None:
    assert stable_words([], 0) == 0
