import numpy as np

from service.engine.base import Cost, PlanInUse, Segment, StepResult, Window
from service.scheduling.transcripts import TranscriptBuilder

PLAN = PlanInUse((2, 2), 1.0, 2, 0.5)


def window(start_s: float, end_s: float) -> Window:
    return Window(np.zeros(1, np.float32), start_s, end_s, speech=True)


def test_a_transcript_gathers_steps_in_order() -> None:
    builder = TranscriptBuilder("m", PLAN, "ladder")

    builder.add(
        [window(0, 8), window(8, 16)],
        StepResult(
            (Segment(0, 8, "one"), Segment(8, 16, "two")),
            (Cost(4, 2, 5, 0.25, 0.125), Cost(6, 4, 7, 0.25, 0.125)),
        ),
        wait_s=0.5,
    )
    builder.add(
        [window(16, 20)], StepResult((Segment(16, 20, "three"),), (Cost(1, 1, 1),)), wait_s=1
    )
    transcript = builder.build(total_s=3.0)

    assert transcript.text == "one two three"
    assert transcript.audio_s == 20
    assert transcript.cost == Cost(11, 7, 13, 0.5, 0.25)
    assert transcript.timing.queue_s == 1.5
    assert transcript.timing.total_s == 3.0


def test_windows_without_words_leave_no_segment() -> None:
    builder = TranscriptBuilder("m", PLAN, "ladder")

    builder.add(
        [window(0, 8)], StepResult((Segment(0, 8, " ", no_speech=True),), (Cost(),)), wait_s=0
    )
    transcript = builder.build(total_s=1.0)

    assert transcript.text == ""
    assert transcript.segments == ()
    assert transcript.audio_s == 8
