"""What the frozen full-depth teacher made of a corpus, kept on disk so that no step runs it.

Per utterance: the samples both hear (int16), the teacher's encoder output, its text's tokens and
where each ends in the audio, and its likeliest next tokens with their log-probabilities.

Dimensions: S = samples, T = encoder frames, D = channels, U = predicted tokens (the end token is
the last), K = likeliest tokens kept.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TOP_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Reference:
    """One utterance as the teacher heard it.

    Args:
        id: of the utterance.
        samples_S: int16, silence before and after included.
        states_TD: the teacher's encoder output, bfloat16.
        token_U: predicted tokens, the end token last.
        end_s_U: where each ends in the audio; the end token's is the utterance's end.
        top_token_UK, top_logp_UK: the teacher's likeliest tokens at each place.
    """

    id: str
    samples_S: Tensor
    states_TD: Tensor
    token_U: Tensor
    end_s_U: Tensor
    top_token_UK: Tensor
    top_logp_UK: Tensor

    @property
    def num_samples(self) -> int:
        """Samples, silence included."""
        return self.samples_S.shape[0]


_FIELDS = ("samples_S", "states_TD", "token_U", "end_s_U", "top_token_UK", "top_logp_UK")


def save_references(references: list[Reference], path: Path) -> None:
    """Write a corpus as flat tensors; `path` gets `.safetensors` and `.json`."""
    flat = {name: torch.cat([getattr(r, name) for r in references]) for name in _FIELDS}
    save_file(flat, path.with_suffix(".safetensors"))
    lengths = [
        {"id": r.id, "S": len(r.samples_S), "T": len(r.states_TD), "U": len(r.token_U)}
        for r in references
    ]
    path.with_suffix(".json").write_text(json.dumps(lengths), encoding="utf-8")


def load_references(path: Path) -> list[Reference]:
    """Read what `save_references` wrote."""
    flat = load_file(path.with_suffix(".safetensors"))
    lengths = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    parts = {
        name: flat[name].split([item[name.split("_")[-1][0]] for item in lengths])
        for name in _FIELDS
    }
    return [
        Reference(item["id"], *(parts[name][index] for name in _FIELDS))
        for index, item in enumerate(lengths)
    ]
