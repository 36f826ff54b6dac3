"""Greedy decoding with caches, batched; finished transcripts leave the batch.

Dimensions: B = transcripts, U = tokens, V = vocabulary, H = watched heads, P = pooled frames.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_store.backbones.base import DecoderCache, EncoderStates, SpeechModel
from model_store.decoding.hotwords import Floats, Hotwords, Ints
from model_store.decoding.hypothesis import Hypothesis

Array = npt.NDArray[np.float32]


@torch.inference_mode()
def decode_greedy(
    model: SpeechModel,
    encoded: EncoderStates,
    max_tokens: Sequence[int],
    end_token: int,
    watched: Mapping[int, Sequence[int]] | None = None,
    hotwords: Hotwords | None = None,
) -> list[Hypothesis]:
    """Take the likeliest token until the end token or the limit.

    Args:
        model: encoder and decoder.
        encoded: of a batch.
        max_tokens: limit of each transcript, at least 1.
        end_token: stops a transcript.
        watched: heads by decoder layer whose cross-attention is returned.
        hotwords: whose tokens have a bonus.
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
        tokens, logprobs = _chosen(logp_BV, [done[row].tokens for row in rows], hotwords, end_token)
        weights_BHP = _latest_weights(cache)
        alive: list[int] = []
        for place, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True)):
            hypothesis = done[row]
            if weights_BHP is not None:
                kept_weights[row].append(weights_BHP[place])
            goes_on = hypothesis.take(token, logprob, end_token)
            if goes_on and len(hypothesis.tokens) < max_tokens[row]:
                alive.append(place)
        token_BU = torch.tensor(tokens, device=logp_BV.device)[:, None]
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


def logprobs_of(logp_V: Tensor) -> Callable[[Ints], Floats]:
    """Give what tells hotwords the log probabilities of a few tokens."""
    return lambda token_C: logp_V[torch.from_numpy(token_C).to(logp_V.device)].float().cpu().numpy()


def _chosen(
    logp_BV: Tensor,
    written: Sequence[Sequence[int]],
    hotwords: Hotwords | None,
    end_token: int,
) -> tuple[list[int], list[float]]:
    best_B = logp_BV.max(-1)
    tokens: list[int] = best_B.indices.tolist()
    logprobs: list[float] = best_B.values.tolist()
    if hotwords is not None:
        for place, before in enumerate(written):
            tokens[place], logprobs[place] = hotwords.choose(
                before, (tokens[place], logprobs[place]), logprobs_of(logp_BV[place]), end_token
            )
    return tokens, logprobs


def _latest_weights(cache: DecoderCache) -> Array | None:
    if not cache.watched:
        return None
    weights: list[Tensor] = [cache.weights_BHUP[layer][:, :, -1] for layer in sorted(cache.watched)]
    return torch.cat(weights, dim=1).float().cpu().numpy()
