r"""Make an untrained student of a converted model: cheap front end, pooled memory, bypasses.

Moonshine's second convolution is projected on the principal components of its own output over some
speech; Whisper gives up its padding to 30 s; Moonshine Streaming's front end stays as it is. The
decoder's memory is averaged over neighbouring frames. Nothing is trained here.

    python -m model_store.recipes.factorise --model DIR --speech MANIFEST --out DIR \
        --rank 256 --memory-pool 4 --bypass-rank 64
"""

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model_store.audio import read_audio
from model_store.backbones import SpeechModule
from model_store.backbones.moonshine import Moonshine
from model_store.backbones.moonshine_streaming import MoonshineStreaming
from model_store.backbones.whisper import Whisper
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.training.manifest import training_utterances


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="manifest")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=256)
    parser.add_argument("--memory-pool", type=int, default=4)
    parser.add_argument("--bypass-rank", type=int, default=64)
    parser.add_argument("--utterances", type=int, default=60)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.model)
    state = dict(checkpoint.model.state_dict())
    student = untrained_student(
        checkpoint.model, options.memory_pool, options.bypass_rank, options.rank
    )
    if isinstance(checkpoint.model, Moonshine):
        utterances = training_utterances(options.speech, leave_out=True)[: options.utterances]
        speech = [torch.from_numpy(read_audio(u.path)) for u in utterances]
        outputs_ND = torch.cat([second_convolution(checkpoint.model, s) for s in speech])
        state |= factorised(state, outputs_ND, options.rank)
        share = kept_variance(outputs_ND, options.rank)
        print(f"rank {options.rank} keeps {share:.4f} of the second convolution's variance")
    inherit(student, state)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "decoding.json"):
        shutil.copy(options.model / name, options.out / name)
    save_checkpoint(student, checkpoint.catalogue, options.out)


def untrained_student(
    teacher: SpeechModule, memory_pool: int, bypass_rank: int, front_end_rank: int
) -> SpeechModule:
    """Make a model of the teacher's sizes, but for what is made cheaper; its weights are random.

    Only Moonshine has a use for `front_end_rank`: the others' convolutions are small.
    """
    if isinstance(teacher, Moonshine):
        return Moonshine(
            dataclasses.replace(
                teacher.config,
                front_end_rank=front_end_rank,
                memory_pool=memory_pool,
                bypass_rank=bypass_rank,
            )
        )
    if isinstance(teacher, MoonshineStreaming):
        return MoonshineStreaming(
            dataclasses.replace(teacher.config, memory_pool=memory_pool, bypass_rank=bypass_rank)
        )
    return Whisper(
        dataclasses.replace(
            teacher.config, pad_to_s=0.0, memory_pool=memory_pool, bypass_rank=bypass_rank
        )
    )


def inherit(student: SpeechModule, state: Mapping[str, Tensor]) -> None:
    """Take over the teacher's parameters; bypasses and the memory's averages are the student's own."""
    own = student.state_dict()
    inherited = {n: v for n, v in state.items() if n in own and n != "decoder.pool_RD"}
    student.load_state_dict({**own, **inherited})


@torch.inference_mode()
def second_convolution(model: Moonshine, samples_S: Tensor) -> Tensor:
    """Give the second convolution's output before its activation, one row a position."""
    kept: list[Tensor] = []
    handle = model.encoder.front_end.conv2.register_forward_hook(
        lambda _module, _inputs, output: kept.append(output[0].T)
    )
    model.encoder.front_end(samples_S[None], torch.tensor([len(samples_S)]), running=False)
    handle.remove()
    return kept[0]


def factorised(state: dict[str, Tensor], outputs_ND: Tensor, rank: int) -> dict[str, Tensor]:
    """Split the second convolution in two through the principal components of its output."""
    name = "encoder.front_end.conv2"
    weight, bias_D = state[f"{name}.weight"], state[f"{name}.bias"]
    mean_D = outputs_ND.mean(0)
    components_DR = torch.linalg.eigh(torch.cov(outputs_ND.T)).eigenvectors[:, -rank:]
    inner = torch.einsum("dr,dik->rik", components_DR, weight)
    kept_bias_D = components_DR @ (components_DR.T @ (bias_D - mean_D)) + mean_D
    return {
        f"{name}_in.weight": inner,
        f"{name}.weight": components_DR.unsqueeze(-1).contiguous(),
        f"{name}.bias": kept_bias_D,
    }


def kept_variance(outputs_ND: Tensor, rank: int) -> float:
    """Share of the variance that the first principal components hold."""
    values_D = torch.linalg.eigvalsh(torch.cov(outputs_ND.T))
    return float(values_D[-rank:].sum() / values_D.sum())


if __name__ == "__main__":
    main()
