"""Greedy decoding with caches, batched; finished transcripts leave the batch.

Dimensions: B = transcripts, U = tokens, V = vocabulary, H = watched heads, P = pooled frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_store.backbones.base import DecoderCache, EncoderStates, SpeechModel

Array = npt.NDArray[np.float32]


@dataclass(slots=True)
class Hypothesis:
    """What was decoded from one utterance.

    Args:
        tokens: without prompt and end token.
        logprobs: natural logarithm of each token's probability.
        end_logprob: the end token's, 0 when it never came.
        ended: whether the end token came before the limit.
        steps: decoder steps taken, prompt and end token included.
        weights_HUP: cross-attention weights of the watched heads, by token; the end token's come
            last, where it was given.
    """

    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    end_logprob: float = 0.0
    ended: bool = False
    steps: int = 0
    weights_HUP: Array | None = None

    @property
    def avg_logprob(self) -> float:
        """Mean over the tokens and the end token, as Whisper defines it."""
        return (sum(self.logprobs) + self.end_logprob) / (len(self.tokens) + 1)


@torch.inference_mode()
def decode_greedy(
    model: SpeechModel,
    encoded: EncoderStates,
    max_tokens: Sequence[int],
    end_token: int,
    watched: Mapping[int, Sequence[int]] | None = None,
) -> list[Hypothesis]:
    """Take the likeliest token until the end token or the limit.

    Args:
        model: encoder and decoder.
        encoded: of a batch.
        max_tokens: limit of each transcript, at least 1.
        end_token: stops a transcript.
        watched: heads by decoder layer whose cross-attention is returned.
    """
    decoder = model.decoder
    pooled = decoder.pool(encoded)
    batch = len(max_tokens)
    cache = decoder.begin(pooled, len(model.prompt) + max(max_tokens))
    cache.watched = {layer: list(heads) for layer, heads in (watched or {}).items()}
    done = [Hypothesis() for _ in range(batch)]
    rows = list(range(batch))
    kept_weights: list[list[Array]] = [[] for _ in range(batch)]
    token_BU = torch.tensor(model.prompt, device=encoded.states_BTD.device).expand(batch, -1)
    while rows:
        logp_BV = decoder.logits(decoder(token_BU, cache)[:, -1:])[:, 0].float().log_softmax(-1)
        best_B = logp_BV.max(-1)
        weights_BHP = _latest_weights(cache)
        alive: list[int] = []
        for place, (row, token, logprob) in enumerate(
            zip(rows, best_B.indices.tolist(), best_B.values.tolist(), strict=True)
        ):
            hypothesis = done[row]
            hypothesis.steps += 1
            if weights_BHP is not None:
                kept_weights[row].append(weights_BHP[place])
            if token == end_token:
                hypothesis.ended, hypothesis.end_logprob = True, logprob
                continue
            hypothesis.tokens.append(token)
            hypothesis.logprobs.append(logprob)
            if len(hypothesis.tokens) < max_tokens[row]:
                alive.append(place)
        token_BU = best_B.indices[:, None]
        if len(alive) < len(rows):
            keep_B = torch.tensor(alive, dtype=torch.long, device=token_BU.device)
            cache.keep(keep_B)
            token_BU = token_BU[keep_B]
            rows = [rows[place] for place in alive]
    for row, weights in enumerate(kept_weights):
        if weights:
            valid = int(pooled.num_rows_B[row])
            done[row].weights_HUP = np.stack(weights, axis=1)[:, :, :valid]
    return done


def _latest_weights(cache: DecoderCache) -> Array | None:
    if not cache.watched:
        return None
    weights: list[Tensor] = [cache.weights_BHUP[layer][:, :, -1] for layer in sorted(cache.watched)]
    return torch.cat(weights, dim=1).float().cpu().numpy()
