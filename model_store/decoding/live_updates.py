"""Updates of several live transcripts, run together: each decoder call takes in what all of them want.

call         1   2   3   4  |  5   6   7
partial      ====           |                 never waits: it is short
final        ================  ===========    waits after a few calls, so that others are heard
"""

from collections.abc import Callable, Sequence

from model_store.decoding.live import Feed, LiveTranscript, Scored


def write(
    transcripts: Sequence[LiveTranscript],
    call: Callable[[Sequence[tuple[int, Feed]]], Sequence[Scored]],
    may_wait: Sequence[bool] = (),
    most_calls: int | None = None,
) -> None:
    """Run the updates that are open, together, until each is done or may wait.

    Args:
        transcripts: `open_update` was called on each.
        call: runs the decoder over what the transcripts named by their index want.
        may_wait: whether each may go on with its update another time.
        most_calls: after which only those that may not wait go on; None lets nobody wait.
    """
    num_calls = 0
    while wanted := [(i, t.feed) for i, t in enumerate(transcripts) if t.feed is not None]:
        enough = most_calls is not None and num_calls >= most_calls
        if enough and all(may_wait[index] for index, _ in wanted):
            return
        for (index, _), scored in zip(wanted, call(wanted), strict=True):
            transcripts[index].take(scored)
        num_calls += 1


def bring_up_to_date(
    transcripts: Sequence[LiveTranscript],
    num_rows: Sequence[int],
    most_tokens: Sequence[int],
    ended: Sequence[bool],
    call: Callable[[Sequence[tuple[int, Feed]]], Sequence[Scored]],
    most_calls: int | None = None,
) -> None:
    """Open an update of each transcript, run them together, and close those that are done.

    Args:
        transcripts: those with an update under way go on with it.
        num_rows: pooled frames that there are, one entry a transcript here and below.
        most_tokens: limit of each whole transcript.
        ended: whether each utterance has; nothing is heard any more then, so its update may wait.
        call: runs the decoder, as in `write`.
        most_calls: after which updates that may wait do, as in `write`.
    """
    updates = list(zip(transcripts, num_rows, most_tokens, ended, strict=True))
    for transcript, rows, most, end in updates:
        if transcript.feed is None:
            transcript.open_update(rows, most, ended=end)
    write(transcripts, call, ended, most_calls)
    for transcript, _, _, end in updates:
        if transcript.feed is None:
            transcript.close_update(ended=end)
