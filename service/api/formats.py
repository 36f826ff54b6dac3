"""A transcript as JSON, text, SRT or WebVTT, and the headers that say what it cost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from service.api.cues import cues_of
from service.engine.base import Segment, Word
from service.scheduling.transcripts import Transcript

Format = Literal["json", "text", "verbose_json", "srt", "vtt"]
FORMATS: tuple[str, ...] = get_args(Format)

_MS_PER_S = 1000
_DECIMALS = 3  # of seconds in JSON: a millisecond


@dataclass(frozen=True, slots=True)
class Rendered:
    """A body and its media type."""

    body: str
    media_type: str


def render(transcript: Transcript, form: Format, *, upload_s: float = 0.0) -> Rendered:
    """Write a transcript in one of the formats.

    Args:
        transcript: what to write.
        form: which format.
        upload_s: time that reading the upload took, for the timing in JSON.
    """
    writers: Mapping[Format, Callable[[], Rendered]] = {
        "json": lambda: _json(_summary(transcript, upload_s)),
        "verbose_json": lambda: _json(_verbose(transcript, upload_s)),
        "text": lambda: Rendered(_line(transcript.text), "text/plain; charset=utf-8"),
        "srt": lambda: Rendered(_srt(transcript), "application/x-subrip; charset=utf-8"),
        "vtt": lambda: Rendered(_vtt(transcript), "text/vtt; charset=utf-8"),
    }
    return writers[form]()


def headers_of(transcript: Transcript, *, upload_s: float) -> dict[str, str]:
    """Say in headers what was used, whatever the format of the body."""
    plan, cost = transcript.plan, transcript.cost
    timing = ", ".join(
        f"{stage};dur={took_s * _MS_PER_S:.1f}"
        for stage, took_s in _stages(transcript, upload_s).items()
    )
    return {
        "X-ASR-Layers": plan.layers_text,
        "X-ASR-Plan": transcript.plan_text,
        "X-ASR-Drop": f"{plan.drop:g}",
        "X-ASR-FLOPs": str(cost.flops),
        "X-ASR-Encoder-FLOPs": str(cost.encoder_flops),
        "X-ASR-Audio-Seconds": f"{transcript.audio_s:.3f}",
        "Server-Timing": timing,
    }


def _stages(transcript: Transcript, upload_s: float) -> dict[str, float]:
    timing = transcript.timing
    return {
        "upload": upload_s,
        "audio": timing.audio_decode_s,
        "queue": timing.queue_s,
        "encode": timing.encode_s,
        "decode": timing.decode_s,
        "total": upload_s + timing.total_s,
    }


# Any below: JSON has values of all kinds, and this is the edge.
def _summary(transcript: Transcript, upload_s: float) -> dict[str, Any]:
    plan, cost = transcript.plan, transcript.cost
    ran = transcript.plans[0] if transcript.plans else plan
    by_window = [list(one.strides) for one in transcript.plans]
    return {
        "text": transcript.text,
        "model": transcript.model,
        "layers": plan.effective_layers,
        "layers_total": plan.layers_total,
        "plan": list(ran.strides),
        **({"plans": by_window} if by_window else {}),
        "drop": plan.drop,
        "policy": transcript.policy,
        "flops": cost.flops,
        "encoder_flops": cost.encoder_flops,
        "audio_seconds": round(transcript.audio_s, _DECIMALS),
        "timing_ms": {
            stage: round(took_s * _MS_PER_S, 1)
            for stage, took_s in _stages(transcript, upload_s).items()
        },
    }


def _verbose(transcript: Transcript, upload_s: float) -> dict[str, Any]:
    segments = [_segment(index, segment) for index, segment in enumerate(transcript.segments)]
    words = [_word(word) for segment in transcript.segments for word in segment.words]
    return _summary(transcript, upload_s) | {
        "task": "transcribe",
        "duration": round(transcript.audio_s, _DECIMALS),
        "segments": segments,
        "words": words,
    }


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": index,
        "start": round(segment.start_s, _DECIMALS),
        "end": round(segment.end_s, _DECIMALS),
        "text": segment.text,
        "avg_logprob": round(segment.avg_logprob, 4),
        "compression_ratio": round(segment.compression_ratio, 4),
    }


def _word(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start_s, _DECIMALS),
        "end": round(word.end_s, _DECIMALS),
        "confidence": round(word.confidence, 4),
    }


def _json(content: dict[str, Any]) -> Rendered:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Rendered(text, "application/json")


def _line(text: str) -> str:
    return f"{text}\n" if text else ""


def _srt(transcript: Transcript) -> str:
    blocks = [
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues_of(transcript.segments), start=1)
    ]
    return "\n".join(blocks)


def _vtt(transcript: Transcript) -> str:
    blocks = [
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_escaped(cue.text)}\n"
        for cue in cues_of(transcript.segments)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(time_ms: int, separator: str) -> str:
    # From whole milliseconds, so that no field is ever rounded up to its own limit (59,1000).
    rest_s, ms = divmod(time_ms, _MS_PER_S)
    rest_min, s = divmod(rest_s, 60)
    hours, minutes = divmod(rest_min, 60)
    return f"{hours:02d}:{minutes:02d}:{s:02d}{separator}{ms:03d}"
