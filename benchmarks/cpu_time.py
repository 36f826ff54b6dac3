"""CPU time of a file, by engine and budget, beside published recognisers in the same run.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.cpu_time --clip FILE... --peers CACHE > cpu.json

Every recogniser hears the same samples, one thread, one utterance at a time, from samples in memory
to text. They are clips one after the other, cut to a length: name enough of them, since a sentence
said again and again is heard twice by whoever guards against loops. Rounds go over all of them in turn, so that a machine which is not
quiet disturbs each alike. A figure is user CPU seconds of the process for a second of audio:
median, lowest and highest of the rounds. The rest of the machine counts least in the lowest.
"""

import argparse
import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.hardware import read_environment
from benchmarks.peers.catalogue import PEERS, build
from benchmarks.record import Run, Spread, document
from model_store.audio import SAMPLE_RATE_HZ, read_audio
from model_store.depth import DepthPlan
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.onnx.processor import read_processor
from service.engine.onnx.recogniser import OnnxRecogniser
from service.engine.torch_engine import LoadedModel

Samples = npt.NDArray[np.float32]
Hear = Callable[[Samples], str]
DEFAULT_PEERS = (
    "faster-whisper-base",
    "faster-whisper-tiny.en",
    "moonshine-base-onnx",
    "moonshine-tiny-onnx",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parse(arguments)
    samples = joined([read_audio(path) for path in options.clip], options.seconds)
    heard = dict(recognisers(options))
    spent: dict[str, list[float]] = {name: [] for name in heard}
    texts = {name: hear(samples) for name, hear in heard.items()}
    for _ in range(options.repeats):
        for name, hear in heard.items():
            spent[name].append(user_seconds(hear, samples) / options.seconds)
    rows = [
        {"recogniser": name, "cpu_s_per_s": asdict(Spread.of(spent[name])), "text": texts[name]}
        for name in heard
    ]
    run = Run(
        benchmark="cpu-time",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={
            "model": options.model,
            "seconds": options.seconds,
            "threads": 1,
            "clock": "user CPU time of the process",
        },
        warm_up=1,
        repeats=options.repeats,
    )
    print(json.dumps(document(run, rows)))


def recognisers(options: argparse.Namespace) -> list[tuple[str, Hear]]:
    """Load all that are asked for."""
    numerics = read_processor().numerics
    ours = OnnxRecogniser(open_checkpoint(options.model), options.engine_cache, numerics, 1)
    found = [(f"onnx {numerics} {plan}", _at(ours, plan)) for plan in ours.catalogue.offered]
    if options.torch:
        import torch  # seconds, and only where it is compared with

        from model_store.registry import load

        torch.set_num_threads(1)
        model = load(options.model)
        offered = model.catalogue.offered
        few = (offered[0], offered[len(offered) // 2], offered[-1])
        found += [(f"torch {model.precision} {plan}", _at(model, plan)) for plan in few]
    if options.peers:
        found += [(name, build(name, options.peers).transcribe) for name in options.peer]
    return found


def user_seconds(hear: Hear, samples: Samples) -> float:
    """User CPU time of all threads while a recogniser hears the samples."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    hear(samples)
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


def joined(clips: Sequence[Samples], seconds: float) -> Samples:
    """Put clips one after the other and cut them to a length.

    Raises:
        SystemExit: they are shorter than that.
    """
    samples = np.concatenate(clips)
    if len(samples) < round(seconds * SAMPLE_RATE_HZ):
        got_s = len(samples) / SAMPLE_RATE_HZ
        raise SystemExit(f"expected clips of {seconds:g} s or more together, got {got_s:.1f} s")
    return samples[: round(seconds * SAMPLE_RATE_HZ)]


def _at(model: LoadedModel, plan: DepthPlan) -> Hear:
    def hear(samples: Samples) -> str:
        (found,) = model.transcribe_windows([samples], plan, words=True)
        return found.text

    return hear


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="moonshine-base-elastic")
    parser.add_argument("--engine-cache", type=Path, default=Path.home() / ".cache/elastic-asr")
    parser.add_argument("--clip", type=Path, required=True, nargs="+")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--torch", action="store_true", help="also the engine on torch")
    parser.add_argument("--peers", type=Path, help="as given to peers.fetch")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="default: four")
    options = parser.parse_args(arguments)
    options.peer = options.peer or list(DEFAULT_PEERS)
    return options


if __name__ == "__main__":
    main()
