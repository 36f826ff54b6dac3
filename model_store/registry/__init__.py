"""Names to models, and what a loaded model does."""

from model_store.registry.names import DEFAULT_MODEL, load, shipped, weights_folder
from model_store.registry.recogniser import (
    Recogniser,
    Transcript,
    TranscriptSegment,
    WindowTranscript,
)

__all__ = [
    "DEFAULT_MODEL",
    "Recogniser",
    "Transcript",
    "TranscriptSegment",
    "WindowTranscript",
    "load",
    "shipped",
    "weights_folder",
]
