from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.moves import SETTLED_S, Moves, those_to_move


@dataclass(eq=False)
class Stream:
    cost: float = 1.0
    since_move_s: float | None = None
    can_move: bool = True
    num_asked: int = 0

    def ask_to_move(self) -> None:
        self.num_asked += 1
        self.can_move = False


STREAMS = st.lists(
    st.builds(
        Stream,
        st.floats(0, 1e12),
        st.none() | st.floats(0, 3 * SETTLED_S),
        st.booleans(),
    ),
    max_size=20,
)


@given(STREAMS, st.integers(-2, 25))
def test_nobody_is_asked_who_cannot_move_or_has_moved_of_late(
    streams: list[Stream], count: int
) -> None:
    chosen = those_to_move(streams, count)

    able = [one for one in streams if one.can_move]
    able = [one for one in able if one.since_move_s is None or one.since_move_s >= SETTLED_S]
    assert len(chosen) == min(max(0, count), len(able))
    assert all(one in able for one in chosen)
    left = [one.cost for one in able if one not in chosen]
    assert min((one.cost for one in chosen), default=0) >= max(left, default=0) or not chosen


def test_those_are_asked_first_that_cost_most() -> None:
    cheap, dear, middling = Stream(1.0), Stream(3.0), Stream(2.0)

    assert those_to_move([cheap, dear, middling], 2) == [dear, middling]


def test_a_stream_that_was_asked_is_not_asked_again() -> None:
    moves, stream = Moves(), Stream()

    with moves.open(stream):
        assert [moves.ask(5), moves.ask(5)] == [1, 0]
    assert stream.num_asked == 1


def test_a_stream_that_has_ended_is_forgotten() -> None:
    moves = Moves()

    with moves.open(Stream()):
        pass

    assert moves.ask(1) == 0
