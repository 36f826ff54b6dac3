"""Published Moonshine, int8 ONNX, greedy: the static model that every budget is held against."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from benchmarks.peers.base import Samples, Setting

SAMPLE_RATE_HZ = 16_000
START_TOKEN = 1  # `decoder_start_token_id` of both sizes
END_TOKEN = 2  # `eos_token_id` of both sizes


@dataclass(frozen=True, slots=True)
class MoonshineConfig:
    """How the greedy loop runs.

    `tokens_per_s` bounds the text by the audio's length, against endless repetition. 6.5 is what
    the model card of `UsefulSensors/moonshine-base` prescribes for English (its limit counts the
    start token too). The makers differ among themselves: their JavaScript allows 6 a second,
    `useful-moonshine-onnx` 20251121 a flat 192 tokens.
    """

    tokens_per_s: float = 6.5
    threads: int = 1

    def max_tokens(self, num_samples: int) -> int:
        """Tokens that may follow the start token, at least one."""
        return max(1, int(num_samples / SAMPLE_RATE_HZ * self.tokens_per_s) - 1)


class MoonshineOnnx:
    """One Moonshine size on ONNX Runtime's CPU provider.

    Tensors stay ONNX Runtime values between steps: handing the caches over as arrays would copy
    them twice a token and make the peer look slower than it is.

    Source: the loop of `useful-moonshine-onnx` 20251121, `model.py` (MIT).
    """

    def __init__(
        self, name: str, encoder: Path, decoder: Path, tokenizer: Path, config: MoonshineConfig
    ) -> None:
        self._name = name
        self._config = config
        self._encoder = _session(encoder, config.threads)
        self._decoder = _session(decoder, config.threads)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._empty_caches = {
            node.name: _value(np.zeros((0, node.shape[1], 1, node.shape[3]), dtype=np.float32))
            for node in self._decoder.get_inputs()
            if node.name.startswith("past_key_values.")
        }
        self._outputs: list[str] = [node.name for node in self._decoder.get_outputs()]

    @property
    def name(self) -> str:
        """The name on the command line and in result files."""
        return self._name

    @property
    def config(self) -> Mapping[str, Setting]:
        """Loop settings and the runtime that ran them."""
        return {"engine": "onnxruntime", "decoding": "greedy", **asdict(self._config)}

    def transcribe(self, samples: Samples) -> str:
        """Encode once, then take the likeliest token until the end token or the limit."""
        tokens = self.decode(samples)
        return self._tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def decode(self, samples: Samples) -> list[int]:
        """Return the tokens without start and end token."""
        frames = self._encoder.run_with_ort_values(
            ["last_hidden_state"], {"input_values": _value(samples[np.newaxis, :])}
        )[0]
        feeds = {"encoder_hidden_states": frames, **self._empty_caches}
        tokens: list[int] = []
        token = START_TOKEN
        for step in range(self._config.max_tokens(samples.size)):
            feeds["input_ids"] = _value(np.array([[token]], dtype=np.int64))
            feeds["use_cache_branch"] = _value(np.array([step > 0]))
            values = self._decoder.run_with_ort_values(self._outputs, feeds)
            token = int(values[0].numpy()[0, -1].argmax())
            if token == END_TOKEN:
                break
            tokens.append(token)
            feeds.update(_caches(self._outputs, values, first=step == 0))
        return tokens


def _caches(names: list[str], values: list[Any], *, first: bool) -> dict[str, Any]:
    # Cross-attention caches are filled by the first step alone; later steps return empty ones.
    return {
        name.replace("present.", "past_key_values."): value
        for name, value in zip(names, values, strict=True)
        if name.startswith("present.") and (first or ".decoder." in name)
    }


def _session(path: Path, threads: int) -> Any:  # noqa: ANN401 - the runtime ships no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _value(array: np.ndarray[Any, np.dtype[Any]]) -> Any:  # noqa: ANN401 - as above
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
