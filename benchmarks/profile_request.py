"""Where one request's CPU time goes, stage by stage, and what the dial can bend of it.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.profile_request --model NAME --clip FILE

Each plan of the ladder runs on the clip, one thread. For each stage: CPU seconds for a second of
audio (median, low, high) and estimated operations. The elastic share s is the layers' part of the
full plan's cost; a plan whose layers cost q of the full plan's can leave no less than
1 - s (1 - q) of it, by time and by operations.
"""

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.hardware import read_environment
from benchmarks.record import Run, Spread, document
from model_store.audio import SAMPLE_RATE_HZ, SileroGate, cut_windows, open_audio, read_audio
from model_store.backbones.moonshine import Moonshine
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule
from model_store.flops import decoder_flops, encoder_flops, memory_flops
from model_store.registry import Recogniser, load

Samples = npt.NDArray[np.float32]
STAGES = ("upload", "front_end", "layers", "memory", "decoder")


def main() -> None:
    """Profile from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model)
    encoded_clip = options.clip.read_bytes()
    samples = tiled(read_audio(options.clip), options.seconds)
    upload_s = measured(lambda: upload(encoded_clip), options.repeats)
    upload_s = [spent / (len(read_audio(options.clip)) / SAMPLE_RATE_HZ) for spent in upload_s]
    plans = [*model.catalogue.plans("ladder"), *model.catalogue.plans("skip")[1:]]
    rows = [profile(model, samples, plan, upload_s, options.repeats) for plan in plans]
    rows = [row | worth(row, rows[0]) for row in rows]
    for row in rows:
        print(
            f"{row['plan']:<18}encoder {row['encoder_time_ratio']:.2f} of full by time, "
            f"{row['encoder_flops_ratio']:.2f} by FLOPs; whole request {row['time_ratio']:.2f}, "
            f"bound {row['time_bound']:.2f}"
        )
    run = Run(
        benchmark="profile",
        started=datetime.now(UTC),
        environment=read_environment(),
        config={"model": options.model, "seconds": options.seconds, "threads": 1},
        warm_up=1,
        repeats=options.repeats,
    )
    print(json.dumps(document(run, rows)))


def upload(content: bytes) -> int:
    """Decode a file and find its speech, as the service does with an upload."""
    windows = cut_windows(open_audio(io.BytesIO(content), max_s=3600.0), gate=SileroGate())
    return sum(len(window.samples) for window in windows)


def profile(
    model: Recogniser,
    samples: Samples,
    plan: DepthPlan,
    upload_s: Sequence[float],
    repeats: int,
) -> dict[str, object]:
    """Measure the stages of one plan."""
    module = model.module
    assert isinstance(module, Moonshine), "the stages are Moonshine's"
    schedule = DepthSchedule.constant(plan)
    samples_BS = torch.from_numpy(samples)[None]
    num_samples_B = torch.tensor([len(samples)])
    limit = [int(6.5 * len(samples) / SAMPLE_RATE_HZ)]
    seconds = len(samples) / SAMPLE_RATE_HZ
    encoder, decoder = module.encoder, module.decoder
    with torch.inference_mode():
        x_BTD = encoder.front_end(samples_BS, num_samples_B, running=False)
        encoded = module.encode(samples_BS, num_samples_B, schedule)
        pooled = decoder.pool(encoded)
        steps = decode_greedy(module, encoded, limit, module.config.end_token)[0].steps
        spent = {
            "front_end": measured(
                lambda: encoder.front_end(samples_BS, num_samples_B, running=False), repeats
            ),
            "layers": measured(lambda: encoder.norm(encoder.stack(x_BTD, None, schedule)), repeats),
            "memory": measured(lambda: decoder.begin(pooled, limit[0] + 1), repeats),
        }
        whole_decoder = measured(
            lambda: decode_greedy(module, encoded, limit, module.config.end_token), repeats
        )
    memory_s = Spread.of(spent["memory"]).median
    spent["decoder"] = [max(0.0, value - memory_s) for value in whole_decoder]
    times = {name: Spread.of([v / seconds for v in values]) for name, values in spent.items()}
    times = {"upload": Spread.of(upload_s), **times}
    in_encoder = encoder_flops(model.sizes, schedule, len(samples))
    front_end = model.sizes.front_end_flops(len(samples))
    memory = memory_flops(model.sizes, len(samples))
    flops = {
        "front_end": front_end / seconds,
        "layers": (in_encoder - front_end) / seconds,
        "memory": memory / seconds,
        "decoder": (decoder_flops(model.sizes, len(samples), steps) - memory) / seconds,
    }
    return {
        "plan": str(plan),
        "effective_layers": plan.effective_layers,
        "skips": plan.skips,
        "cpu_s_per_s": {name: asdict(times[name]) for name in STAGES},
        "flops_per_s": flops,
        "decoder_steps": steps,
    }


def worth(row: dict[str, object], full: dict[str, object]) -> dict[str, float]:
    """Compare a plan with the full one: ratios, and the bound that the elastic share sets."""
    times, full_times = _medians(row), _medians(full)
    flops, full_flops = _flops(row), _flops(full)
    share_time = full_times["layers"] / sum(full_times.values())
    share_flops = full_flops["layers"] / sum(full_flops.values())
    q_time, q_flops = (
        times["layers"] / full_times["layers"],
        flops["layers"] / full_flops["layers"],
    )
    encoder = ("front_end", "layers")
    return {
        "elastic_share_time": share_time,
        "elastic_share_flops": share_flops,
        "time_bound": 1 - share_time * (1 - q_time),
        "flops_bound": 1 - share_flops * (1 - q_flops),
        "time_ratio": sum(times.values()) / sum(full_times.values()),
        "flops_ratio": sum(flops.values()) / sum(full_flops.values()),
        "encoder_time_ratio": sum(times[n] for n in encoder) / sum(full_times[n] for n in encoder),
        "encoder_flops_ratio": sum(flops[n] for n in encoder) / sum(full_flops[n] for n in encoder),
    }


def measured(work: Callable[[], object], repeats: int) -> list[float]:
    """CPU seconds of each repeat, after one that is not counted."""
    work()
    spent: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return spent


def tiled(samples: Samples, seconds: float) -> Samples:
    """Repeat a clip up to a length."""
    length = round(seconds * SAMPLE_RATE_HZ)
    return np.tile(samples, -(-length // len(samples)))[:length]


def _medians(row: dict[str, object]) -> dict[str, float]:
    times = row["cpu_s_per_s"]
    assert isinstance(times, dict)
    return {str(name): float(spread["median"]) for name, spread in times.items()}


def _flops(row: dict[str, object]) -> dict[str, float]:
    flops = row["flops_per_s"]
    assert isinstance(flops, dict)
    return {str(name): float(value) for name, value in flops.items()}


if __name__ == "__main__":
    main()
