"""Log-mel features as Whisper was trained on, the filter bank computed here.

Dimensions: B = utterances, S = samples at 16 kHz, N = windows (10 ms), F = frequencies, M = mel bands.

Source: Radford et al., Whisper, arXiv 2212.04356, and its `audio.py` (MIT); the mel scale and the
equal-area triangles are those of Slaney's Auditory Toolbox.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160

SMALLEST_POWER = 1e-10
DYNAMIC_RANGE = 8.0
"""Decades below the maximum at which features are clamped."""

PRIOR_MAXIMUM = 0.8
"""Decadic logarithm of the largest mel power expected of speech: what a stream clamps by, since
the input's own maximum lies in the future. The median over recordings of read and of spontaneous
speech; four of five recordings have theirs between 0 and 1.5."""

LINEAR_HZ_PER_MEL = 200 / 3
LOG_FROM_HZ = 1000.0
LOG_FROM_MEL = LOG_FROM_HZ / LINEAR_HZ_PER_MEL
MELS_PER_E = 27 / math.log(6.4)
"""Slaney's scale: linear up to 1 kHz, then 27 mels for each factor of 6.4."""


class LogMel(nn.Module):
    """Samples to log-mel features, each utterance by itself."""

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filter_MF", mel_filters(num_mels), persistent=False)

    def forward(
        self, samples_BS: Tensor, num_samples_B: Tensor, num_windows_B: Tensor, *, running: bool
    ) -> Tensor:
        """Compute features; windows past `num_windows_B` are 0, as the convolutions pad.

        Args:
            samples_BS: in [-1, 1]; those past an utterance's end count as silence.
            num_samples_B: valid samples of each utterance.
            num_windows_B: windows to keep of each utterance.
            running: clamp below a fixed maximum instead of the utterance's own.

        Shapes:
            out: BMN, N = the largest of `num_windows_B`.
        """
        windows = int(num_windows_B.max())
        # The last window sees silence, not a mirror image as the original's: what an utterance is
        # padded with then makes no difference to it.
        length = windows * HOP_SAMPLES + WINDOW_SAMPLES
        samples_BS = F.pad(samples_BS[:, :length], (0, max(0, length - samples_BS.shape[1])))
        heard_BS = torch.arange(length, device=samples_BS.device) < num_samples_B[:, None]
        # Powers span ten decades, which no half precision holds.
        with torch.autocast(samples_BS.device.type, enabled=False):
            power_BMN = self._power((samples_BS * heard_BS).float(), windows)
            log_BMN = power_BMN.clamp(min=SMALLEST_POWER).log10()
            valid_BN = torch.arange(windows, device=samples_BS.device) < num_windows_B[:, None]
            return _clamped(log_BMN, valid_BN.unsqueeze(1), running=running)

    def stream(self, samples_BS: Tensor) -> Tensor:
        """Compute features where the samples before and after are at hand, clamped as `running` does.

        Args:
            samples_BS: window n reads samples 160 n to 160 n + 399 of these.

        Shapes:
            out: BMN, N = (S - 400) // 160 + 1.
        """
        window, filter_MF = self.get_buffer("window"), self.get_buffer("filter_MF")
        spectrum_BFN = torch.stft(
            samples_BS.float(),
            WINDOW_SAMPLES,
            HOP_SAMPLES,
            window=window,
            center=False,
            return_complex=True,
        )
        power_BMN = filter_MF @ (spectrum_BFN.real.square() + spectrum_BFN.imag.square())
        log_BMN = power_BMN.clamp(min=SMALLEST_POWER).log10()
        return _clamped(log_BMN, torch.ones_like(log_BMN, dtype=torch.bool), running=True)

    def _power(self, samples_BS: Tensor, windows: int) -> Tensor:
        window: Tensor = self.get_buffer("window")
        filter_MF: Tensor = self.get_buffer("filter_MF")
        spectrum_BFN = torch.stft(
            samples_BS, WINDOW_SAMPLES, HOP_SAMPLES, window=window, return_complex=True
        )[:, :, :windows]
        return filter_MF @ (spectrum_BFN.real.square() + spectrum_BFN.imag.square())


def mel_filters(num_mels: int) -> Tensor:
    """Triangles of equal area over the frequencies of a window, (M, F), from 0 to 8 kHz."""
    frequency_F = torch.linspace(
        0, SAMPLE_RATE_HZ / 2, WINDOW_SAMPLES // 2 + 1, dtype=torch.float64
    )
    top_mel = LOG_FROM_MEL + math.log(SAMPLE_RATE_HZ / 2 / LOG_FROM_HZ) * MELS_PER_E
    corner_hz = _hertz(torch.linspace(0, top_mel, num_mels + 2, dtype=torch.float64))
    width_hz = corner_hz.diff()
    above_MF = frequency_F - corner_hz[:, None]
    rising_MF = above_MF[:-2] / width_hz[:-1, None]
    falling_MF = -above_MF[2:] / width_hz[1:, None]
    triangle_MF = torch.minimum(rising_MF, falling_MF).clamp(min=0)
    return (triangle_MF * 2 / (corner_hz[2:] - corner_hz[:-2])[:, None]).float()


def _hertz(mel_M: Tensor) -> Tensor:
    linear_M = mel_M * LINEAR_HZ_PER_MEL
    logarithmic_M = LOG_FROM_HZ * ((mel_M - LOG_FROM_MEL) / MELS_PER_E).exp()
    return torch.where(mel_M < LOG_FROM_MEL, linear_M, logarithmic_M)


def _clamped(log_BMN: Tensor, valid_B1N: Tensor, *, running: bool) -> Tensor:
    if running:
        floor_B11 = log_BMN.new_full((1, 1, 1), PRIOR_MAXIMUM - DYNAMIC_RANGE)
    else:
        heard_BMN = log_BMN.masked_fill(~valid_B1N, -torch.inf)
        floor_B11 = heard_BMN.amax((1, 2), keepdim=True) - DYNAMIC_RANGE
    return (torch.maximum(log_BMN, floor_B11) + 4) / 4 * valid_B1N
