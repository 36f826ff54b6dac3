"""How live transcripts are laid side by side, on numbers that say whose they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.decoding.live import Feed
from service.engine.onnx.checkpoint import Sizes, open_checkpoint
from service.engine.onnx.decoder import HIDDEN, StepOutput
from service.engine.onnx.live_memory import (
    DecoderMemory,
    PairStore,
    SideBySide,
    UpdateScratch,
)
from service.engine.onnx.rooms import BLOCK_ROWS, Scratch
from tests.onnx_kit import write_checkpoint

COUNTS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9), st.integers(1, 70)), min_size=1, max_size=5
)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Sizes:
    folder = write_checkpoint(tmp_path_factory.mktemp("model") / "tiny", "moonshine")
    return open_checkpoint(str(folder)).sizes


def pairs(sizes: Sizes, num_rows: int, value: float) -> np.ndarray:
    shape = (2 * sizes.decoder_layers, sizes.num_heads, num_rows, sizes.head_dim)
    return np.full(shape, value, np.float32)


def memory(sizes: Sizes, tokens: int, rows: int, owner: int) -> DecoderMemory:
    made = DecoderMemory.begin(sizes)
    made.tokens.append(pairs(sizes, tokens, owner + 1))
    made.audio.append(pairs(sizes, rows, owner + 1))
    return made


@given(pieces=st.lists(st.integers(0, 50), max_size=5), kept=st.integers(0, 100))
def test_a_store_gives_what_was_kept_in_whole_blocks(
    sizes: Sizes, pieces: list[int], kept: int
) -> None:
    store = PairStore(sizes)
    for value, piece in enumerate(pieces):
        store.append(pairs(sizes, piece, value))
    expected = np.repeat(np.arange(len(pieces)), pieces)[:kept]

    store.truncate(min(kept, sum(pieces)))

    assert store.read()[0, 0, :, 0].tolist() == expected.tolist()
    assert store.num_bytes % pairs(sizes, BLOCK_ROWS, 0).nbytes == 0


@given(counts=COUNTS)
def test_every_row_has_its_place_and_sees_its_own_transcript_alone(
    sizes: Sizes, counts: list[tuple[int, int, int]]
) -> None:
    memories = [memory(sizes, kept + 3, rows, i) for i, (kept, _, rows) in enumerate(counts)]
    wanted = [(i, Feed(kept, (i,) * new, 1)) for i, (kept, new, _) in enumerate(counts)]

    step = SideBySide(memories, UpdateScratch()).rows(wanted).step

    np.testing.assert_array_equal(
        step.filled_NU.ravel()[step.whole_M], np.arange(len(step.token_M))
    )
    most = step.filled_NU.shape[1]
    room = step.seen[0].shape[2]
    for i, (kept, new, rows) in enumerate(counts):
        assert (step.token_M[step.filled_NU[i]] == i).all()
        hears = step.heard_mask[i, 0, 0] == 0
        assert (hears.sum(), step.heard[0][i, 0, hears, 0].tolist()) == (rows, [i + 1] * rows)
        for place in range(new):
            sees = step.seen_mask[i, 0, place] == 0
            assert step.seen[0][i, 0, sees[:room], 0].tolist() == [i + 1] * kept
            assert np.flatnonzero(sees[room:]).tolist() == list(range(place + 1))
        assert step.position_M[step.filled_NU[i, 0]] == kept
    assert step.token_M[step.scored_S].tolist() == list(range(len(counts)))
    assert step.seen_mask.shape == (len(counts), 1, most, room + most)


def test_what_a_run_took_in_is_its_owners_and_stays_when_others_leave(sizes: Sizes) -> None:
    memories = [memory(sizes, 2, 5, owner) for owner in range(4)]
    side_by_side = SideBySide(memories, UpdateScratch())
    wanted = [(i, Feed(2, (7,) * (i + 1), 1)) for i in range(4)]
    side_by_side.rows(wanted)
    shape = (4, sizes.num_heads, 4, sizes.head_dim)
    new = [np.full(shape, np.arange(4)[:, None, None, None] + 10.0, np.float32)]
    nothing = np.zeros(4, np.float32)
    found = StepOutput(
        nothing.astype(np.int64), nothing, nothing.astype(np.int64), nothing,
        new * (2 * sizes.decoder_layers), None,
    )  # fmt: skip

    side_by_side.keep(wanted, found)
    alone = side_by_side.rows([(3, Feed(6, (8,), 1))]).step

    assert [m.tokens.num_rows for m in memories] == [3, 4, 5, 6]
    assert memories[3].tokens.read()[-1, 0, :, 0].tolist() == [4, 4, 13, 13, 13, 13]
    assert alone.seen[-1].shape[0] == 1
    assert alone.seen[-1][0, 0, :6, 0].tolist() == [4, 4, 13, 13, 13, 13]
    assert alone.seen_mask[0, 0, 0, :6].tolist() == [0] * 6


def test_scratch_is_the_same_memory_up_to_its_limit() -> None:
    scratch = Scratch(most_bytes=400)

    first, second, large = scratch.array((5, 10)), scratch.array((2, 5)), scratch.array((101,))

    assert (first.shape, second.shape, large.shape) == ((5, 10), (2, 5), (101,))
    assert np.shares_memory(first, second)
    assert not np.shares_memory(second, large)


def test_what_an_update_left_in_its_scratch_is_nobodys(sizes: Sizes) -> None:
    scratch = UpdateScratch()
    wanted = [(0, Feed(3, (1,), 1)), (1, Feed(1, (1,), 1))]
    before = [memory(sizes, 30, 30, owner) for owner in range(2)]
    SideBySide(before, scratch).rows([(0, Feed(30, (1,), 1)), (1, Feed(30, (1,), 1))])

    after = [memory(sizes, 3, 5, 0), memory(sizes, 1, 2, 1)]
    step = SideBySide(after, scratch).rows(wanted).step

    room = step.seen[0].shape[2]
    assert [np.count_nonzero(step.seen_mask[i, 0, 0, :room] == 0) for i in range(2)] == [3, 1]
    assert [np.count_nonzero(step.heard_mask[i, 0, 0] == 0) for i in range(2)] == [5, 2]
    masks = np.concatenate([step.seen_mask.ravel(), step.heard_mask.ravel()])
    assert set(np.unique(masks)) == {np.float32(HIDDEN), np.float32(0)}
    # A weight of nothing times what lies there is nothing, but for what is no number.
    assert all(np.isfinite(laid).all() for laid in (*step.seen, *step.heard))
