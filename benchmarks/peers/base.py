"""What a peer is: a name, its settings, and samples in, text out."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # mono, 16 kHz, in [-1, 1]
Setting = str | int | float | bool


class Peer(Protocol):
    """A recogniser as its makers publish it, with nothing of ours inside."""

    @property
    def name(self) -> str:
        """The name on the command line and in result files."""
        ...

    @property
    def config(self) -> Mapping[str, Setting]:
        """Every setting that could change a word or a second, for the result file."""
        ...

    def transcribe(self, samples: Samples) -> str:
        """Turn one utterance (at least 0.1 s) into its text, as the peer writes it."""
        ...
