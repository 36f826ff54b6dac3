"""The time of a stream that began elsewhere: its sound's first sample here is not its first at all."""

from dataclasses import replace

from service.streaming.events import Done, Dropped, Event, Final, Lag, Leaving, Partial
from service.streaming.utterance import shifted


def in_stream_time(event: Event, start_s: float) -> Event:
    """Give an event whose times count from a stream's beginning, not from its arrival here."""
    match event:
        case Partial() | Dropped():
            return replace(event, start_s=event.start_s + start_s, end_s=event.end_s + start_s)
        case Final():
            return replace(
                event,
                start_s=event.start_s + start_s,
                end_s=event.end_s + start_s,
                words=tuple(shifted(word, start_s) for word in event.words),
                plans=tuple((from_s + start_s, plan) for from_s, plan in event.plans),
            )
        case Lag():
            accepted_s = event.accepted_s + start_s
            return replace(event, end_s=event.end_s + start_s, accepted_s=accepted_s)
        case Leaving() | Done():
            return replace(event, end_s=event.end_s + start_s)
        case _:
            return event
