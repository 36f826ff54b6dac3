"""What happens to speech on its way to a microphone: the student hears it, the reference does not.

Every change leaves words and their times where they were, so that the reference's states still fit.

Dimensions: S = samples at 16 kHz, F = frequencies.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store.audio import SAMPLE_RATE_HZ
from model_store.training.config import AugmentConfig

TELEPHONE_HZ = (300.0, 3400.0)
REVERBERATION_S = (0.15, 0.7)
DIRECT_TO_ROOM_DB = (-3.0, 12.0)
BANDS_HZ = (0.0, 150.0, 400.0, 1000.0, 2500.0, 5000.0, 8000.0)
MOST_BAND_DB = 8.0
MU = 255.0


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Rooms, telephones, microphones, level, noise and other voices, each drawn on its own.

    Args:
        noise_S: recordings of noise, joined.
    """

    noise_S: Tensor
    config: AugmentConfig

    def __call__(self, samples_S: Tensor, babble_S: Tensor, draw: torch.Generator) -> Tensor:
        """Change one utterance.

        Args:
            samples_S: in [-1, 1].
            babble_S: other speech, any length.
            draw: of every choice.
        """
        config = self.config
        if _uniform(draw) < config.room:
            samples_S = in_a_room(samples_S, draw)
        if _uniform(draw) < config.noise:
            ratio_db = _uniform(draw, *config.noise_db)
            samples_S = _mixed(samples_S, _stretch(self.noise_S, len(samples_S), draw), ratio_db)
        if _uniform(draw) < config.babble:
            ratio_db = _uniform(draw, *config.babble_db)
            samples_S = _mixed(samples_S, _stretch(babble_S, len(samples_S), draw), ratio_db)
        if _uniform(draw) < config.microphone:
            samples_S = through_a_microphone(samples_S, draw)
        if _uniform(draw) < config.telephone:
            samples_S = by_telephone(samples_S)
        samples_S = samples_S * 10 ** (_uniform(draw, *config.gain_db) / 20)
        return samples_S.clamp(-1, 1)


def in_a_room(samples_S: Tensor, draw: torch.Generator) -> Tensor:
    """Add decaying noise as a room's answer; the direct sound stays where it is."""
    decay_s = _uniform(draw, *REVERBERATION_S)
    delay_s = _uniform(draw, 0.002, 0.02)
    length = int(decay_s * SAMPLE_RATE_HZ)
    time_s = torch.arange(length) / SAMPLE_RATE_HZ
    # 60 dB down after `decay_s`.
    room_S = torch.randn(length, generator=draw) * (-math.log(1000) * time_s / decay_s).exp()
    room_S[: int(delay_s * SAMPLE_RATE_HZ)] = 0
    level = 10 ** (-_uniform(draw, *DIRECT_TO_ROOM_DB) / 20)
    room_S *= level / room_S.square().sum().sqrt().clamp(min=1e-6)
    room_S[0] = 1.0
    size = _fast_size(len(samples_S) + length)
    spectrum_F = torch.fft.rfft(samples_S, size) * torch.fft.rfft(room_S, size)
    return torch.fft.irfft(spectrum_F, size)[: len(samples_S)]


def through_a_microphone(samples_S: Tensor, draw: torch.Generator) -> Tensor:
    """Tilt the spectrum: up to 8 dB up or down in each of six bands, without delay."""
    gains_db = (torch.rand(len(BANDS_HZ), generator=draw) * 2 - 1) * MOST_BAND_DB
    return _filtered(samples_S, torch.tensor(BANDS_HZ), gains_db)


def by_telephone(samples_S: Tensor) -> Tensor:
    """Keep the telephone's band, then 8-bit mu-law."""
    low_hz, high_hz = TELEPHONE_HZ
    corner_hz = torch.tensor([0, 0.7 * low_hz, low_hz, high_hz, 1.15 * high_hz, 8000])
    narrow_S = _filtered(samples_S, corner_hz, torch.tensor([-60.0, -40, 0, 0, -60, -60]))
    narrow_S = narrow_S.clamp(-1, 1)
    curved_S = narrow_S.sign() * torch.log1p(MU * narrow_S.abs()) / math.log1p(MU)
    rounded_S = (curved_S * 127).round() / 127
    return rounded_S.sign() * ((rounded_S.abs() * math.log1p(MU)).exp() - 1) / MU


def _filtered(samples_S: Tensor, corner_hz: Tensor, gains_db: Tensor) -> Tensor:
    size = _fast_size(len(samples_S))
    spectrum_F = torch.fft.rfft(samples_S, size)
    frequency_F = torch.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum_F))
    above_F = torch.searchsorted(corner_hz, frequency_F).clamp(1, len(corner_hz) - 1)
    low_F, high_F = corner_hz[above_F - 1], corner_hz[above_F]
    share_F = (frequency_F - low_F) / (high_F - low_F)
    gain_F = gains_db[above_F - 1].lerp(gains_db[above_F], share_F)
    return torch.fft.irfft(spectrum_F * 10 ** (gain_F / 20), size)[: len(samples_S)]


def _fast_size(length: int) -> int:
    return 1 << (length - 1).bit_length()


def _mixed(samples_S: Tensor, other_S: Tensor, ratio_db: float) -> Tensor:
    level = samples_S.square().mean().sqrt() / other_S.square().mean().sqrt().clamp(min=1e-5)
    return samples_S + other_S * level * 10 ** (-ratio_db / 20)


def _stretch(source_S: Tensor, length: int, draw: torch.Generator) -> Tensor:
    """Take so many samples from a random place, going round where there are too few."""
    if not len(source_S):
        return torch.zeros(length)
    start = int(torch.randint(len(source_S), (1,), generator=draw).item())
    return source_S[(start + torch.arange(length)) % len(source_S)]


def _uniform(draw: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    value = float(torch.rand(1, generator=draw).item())
    return low + (high - low) * value
