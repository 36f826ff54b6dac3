from typing import Any

import pytest

from benchmarks.fleet_faults import Begin, Player, behind_replacement_s, by_fault

KILLED = {"replica killed": 100.0}


def begin(at_s: float, because: str = "lost", warned_s: float | None = None) -> Begin:
    return Begin(at_s, because, at_s - 0.5, warned_s)


def player(*begins: Begin) -> Player:
    heard_s = [90.0, 120.0, *(one.at_s for one in begins), 150.0]
    return Player("", begins=[begin(90.0), *begins], heard_s=sorted(heard_s))


def row(*players: Player, new: tuple[float, ...] = ()) -> dict[str, Any]:
    (only,) = by_fault(players, KILLED, new)
    return only


def test_who_went_on_elsewhere_was_hit_and_the_others_were_not() -> None:
    told = row(player(begin(102.0)), player())

    assert told["streams_hit"] == 1
    assert told["back_after_s"] == {"p50": 2.0, "p95": 2.0, "max": 2.0}
    assert told["without_server_s"]["max"] == 0.5
    assert told["others_longest_silence_s"]["max"] == 30.0


def test_a_stream_that_was_asked_to_move_later_was_not_hit_by_the_fault() -> None:
    told = row(player(begin(101.0), begin(114.0, "move")), player(begin(115.0, "move")))

    assert (told["streams_hit"], told["moved_later"]) == (1, 2)
    assert told["back_after_s"]["max"] == 1.0


def test_a_stream_that_was_warned_is_back_after_the_warning() -> None:
    told = row(player(begin(110.0, "drain", warned_s=108.5)))

    assert told["back_after_s"]["max"] == 1.5


def test_what_happened_before_a_fault_or_behind_the_next_is_not_told_of_it() -> None:
    players = [player(begin(99.0), begin(131.0))]

    rows = by_fault(players, {"first": 100.0, "second": 130.0}, [104.0])

    assert [one["streams_hit"] for one in rows] == [0, 1]
    assert [one["replicas_ready_after_s"] for one in rows] == [[4.0], []]


@pytest.mark.parametrize(
    ("new", "behind_s"),
    [((), 0.0), ((104.0,), 0.0), ((101.0,), 1.0), ((95.0, 101.0), 1.0), ((95.0, 102.5), 0.0)],
)
def test_a_stream_is_behind_the_last_new_replica_before_it_was_back(
    new: tuple[float, ...], behind_s: float
) -> None:
    assert behind_replacement_s(begin(102.0), new) == behind_s


def test_a_player_knows_why_each_of_its_servers_ended() -> None:
    told = Player("")

    for message in (
        {"type": "ready"},
        {"type": "warning", "code": "moving"},
        {"type": "done", "reason": "move"},
        {"type": "ready"},
        {"type": "ready"},
    ):
        told.tell(message)

    assert [one.because for one in told.begins] == ["lost", "move", "lost"]
    assert [one.warned_s is None for one in told.begins] == [True, False, True]
