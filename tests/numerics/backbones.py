"""Tiny models with random weights, one of each backbone and of each way it can be set."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from model_store.backbones import SpeechModule
from model_store.backbones.base import EncoderStates
from model_store.backbones.elastic import ElasticLayer
from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.depth import DepthPlan, DepthSchedule

NUM_LAYERS = 3
BYTES = 256
END = BYTES
PROMPT = (BYTES + 1, BYTES + 2, BYTES + 3)
VOCABULARY = BYTES + 4
RATE_HZ = 16_000

MOONSHINE = MoonshineConfig(
    dim=32,
    inner_dim=48,
    num_heads=4,
    encoder_layers=NUM_LAYERS,
    decoder_layers=2,
    vocabulary=VOCABULARY,
    rotated=6,
    start_token=PROMPT[0],
    end_token=END,
)
WHISPER = WhisperConfig(
    dim=32,
    inner_dim=48,
    num_heads=4,
    encoder_layers=NUM_LAYERS,
    decoder_layers=2,
    vocabulary=VOCABULARY,
    prompt=PROMPT,
    end_token=END,
    source_positions=200,
    target_positions=64,
    pad_to_s=0.0,
)


@dataclass(frozen=True, slots=True)
class Backbone:
    """Sizes, and how many samples after its own start a frame hears."""

    config: MoonshineConfig | WhisperConfig
    receptive_samples: int

    def build(self, *, bypass_rank: int = 4) -> SpeechModule:
        torch.manual_seed(0)
        config = dataclasses.replace(self.config, bypass_rank=bypass_rank)
        model = Moonshine(config) if isinstance(config, MoonshineConfig) else Whisper(config)
        with torch.no_grad():
            # Nothing stays at its neutral start: norms differ by stride, bypasses do something.
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model.eval()


BACKBONES: Mapping[str, Backbone] = {
    "moonshine": Backbone(dataclasses.replace(MOONSHINE, memory_pool=2), 895),
    "moonshine-factorised": Backbone(dataclasses.replace(MOONSHINE, front_end_rank=8), 895),
    "whisper": Backbone(dataclasses.replace(WHISPER, memory_pool=2), 520),
    "whisper-padded": Backbone(dataclasses.replace(WHISPER, mels=128, pad_to_s=4.0), 520),
}


def noise(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Utterances of these lengths in one batch; past their ends other noise, which nobody may hear."""
    generator = torch.Generator().manual_seed(seed)
    samples_BS = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator)
    return samples_BS, torch.tensor(lengths)


def constant(*strides: int) -> DepthSchedule:
    return DepthSchedule.constant(DepthPlan(strides))


def layers(model: SpeechModule) -> list[ElasticLayer]:
    found = [layer for layer in model.encoder.stack.layers if isinstance(layer, ElasticLayer)]
    assert len(found) == NUM_LAYERS
    return found


@torch.inference_mode()
def encode(
    model: SpeechModule,
    samples_BS: Tensor,
    num_samples_B: Tensor,
    schedule: DepthSchedule,
    chunk_frames: int | None = None,
) -> EncoderStates:
    return model.encode(samples_BS, num_samples_B, schedule, chunk_frames)


def valid_rows(encoded: EncoderStates) -> list[Tensor]:
    return [
        states_TD[: int(frames)]
        for states_TD, frames in zip(encoded.states_BTD, encoded.num_frames_B, strict=True)
    ]


CONTROL_TOKENS = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|notimestamps|>")


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single bytes; the tokens after them are for control."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(CONTROL_TOKENS))
    made.save(str(folder / "tokenizer.json"))


def write_corpus(folder: Path, utterances: int = 4) -> Path:
    """Write noise that is said to be speech; give its manifest."""
    folder.mkdir(parents=True)
    lines = ["path\tseconds\tspeaker\tsplit\ttranscript"]
    for index in range(utterances):
        samples_BS, _ = noise(RATE_HZ + 1000 * index, seed=index)
        name = f"{index}.wav"
        soundfile.write(folder / name, samples_BS[0].numpy().astype(np.float32), RATE_HZ)
        lines.append(f"{name}\t{samples_BS.shape[1] / RATE_HZ:.3f}\tA\ttrain\tso said {index}")
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest
