"""What a student is before its first step: exits added, layers cut off, layers at random."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from model_store.backbones import CtcModule, SpeechModule
from model_store.backbones.conformer import Conformer
from model_store.backbones.elastic import Bypass, ElasticLayer, ElasticStack, StridedLayerNorm
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.wavlm import WavLM
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


def begin_ctc(given: CtcModule, run: RunConfig) -> CtcModule:
    """Make the student that scores every frame: its first `keep_layers`, and its exits.

    Args:
        given: left as it is; trained or of random weights.
        run: its `loss.exits` and `keep_layers` say what changes.

    Raises:
        RunConfigError: the model has not that many layers.
    """
    layers = run.keep_layers or given.num_layers
    if layers > given.num_layers:
        raise RunConfigError(f"expected {layers} layers or more, got {given.num_layers}")
    _check_exits(run.loss.exits, layers)
    if isinstance(given, Conformer):
        config = dataclasses.replace(given.config, encoder_layers=layers, exits=run.loss.exits)
        student = Conformer(config)
    elif layers == given.num_layers:
        return given
    else:
        student = WavLM(dataclasses.replace(given.config, encoder_layers=layers))
    known = given.state_dict()
    student.load_state_dict({name: known[name] for name in student.state_dict()})
    return student


def start_over(stack: ElasticStack, seed: int) -> None:
    """Give an encoder's layers weights as their modules make them: means, repeats and bypasses too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in stack.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, StridedLayerNorm):
                nn.init.ones_(module.weight_SD)
                if module.bias_SD is not None:
                    nn.init.zeros_(module.bias_SD)
            elif isinstance(module, ElasticLayer):
                for stride, pool_RD in module.pool_RD.items():
                    nn.init.constant_(pool_RD, 1 / int(stride))
                for give_RD in module.give_RD.values():
                    nn.init.ones_(give_RD)
        for module in stack.modules():  # afterwards: its projections were drawn above
            if isinstance(module, Bypass):
                nn.init.zeros_(module.up.weight)
                nn.init.zeros_(module.up.bias)


def _rebuilt(given: SpeechModule, run: RunConfig) -> SpeechModule:
    layers = run.keep_layers or given.num_layers
    if not isinstance(given, Moonshine) or layers > given.num_layers:
        raise RunConfigError(
            f"expected a Moonshine of {layers} layers or more, "
            f"got {given.backbone} of {given.num_layers}"
        )
    _check_exits(run.loss.exits, layers)
    config = dataclasses.replace(given.config, encoder_layers=layers, exits=run.loss.exits)
    student = Moonshine(config)
    known = given.state_dict()
    for exit_after in run.loss.exits:
        name = f"encoder.exit_norms.{exit_after}.weight"
        known.setdefault(name, known["encoder.norm.weight"])
    kept = {name: known[name] for name in student.state_dict()}
    student.load_state_dict(kept)
    return student.eval()


def _check_exits(exits: Sequence[int], layers: int) -> None:
    if any(exit_after >= layers for exit_after in exits):
        raise RunConfigError(f"expected exits below layer {layers}, got {list(exits)}")
