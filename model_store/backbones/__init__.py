"""The backbones, one protocol; the elastic layer loop is written once, in `elastic`."""

from model_store.backbones.base import EncoderStates, SpeechModel
from model_store.backbones.build import BACKBONES, SpeechModule

__all__ = ["BACKBONES", "EncoderStates", "SpeechModel", "SpeechModule"]
