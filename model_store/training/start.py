"""What a student is before its first step: exits added, layers cut off, layers at random."""

import dataclasses

import torch
from torch import nn

from model_store.backbones import SpeechModule
from model_store.backbones.elastic import ElasticStack, StridedLayerNorm
from model_store.backbones.moonshine import Moonshine
from model_store.errors import RunConfigError
from model_store.training.config import RunConfig

LAYERS = "encoder.stack.layers."


def begin(given: SpeechModule, run: RunConfig) -> SpeechModule:
    """Make the student that a run trains of the model that it starts from.

    Args:
        given: left as it is.
        run: its `loss.exits`, `keep_layers` and `encoder` say what changes.

    Raises:
        RunConfigError: the backbone cannot be changed so, or has not that many layers.
    """
    student = given
    if run.loss.exits or run.keep_layers:
        student = _rebuilt(given, run)
    if run.encoder == "scratch":
        start_over(student.encoder.stack, run.seed)
    return student


def start_over(stack: ElasticStack, seed: int) -> None:
    """Give an encoder's layers random weights, as their modules make them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in stack.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, StridedLayerNorm):
                nn.init.ones_(module.weight_SD)
                if module.bias_SD is not None:
                    nn.init.zeros_(module.bias_SD)


def _rebuilt(given: SpeechModule, run: RunConfig) -> SpeechModule:
    layers = run.keep_layers or given.num_layers
    if not isinstance(given, Moonshine) or layers > given.num_layers:
        raise RunConfigError(
            f"expected a Moonshine of {layers} layers or more, "
            f"got {given.backbone} of {given.num_layers}"
        )
    if any(exit_after >= layers for exit_after in run.loss.exits):
        raise RunConfigError(f"expected exits below layer {layers}, got {list(run.loss.exits)}")
    config = dataclasses.replace(given.config, encoder_layers=layers, exits=run.loss.exits)
    student = Moonshine(config)
    known = given.state_dict()
    for exit_after in run.loss.exits:
        name = f"encoder.exit_norms.{exit_after}.weight"
        known.setdefault(name, known["encoder.norm.weight"])
    kept = {name: known[name] for name in student.state_dict()}
    student.load_state_dict(kept)
    return student.eval()
