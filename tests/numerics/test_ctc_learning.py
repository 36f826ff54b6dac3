"""Models that score every frame learn what a few clips say: front end, layers, loss, reading at once."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model_store.audio import read_audio
from model_store.backbones import CtcModule
from model_store.backbones.conformer import Conformer, ConformerConfig
from model_store.backbones.wavlm import WavLM, WavLMConfig
from model_store.decoding.ctc import CtcWindowDecoder
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.bpe import BLANK, train_bpe
from model_store.text.tokens import Tokenizer
from model_store.training.ctc_loss import ctc_loss, posterior_kl
from tests.numerics.backbones import constant, noise
from tests.numerics.ctc_backbones import build

ASSETS = Path(__file__).parents[1] / "assets"
SAID = {
    "fox": "the quick brown fox jumps over the lazy dog and then it sleeps until the morning",
    "report": "please send the report to the whole team before the meeting on thursday afternoon",
}
CONFORMER = ConformerConfig(
    vocabulary=0,
    dim=64,
    inner_dim=128,
    num_heads=4,
    encoder_layers=3,
    kernel=15,
    mels=40,
    features="log",
    norm="layer",
    causal=True,
    dropout=0.0,
)
FULL = DepthPlan((1, 1, 1))
HALF = DepthPlan((2, 2, 2))


def descended(
    model: CtcModule, audio: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], steps: int
) -> list[float]:
    """Train on one batch, every other step at half depth; give the losses at full depth."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.2)
    losses: list[float] = []
    model.train()
    for step in range(steps):
        plan = HALF if step % 2 else FULL
        encoded = model.encode(*audio, DepthSchedule.constant(plan))
        log_probs_BTV = model.log_probs(encoded.states_BTD)
        loss = ctc_loss(log_probs_BTV, encoded.num_frames_B, *targets, blank=BLANK)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if plan == FULL:
            losses.append(float(loss.detach()))
    model.eval()
    return losses


def together(pieces: list[Tensor]) -> tuple[Tensor, Tensor]:
    return pad_sequence(pieces, batch_first=True), torch.tensor([len(piece) for piece in pieces])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_conformer_learns_clips_by_heart_at_full_and_half_depth() -> None:
    torch.manual_seed(0)
    made = train_bpe(SAID.values(), 64)
    tokenizer = Tokenizer(made)
    model = Conformer(dataclasses.replace(CONFORMER, vocabulary=made.get_vocab_size()))
    clips = [read_audio(ASSETS / f"{name}.opus") for name in SAID]
    audio = together([torch.from_numpy(clip) for clip in clips])
    targets = together([torch.tensor(tokenizer.encode(text)) for text in SAID.values()])

    losses = descended(model, audio, targets, 240)

    assert losses[-1] < 0.1 < 3 < losses[0]
    decoder = CtcWindowDecoder(model, tokenizer)
    for plan in (FULL, HALF):
        heard = decoder.decode(clips, DepthSchedule.constant(plan))
        assert [one.text for one in heard] == list(SAID.values())
    starts = [word.start_s for word in heard[0].words]
    assert starts == sorted(starts)
    assert len(set(starts)) == len(starts)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_wavlm_of_random_weights_comes_down() -> None:
    torch.manual_seed(0)
    made = train_bpe(SAID.values(), 64)
    tokenizer = Tokenizer(made)
    config = WavLMConfig(
        vocabulary=made.get_vocab_size(),
        dim=48,
        inner_dim=96,
        num_heads=4,
        encoder_layers=3,
        conv_channels=(32,) * 7,
        conv_norm="layer",
        conv_bias=True,
        position_kernel=16,
        position_groups=4,
        pre_norm=True,
        normalise_input=True,
        dropout=0.0,
        attention_dropout=0.0,
        inner_dropout=0.0,
    )
    clip_S = torch.from_numpy(read_audio(ASSETS / "fox.opus"))
    targets = together([torch.tensor(tokenizer.encode(SAID["fox"]))])

    losses = descended(WavLM(config), together([clip_S]), targets, 60)

    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["conformer", "conformer-streaming", "wavlm", "wavlm-pre-norm"])
def test_a_student_comes_near_its_teachers_posteriors(name: str) -> None:
    teacher, student = build(name, bypass_rank=0), build(name, bypass_rank=0)
    samples = noise(20_000, 14_000)
    half = constant(2, 0, 1)
    with torch.no_grad():
        wanted = teacher.encode(*samples, constant(1, 1, 1))
        wanted_BTV = teacher.log_probs(wanted.states_BTD)
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)

    losses: list[float] = []
    for _ in range(12):
        encoded = student.encode(*samples, half)
        log_probs_BTV = student.log_probs(encoded.states_BTD)
        loss = posterior_kl(log_probs_BTV, wanted_BTV, encoded.num_frames_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.7 * losses[0]
