"""The Conformer's front end: mel features and two convolutions, to one frame for 40 ms.

Dimensions: B = utterances, S = samples at 16 kHz, N = windows (10 ms), J = places of the first
convolution (20 ms), T = encoder frames (40 ms), F = frequencies, M = mel bands, D = channels.

Source: the recipes of LDASR (EUSIPCO 2024) and ETF4ASR (arXiv 2505.16991), whose features are
torchaudio's `MelSpectrogram`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_store.backbones.conformer_block import StridedBatchNorm
from model_store.backbones.log_mel import HOP_SAMPLES, LogMel

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 320
FFT_SAMPLES = 1024

KERNEL = 3
CONV_STRIDE = 2
"""Of both convolutions."""

FRAME_WINDOWS = CONV_STRIDE**2
RECEPTIVE_WINDOWS = KERNEL + CONV_STRIDE * (KERNEL - 1)
"""Frame t of the unpadded front end reads windows 4 t to 4 t + 6."""

MEL_FACTOR = 2595.0
MEL_BREAK_HZ = 700.0
"""The mel scale of HTK: 2595 log10(1 + f / 700)."""


class PowerMel(nn.Module):
    """Samples to mel powers, neither in decibels nor normalised, as the papers' code has them."""

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filter_MF", htk_filters(num_mels), persistent=False)

    def forward(self, samples_BS: Tensor, num_samples_B: Tensor, num_windows_B: Tensor) -> Tensor:
        """Compute features; windows past `num_windows_B` are 0, as the convolutions pad.

        Shapes:
            out: BMN, N = the largest of `num_windows_B`.
        """
        windows = int(num_windows_B.max())
        length = windows * HOP_SAMPLES + FFT_SAMPLES
        samples_BS = F.pad(samples_BS[:, :length], (0, max(0, length - samples_BS.shape[1])))
        heard_BS = torch.arange(length, device=samples_BS.device) < num_samples_B[:, None]
        window, filter_MF = self.get_buffer("window"), self.get_buffer("filter_MF")
        with torch.autocast(samples_BS.device.type, enabled=False):
            spectrum_BFN = torch.stft(
                (samples_BS * heard_BS).float(),
                FFT_SAMPLES,
                HOP_SAMPLES,
                WINDOW_SAMPLES,
                window,
                return_complex=True,
            )[:, :, :windows]
            power_BMN = filter_MF @ (spectrum_BFN.real.square() + spectrum_BFN.imag.square())
        valid_BN = torch.arange(windows, device=samples_BS.device) < num_windows_B[:, None]
        return power_BMN * valid_BN.unsqueeze(1)


class ConformerFrontEnd(nn.Module):
    """Features and two convolutions of stride 2.

    Args:
        mels: bands.
        dim: channels of the frames.
        log: log-mel features under a fixed maximum, which need nothing of the future; mel powers
            without.
        activated: pads the first convolution, and puts GELU and a batch norm between the two and
            GELU after them, as ETF4ASR has it; LDASR has the two convolutions alone.
    """

    def __init__(self, mels: int, dim: int, *, log: bool, activated: bool) -> None:
        super().__init__()
        self.features = LogMel(mels) if log else PowerMel(mels)
        self.padding = 1 if activated else 0
        self.conv1 = nn.Conv1d(mels, dim, KERNEL, CONV_STRIDE)
        self.norm = StridedBatchNorm(dim, strides=1) if activated else None
        self.conv2 = nn.Conv1d(dim, dim, KERNEL, CONV_STRIDE)

    def forward(self, samples_BS: Tensor, num_samples_B: Tensor) -> Tensor:
        """Turn samples into frames; what lies past an utterance's end changes none of its own.

        Shapes:
            out: x_BTD, T = the most of `num_frames`.
        """
        num_windows_B = self.num_windows(num_samples_B)
        if isinstance(self.features, LogMel):
            mel_BMN = self.features(samples_BS, num_samples_B, num_windows_B, running=True)
        else:
            mel_BMN = self.features(samples_BS, num_samples_B, num_windows_B)
        return self.convolved(mel_BMN, self._places(num_windows_B))

    def convolved(self, mel_BMN: Tensor, num_places_B: Tensor) -> Tensor:
        """Turn features into frames.

        Args:
            mel_BMN: features.
            num_places_B: valid places of the first convolution, which a batch norm counts alone.
        """
        y_BDJ = self.conv1(F.pad(mel_BMN, (self.padding, self.padding)))
        if self.norm is None:
            return self.conv2(y_BDJ).transpose(1, 2)
        valid_BJ = torch.arange(y_BDJ.shape[2], device=y_BDJ.device) < num_places_B[:, None]
        y_BJD = self.norm(F.gelu(y_BDJ).transpose(1, 2), 0, valid_BJ)
        return F.gelu(self.conv2(y_BJD.transpose(1, 2))).transpose(1, 2)

    def num_windows(self, num_samples_B: Tensor) -> Tensor:
        """Windows of utterances; fewer than one frame reads are completed by silence."""
        return (num_samples_B // HOP_SAMPLES).clamp(min=RECEPTIVE_WINDOWS)

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """Frames that utterances give."""
        places_B = self._places(self.num_windows(num_samples_B))
        return (places_B - KERNEL) // CONV_STRIDE + 1

    def _places(self, num_windows_B: Tensor) -> Tensor:
        return (num_windows_B + 2 * self.padding - KERNEL) // CONV_STRIDE + 1


def htk_filters(num_mels: int) -> Tensor:
    """Triangles of equal height over the frequencies of a window, (M, F), from 0 to 8 kHz."""
    top_hz = SAMPLE_RATE_HZ / 2
    frequency_F = torch.linspace(0, top_hz, FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    top_mel = MEL_FACTOR * math.log10(1 + top_hz / MEL_BREAK_HZ)
    mel_M = torch.linspace(0, top_mel, num_mels + 2, dtype=torch.float64)
    corner_hz = MEL_BREAK_HZ * (10 ** (mel_M / MEL_FACTOR) - 1)
    width_hz = corner_hz.diff()
    above_MF = frequency_F - corner_hz[:, None]
    rising_MF = above_MF[:-2] / width_hz[:-1, None]
    falling_MF = -above_MF[2:] / width_hz[1:, None]
    return torch.minimum(rising_MF, falling_MF).clamp(min=0).float()


def sinusoidal_positions(position_T: Tensor, dim: int) -> Tensor:
    """Sines and cosines of positions in turn, (T, D).

    Source: Vaswani et al., Attention Is All You Need, arXiv 1706.03762, section 3.5.
    """
    channel_D = torch.arange(0, dim, 2, device=position_T.device)
    rate_D = torch.exp(-math.log(10_000.0) / dim * channel_D)
    angle_TD = position_T[:, None] * rate_D
    return torch.stack((angle_TD.sin(), angle_TD.cos()), dim=-1).flatten(1)
