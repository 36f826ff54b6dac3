"""The backbones, one protocol; the elastic layer loop is written once, in `elastic`."""

from model_store.backbones.base import CtcModel, EncoderStates, SpeechModel
from model_store.backbones.build import BACKBONES, AnyModule, CtcModule, SpeechModule

__all__ = [
    "BACKBONES",
    "AnyModule",
    "CtcModel",
    "CtcModule",
    "EncoderStates",
    "SpeechModel",
    "SpeechModule",
]
