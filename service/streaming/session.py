"""One stream from its bytes to its captions: a state machine that is told the time and never waits.

    inbox -> samples -> gate -> utterances, first in first out -> encoder -> partials and a final

Silence between utterances is not encoded. Within one, the encoder is fed as far as there is speech
and a little more, so that a pause costs nothing until somebody speaks on. Positions are samples
from the beginning of the stream.
"""

from collections import deque

import numpy as np

from service.engine.base import (
    GATE_FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    ListenInput,
    LiveInput,
    LiveOutput,
    PlanInUse,
    Samples,
)
from service.errors import ServiceError
from service.scheduling.live_load import LiveLoad
from service.streaming.backing import Backing
from service.streaming.commands import (
    Command,
    Configure,
    Flush,
    Gap,
    Leave,
    Marker,
    Packet,
    Stop,
    StreamConfig,
)
from service.streaming.dial import Dial
from service.streaming.events import ClosingReason, Done, Dropped, Event, FinalReason
from service.streaming.feeding import HANG_SAMPLES, TAIL_SAMPLES, Feeding, Target, Work, cut
from service.streaming.inbox import Inbox
from service.streaming.markers import Markers
from service.streaming.outbox import Outbox
from service.streaming.pcm import PcmDecoder
from service.streaming.progress import Progress
from service.streaming.segmenter import LEAD_SAMPLES, Offset, Onset, Segmenter
from service.streaming.stream_time import in_stream_time
from service.streaming.telling import Totals, final_of, partial_of
from service.streaming.track import Track
from service.streaming.utterance import Utterance

MAX_BACKLOG_SAMPLES = 8 * SAMPLE_RATE_HZ
"""Decoded audio behind what the encoder has; more than any pause within an utterance, and what comes
after stays in the inbox."""
UNHEARD_SPEECH_S = 1.5
"""Sound without a new word, after which the decoder is believed and not the gate."""


