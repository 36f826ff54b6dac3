"""When the words of a clip end: as an unloaded pass with full context, at full depth, hears it.

Delays of words are counted from there. Kept in a file, since it takes a while: never committed, it
holds the words.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from benchmarks.slo_score import TimedWords
from benchmarks.slo_sound import SAMPLE_RATE_HZ, Clip
from model_store.text.normalise import normalise
from service.engine.base import Engine, Window

logger = logging.getLogger(__name__)


def timed_words(
    engine: Engine, clips: Mapping[str, Clip], kept: Path | None
) -> dict[str, TimedWords]:
    """Hear each clip alone.

    Args:
        engine: not loaded yet; it is only where something has to be heard.
        clips: by id.
        kept: file of what was heard before; None to hear all and keep nothing.
    """
    known = _read(kept)
    missing = {id_: clip for id_, clip in clips.items() if id_ not in known}
    if missing:
        logger.info("hearing %d clips without load", len(missing))
        engine.load()
        plan = engine.choose(0.0, None, "ladder")
        for id_, clip in missing.items():
            window = Window(clip.samples, 0.0, len(clip.samples) / SAMPLE_RATE_HZ, speech=True)
            segment = engine.transcribe([window], plan).segments[0]
            known[id_] = [
                (part, round(word.end_s, 3))
                for word in segment.words
                for part in normalise(word.text).split()
            ]
        if kept is not None:
            kept.write_text(json.dumps(known), encoding="utf-8")
    return {id_: known[id_] for id_ in clips}


def _read(kept: Path | None) -> dict[str, TimedWords]:
    if kept is None or not kept.exists():
        return {}
    stored: dict[str, list[tuple[str, float]]] = json.loads(kept.read_text(encoding="utf-8"))
    return {id_: [(word, end_s) for word, end_s in words] for id_, words in stored.items()}
