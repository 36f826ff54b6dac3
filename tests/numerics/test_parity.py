"""Tiny random models against transformers' implementations of the same architectures."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model_store.backbones import SpeechModule, moonshine_names, whisper_names
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.published import fitted
from model_store.backbones.whisper import Whisper
from tests.numerics.backbones import constant, noise

# Importing transformers takes seconds, once.
pytestmark = pytest.mark.timeout(120)

SIZES: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TOKEN_BU = torch.tensor([[1, 7, 9, 11, 3], [1, 40, 5, 5, 59]])


def published_parameters(reference: Any) -> dict[str, Tensor]:
    return {name.removeprefix("model."): v for name, v in reference.state_dict().items()}


def shaken(reference: Any) -> Any:
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return reference.eval()


@torch.inference_mode()
def assert_parity(
    model: SpeechModule, samples: tuple[Tensor, Tensor], states_BTD: Tensor, logits_BUV: Tensor
) -> None:
    encoded = model.encode(*samples, constant(1, 1))
    cache = model.decoder.begin(model.decoder.pool(encoded), TOKEN_BU.shape[1])
    ours_BUV = model.train().decoder.logits(model.decoder(TOKEN_BU, cache))

    torch.testing.assert_close(encoded.states_BTD, states_BTD, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours_BUV, logits_BUV, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_moonshine_computes_what_transformers_does(share: float) -> None:
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    torch.manual_seed(0)
    config = MoonshineConfig(
        **SIZES,
        hidden_size=32,
        intermediate_size=48,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        decoder_start_token_id=1,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": share,
        },
    )
    reference = shaken(MoonshineForConditionalGeneration(config))
    sizes = moonshine_names.published_config(config.to_dict())
    parameters = moonshine_names.from_published(published_parameters(reference), sizes)
    samples = noise(16_000, 16_000)
    expected = reference(input_values=samples[0], decoder_input_ids=TOKEN_BU)

    assert_parity(
        fitted(Moonshine(sizes), parameters),
        samples,
        expected.encoder_last_hidden_state,
        expected.logits,
    )


@torch.inference_mode()
@pytest.mark.parametrize("mels", [80, 128])
def test_whisper_computes_what_transformers_does(mels: int) -> None:
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(0)
    config = WhisperConfig(
        **SIZES,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        decoder_start_token_id=1,
        num_mel_bins=mels,
        max_source_positions=1500,
        max_target_positions=32,
    )
    reference = shaken(WhisperForConditionalGeneration(config))
    generation = {"no_timestamps_token_id": 5, "suppress_tokens": [7, 9]}
    sizes = whisper_names.published_config(config.to_dict(), generation)
    parameters = whisper_names.from_published(published_parameters(reference), sizes)
    samples_BS, num_samples_B = noise(16_000, 11_111)
    extractor = WhisperFeatureExtractor(feature_size=mels)
    heard = [samples_BS[0].numpy(), samples_BS[1, :11_111].numpy()]
    features = extractor(heard, sampling_rate=16_000, return_tensors="pt")
    expected = reference(input_features=features.input_features, decoder_input_ids=TOKEN_BU)

    assert sizes.prompt == (1, 5)
    assert_parity(
        fitted(Whisper(sizes), parameters),
        (samples_BS, num_samples_B),
        expected.encoder_last_hidden_state,
        expected.logits,
    )


@pytest.mark.parametrize("mels", [80, 128])
def test_log_mel_features_are_those_of_transformers(mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    from model_store.backbones.log_mel import LogMel, mel_filters

    samples_BS, num_samples_B = noise(16_000, 31_111)
    samples_BS[1] *= torch.linspace(0, 8, 31_111).sin().square()
    extractor = WhisperFeatureExtractor(feature_size=mels)
    heard = [samples_BS[0, :16_000].numpy(), samples_BS[1].numpy()]
    features: Any = extractor(heard, sampling_rate=16_000, return_tensors="pt")

    windows_B = torch.tensor([3000, 3000])
    ours_BMN = LogMel(mels)(samples_BS, num_samples_B, windows_B, running=False)

    filters = torch.from_numpy(extractor.mel_filters).T.float()
    torch.testing.assert_close(mel_filters(mels), filters, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours_BMN, features.input_features, rtol=1e-4, atol=1e-4)