class Session:
    """One stream; the methods are those of `LiveStream`.

    Args:
        config: how it begins.
        inbox: what the client sends.
        outbox: what the client is told.
        backing: what all streams share.

    Raises:
        DepthError: the depth asked for is not on offer.
    """

    def __init__(
        self, config: StreamConfig, inbox: Inbox, outbox: Outbox, backing: Backing
    ) -> None:
        engine, info = backing.engine, backing.info
        self.dial = Dial(config.choice, engine.choose, backing.decide)
        self._hotwords = config.hotwords
        self._engine = engine
        self._feeding = Feeding(
            chunk_samples=round(info.chunk_s * SAMPLE_RATE_HZ),
            max_samples=round(info.max_utterance_s * SAMPLE_RATE_HZ),
        )
        self._inbox = inbox
        self._outbox = outbox
        self._measures = backing.measures
        self._two_pass = backing.two_pass
        self._decoder = PcmDecoder(config.encoding, config.rate_hz)
        self._listener = engine.open_listener()
        self._segmenter = Segmenter(config.endpointing_s, self._feeding.max_samples - TAIL_SAMPLES)
        self._track = Track()
        self._progress = Progress(backing.measures)
        self._totals = Totals()
        self._utterances: deque[Utterance] = deque()
        self._start_s = config.start_s
        self._num_opened = config.first_utterance
        self._unheard: list[Samples] = []
        self._commands: list[Gap | Command] = []
        self.markers = Markers()
        self._work: Work | None = None
        self._leaving: ClosingReason | None = None
        self._closing: ClosingReason | None = None
        self._accepted: int | None = None  # once it is known to be less than all that was received
        self._finished = False
        self._events: list[Event] = []
        self.due_since_s: float | None = None

    @property
    def has_news(self) -> bool:
        """Whether a round would find something to do."""
        if self._finished:
            return False
        if self._unheard or (len(self._inbox) and self._has_room):
            return True
        head = self._head
        return head is not None and self._target(head).due

    @property
    def waits(self) -> bool:
        """Whether words have been put off."""
        head = self._head
        return head is not None and head.undecoded

    @property
    def ends_next(self) -> bool:
        """Whether the next step makes a final."""
        head = self._head
        return head is not None and self._target(head).last

    @property
    def state_bytes(self) -> int:
        """Bytes of the engine's caches."""
        head = self._head
        return head.state.state_bytes if head is not None and head.state is not None else 0

    @property
    def told_s(self) -> float:
        """The `end` of the last message; may be asked for between rounds and within."""
        return self._start_s + self._progress.end_s

    @property
    def flops_per_s(self) -> float:
        """Operations for each second of audio so far; may be asked for between rounds and within."""
        return self._totals.flops_per_s(self._track.end)

    def collect(self, now_s: float) -> ListenInput | None:
        """Take what came in, up to the next command and those that follow at once."""
        self._progress.collecting(now_s)
        pieces, self._unheard = self._unheard, []
        while self._has_room and not self._commands and self._closing is None:
            item = self._inbox.take()
            if item is None:
                break
            if isinstance(item, Packet):
                pieces.append(self._append(self._decoder.push(item.pcm), item.arrived_s))
            else:
                self._commands += self._inbox.take_commands(item)
        if self._commands and isinstance(self._commands[-1], Stop):
            pieces.append(self._append(self._decoder.finish(), now_s))
            # Silence completes the gate's last frame; nobody else sees it.
            pieces.append(np.zeros(-self._track.end % GATE_FRAME_SAMPLES, np.float32))
        samples = np.concatenate(pieces) if pieces else ()
        return ListenInput(self._listener, np.asarray(samples)) if len(samples) else None

    def heard(self, probabilities: Samples, now_s: float) -> None:
        """Open and close utterances; then do what the client asked for behind this audio."""
        for event in self._segmenter.push(probabilities):
            if isinstance(event, Onset):
                self._open(event, now_s)
            else:
                self._close(event, "limit" if event.hurried else "endpoint", now_s)
            if self._closing is not None:
                break
        if self._segmenter.speaking:
            self._utterances[-1].voice_end = min(self._segmenter.voice_end, self._track.end)
        commands, self._commands = self._commands, []
        for command in commands:
            if self._closing is None:
                self._obey(command, now_s)
        self._go_on(now_s)

    def due(self, now_s: float, load: LiveLoad) -> LiveInput | None:
        """Feed the first utterance, once a chunk of it is complete or it has ended."""
        head = self._head
        if head is None:
            return None
        if self._work is not None:
            return self._work.input(self._track.between(head.fed, head.fed), self._hotwords)
        target = self._target(head)
        decode = target.last or now_s - head.decoded_at_s >= load.partial_interval_s
        if not target.due and not (decode and head.undecoded):
            return None
        if head.state is None:
            head.number, self._num_opened = self._num_opened, self._num_opened + 1
            head.state = self._engine.open_utterance()
        plan, told = self.dial.plan(head.plans[-1][1] if head.plans else None)
        if told is not None:
            self._events.append(told)
        complete = min(target.position, head.fed + self._feeding.chunk_samples)
        self.due_since_s = self._progress.due_since(complete, now_s) if target.due else None
        second_pass = target.last and self._two_pass and head.doubt >= load.least_doubt
        self._work = Work(head.state, plan, target, decode, second_pass)
        return self._work.input(self._track.between(head.fed, target.position), self._hotwords)

    def stepped(self, output: LiveOutput, now_s: float) -> None:
        """Take what the encoder has taken in, and the words if they were asked for."""
        work, head = self._work, self._utterances[0]
        assert work is not None, "an output answers an input"
        told_end = head.stable_words[-1].end_s if head.num_stable else 0.0
        head.fed = work.target.position
        advance = head.book(work.plan, output)
        self._totals.book(work.plan, output.cost, advance)
        self._measures.stepped(work.plan, output.cost, advance / SAMPLE_RATE_HZ)
        if not output.done:
            return  # the next step goes on with it
        self._work = None
        if work.decode:
            head.hear(output, afresh=work.second_pass)
            head.undecoded = False
        else:
            head.undecoded = head.undecoded or advance > 0
        if work.target.last:
            self._finish(head, told_end, work.plan, now_s)
        elif work.decode:
            self._tell_partial(head, now_s)
            self._mind_the_decoder(head, now_s)
        self._go_on(now_s)

    def publish(self) -> None:
        """Hand on what there is to tell."""
        events, self._events = self._events, []
        if events:
            start_s = self._start_s
            self._outbox.put(
                [in_stream_time(one, start_s) for one in events] if start_s else events
            )

    def failed(self, error: ServiceError) -> None:
        """End at once: what the engine holds of this stream may be half done."""
        self._finished = True
        # At least one: a gate that always fails, before any utterance begins, would show nowhere.
        self._measures.failed(max(1, len(self._utterances)))
        self._utterances.clear()
        self._outbox.fail(error)

    @property
    def _head(self) -> Utterance | None:
        return self._utterances[0] if self._utterances else None

    @property
    def _has_room(self) -> bool:
        head = self._head
        taken = self._heard if head is None else head.fed
        return self._track.end - taken < MAX_BACKLOG_SAMPLES

    @property
    def _heard(self) -> int:
        return min(self._segmenter.heard, self._track.end)

    @property
    def _settled(self) -> int:
        """How far all speech is in finals, and none may begin."""
        head = self._head
        return self._segmenter.free_until(LEAD_SAMPLES) if head is None else head.start

    def _append(self, samples: Samples, arrived_s: float) -> Samples:
        self._track.append(samples)
        self._progress.arrived(self._track.end, arrived_s)
        return samples

    def _open(self, onset: Onset, now_s: float) -> None:
        arrived_s = self._progress.arrival_of(onset.voice_start, now_s)
        utterance = Utterance(
            onset.start, onset.voice_start, self._segmenter.voice_end, voice_arrived_s=arrived_s
        )
        self._utterances.append(utterance)

    def _close(self, offset: Offset | None, reason: FinalReason, now_s: float) -> None:
        if offset is None:
            return
        last = self._utterances[-1]
        # The gate's last frame may have been completed with silence that is not in the stream.
        last.end = min(offset.end, self._track.end)
        last.voice_end, last.reason = min(offset.voice_end, last.end), reason
        last.end_arrived_s = self._progress.arrival_of(offset.end, now_s)
        if self._leaving is not None:
            self._end_at(last.end, self._leaving)

    def _end_at(self, position: int, reason: ClosingReason) -> None:
        """Take nothing into account that lies behind a place between utterances."""
        self._segmenter.close(position)
        self._unheard.clear()
        self._closing, self._accepted = reason, position

    def _obey(self, command: Gap | Command, now_s: float) -> None:
        end = self._track.end
        match command:
            case Configure():
                self._configure(command)
            case Flush():
                self._close(self._segmenter.close(end), "flush", now_s)
            case Marker():
                self._events += self.markers.add(end, command.id)
            case Leave():
                self._leaving = command.reason
                if not self._segmenter.speaking:
                    self._end_at(self._segmenter.free_until(LEAD_SAMPLES), command.reason)
            case Stop():
                self._leaving = None  # all that came is accepted, a pause or not
                self._close(self._segmenter.close(end), command.reason, now_s)
                self._closing = command.reason
            case Gap():
                self._close(self._segmenter.close(end), "gap", now_s)
                if self._closing is not None:
                    return  # whoever goes on elsewhere may still have what was dropped here
                samples = self._append(self._decoder.skip(command.num_bytes), command.arrived_s)
                self._unheard.append(samples)
                start_s, end_s = end / SAMPLE_RATE_HZ, self._track.end / SAMPLE_RATE_HZ
                self._totals.dropped_s += end_s - start_s
                self._measures.dropped(end_s - start_s)
                self._events.append(Dropped(start_s, end_s))

    def _configure(self, command: Configure) -> None:
        if command.endpointing_s is not None:
            self._segmenter.endpointing_s = command.endpointing_s
        self._hotwords = self._hotwords if command.hotwords is None else command.hotwords
        if command.choice is None:
            return
        head = self._head
        told = self.dial.turn(command.choice, head.plans[-1][1] if head and head.plans else None)
        if told is not None:
            self._events.append(told)

    def _target(self, head: Utterance) -> Target:
        return self._work.target if self._work else self._feeding.target(head, self._heard)

    def _finish(self, head: Utterance, told_end_s: float, plan: PlanInUse, now_s: float) -> None:
        self._utterances.popleft()
        end = head.end
        if end is None or head.fed < min(end, head.voice_end + HANG_SAMPLES):
            rest = cut(head, self._track, told_end_s)
            self._utterances.appendleft(rest)
            if rest.end is None:
                self._segmenter.restart(rest.start)
            end = rest.start
        lag_s = self._progress.cover(end, now_s)
        final = final_of(head, end, lag_s)
        self._totals.utterances += 1
        self._events.append(final)
        self._measures.finished(final, plan, max(0.0, now_s - (head.end_arrived_s or now_s)))

    def _tell_partial(self, head: Utterance, now_s: float) -> None:
        interval_s, head.decoded_at_s = now_s - head.decoded_at_s, now_s
        if not head.words:
            return
        if head.told:
            self._measures.partial_interval(interval_s)
        else:
            self._measures.first_partial(max(0.0, now_s - head.voice_arrived_s))
        head.told = True
        lag_s = self._progress.cover(self._covered(), now_s)
        self._events.append(partial_of(head, self._progress.end_s, lag_s))

    def _mind_the_decoder(self, head: Utterance, now_s: float) -> None:
        """End an utterance in which the gate hears a noise go on after the last word."""
        if head.end is not None or not head.words:
            return
        silent_s = head.encoded / SAMPLE_RATE_HZ - head.words[-1].end_s
        if silent_s >= max(UNHEARD_SPEECH_S, self._segmenter.endpointing_s):
            self._close(self._segmenter.close(self._heard), "endpoint", now_s)

    def _covered(self) -> int:
        """How far the audio has been encoded, or heard to be silent."""
        head = self._head
        if head is None:
            return min(self._segmenter.silent_until, self._track.end)
        pausing = head.end is None and head.encoded >= head.voice_end + HANG_SAMPLES
        return self._heard if pausing else head.encoded

    def _go_on(self, now_s: float) -> None:
        """Tell how far things are, let go of what is done with, and end when all is told."""
        ending = self._closing is not None and not self._utterances and not self._unheard
        accepted = self._track.end if self._accepted is None else self._accepted
        covered = accepted if ending else min(self._covered(), accepted)
        lag = self._progress.lag_due(covered, self._track.end, min(self._settled, accepted), now_s)
        if lag is not None:
            self._events.append(lag)
        for reached in self.markers.reached(covered):
            self._progress.cover(covered, now_s)
            self._events.append(reached)
        head = self._head
        kept_from = self._segmenter.silent_until - LEAD_SAMPLES
        self._track.forget_before(head.fed - TAIL_SAMPLES if head is not None else kept_from)
        due = self._totals.due(self._track.end, self.state_bytes)
        if due is not None:
            self._events.append(due)
        if ending and not self._finished:
            self._finished = True
            self._progress.cover(covered, now_s)
            stats = self._totals.stats(accepted, 0)
            end_s = accepted / SAMPLE_RATE_HZ
            self._events.append(Done(self._closing or "stop", stats, end_s))
