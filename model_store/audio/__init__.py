"""Audio: any file to 16 kHz mono blocks, where speech is, and windows a recogniser can take."""

from model_store.audio.decode import SAMPLE_RATE_HZ, AudioSource, open_audio, read_audio
from model_store.audio.gate import (
    FRAME_SAMPLES,
    Listener,
    SileroGate,
    SpeechGate,
    has_speech,
    speech_spans,
)
from model_store.audio.windows import Window, cut_windows

__all__ = [
    "FRAME_SAMPLES",
    "SAMPLE_RATE_HZ",
    "AudioSource",
    "Listener",
    "SileroGate",
    "SpeechGate",
    "Window",
    "cut_windows",
    "has_speech",
    "open_audio",
    "read_audio",
    "speech_spans",
]
