"""What a decoder wrote, before it is words; needs no torch.

Dimensions: U = tokens, H = watched heads, P = pooled frames.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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

    def take(self, token: int, logprob: float, end_token: int) -> bool:
        """Count a step and keep its token; the end token ends it.

        Returns:
            whether the transcript goes on.
        """
        self.steps += 1
        if token == end_token:
            self.ended, self.end_logprob = True, logprob
            return False
        self.tokens.append(token)
        self.logprobs.append(logprob)
        return True
