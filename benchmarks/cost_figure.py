r"""Draw word error rate against operations and against CPU time: every budget, and static models.

    python -m benchmarks.cost_figure --wer WER*.jsonl --time TIME.json --profile PROFILE.json \
        --peers PEERS.json --peer-times TIMES.json --tokenizer tokenizer.json --out docs/figures/wer_against_cost.svg

Native dev set, full context. Operations of the static models are by the same formula, at their
published sizes, with as many tokens as their own text has (in Moonshine's vocabulary).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.backbones.whisper import Whisper, WhisperConfig
from model_store.depth import DepthPlan, DepthSchedule
from model_store.flops import ModelSizes, decoder_flops, encoder_flops
from model_store.recipes.card import SET_NAMES, Measurements, read_measurements
from model_store.registry.sizes import model_sizes
from model_store.text.tokens import Tokenizer
from model_store.text.wer import total

SAMPLE_RATE_HZ = 16_000
SHORTEST_DRAWN = 1.5
"""Effective layers; below, the error rate is off the figure and stands in the card."""


@dataclass(frozen=True, slots=True)
class Point:
    """One model at one depth."""

    label: str
    group: str
    wer: float
    flops_per_s: float
    cpu_s_per_s: float


def main() -> None:
    """Draw from the command line, and print the points as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wer", type=Path, nargs="+", required=True)
    for name in ("time", "profile", "peers", "peer-times", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    found = read_measurements(
        options.wer, options.time, options.profile, options.peers, options.peer_times
    )
    texts = json.loads(options.peers.read_text(encoding="utf-8"))["utterances"]
    points = [
        *elastic(found),
        *static(found, texts, Tokenizer.from_file(options.tokenizer)),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(points, options.out)
    for point in points:
        beaten = [other.label for other in points if beats(other, point)]
        print(f"{point.group:<8}{point.label:<26}{100 * point.wer:6.1f} %  beaten by {beaten}")


def elastic(found: Measurements) -> list[Point]:
    """The ladder's budgets and the skip-only plans."""
    points: list[Point] = []
    for case in found.cases.values():
        plan = DepthPlan.parse(case["plan"])
        wanted = case["policy"] in {"ladder", "skip"} and case["chunk_frames"] is None
        native = case["weights"] == "trained" and case["corpus"] == "native"
        timed = found.timed.get(case["plan"])
        if wanted and native and timed and plan.effective_layers >= SHORTEST_DRAWN:
            points.append(
                Point(
                    f"{plan.effective_layers:g}",
                    "strides" if case["policy"] == "ladder" else "skips",
                    case["wer"],
                    case["flops_per_s"],
                    timed["cpu_s_per_s"],
                )
            )
    return points


def static(
    found: Measurements, texts: Sequence[dict[str, str | float]], tokenizer: Tokenizer
) -> list[Point]:
    """The published models, as they were measured beside ours."""
    points: list[Point] = []
    native = SET_NAMES["native"]
    for key, row in found.peers.items():
        name, corpus = key.split("/")
        if corpus != native:
            continue
        mine = [t for t in texts if t["peer"] == name and str(t["id"]).startswith(native)]
        sizes = published_sizes(name)
        spent = sum(
            request_flops(sizes, float(t["audio_s"]), 1 + len(tokenizer.encode(str(t["text"]))))
            for t in mine
        )
        audio_s = sum(float(t["audio_s"]) for t in mine)
        wer = total(found.errors[key].values()).rate
        points.append(Point(name, "static", wer, spent / audio_s, row["cpu_s_per_audio_s"]))
    return points


def request_flops(sizes: ModelSizes, audio_s: float, steps: int) -> int:
    """All operations of one request at full depth."""
    num_samples = round(audio_s * SAMPLE_RATE_HZ)
    full = DepthSchedule.constant(DepthPlan.full(sizes.encoder_layers))
    return encoder_flops(sizes, full, num_samples) + decoder_flops(sizes, num_samples, steps)


def published_sizes(name: str) -> ModelSizes:
    """Sizes of a peer, by its name."""
    if name.startswith("moonshine"):
        dim, layers = (416, 8) if "base" in name else (288, 6)
        return model_sizes(
            Moonshine(
                MoonshineConfig(
                    dim=dim,
                    inner_dim=4 * dim,
                    num_heads=8,
                    encoder_layers=layers,
                    decoder_layers=layers,
                    vocabulary=32_768,
                )
            )
        )
    dim, heads, layers = (512, 8, 6) if name.endswith("base") else (384, 6, 4)
    return model_sizes(
        Whisper(
            WhisperConfig(
                dim=dim,
                inner_dim=4 * dim,
                num_heads=heads,
                encoder_layers=layers,
                decoder_layers=layers,
                vocabulary=51_864,
                prompt=(0, 0),
                end_token=1,
            )
        )
    )


def beats(other: Point, point: Point) -> bool:
    """Whether a static model is better on words and on both costs."""
    return (
        other.group == "static"
        and point.group != "static"
        and other.wer <= point.wer
        and other.flops_per_s <= point.flops_per_s
        and other.cpu_s_per_s <= point.cpu_s_per_s
    )


def draw(points: Sequence[Point], out: Path) -> None:
    """Two panels with one scale of error rates."""
    import matplotlib as mpl  # seconds, and only here

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    costs = (
        ("GFLOP for a second of audio", [point.flops_per_s / 1e9 for point in points]),
        ("CPU seconds for a second of audio, one thread", [p.cpu_s_per_s for p in points]),
    )
    styles = {"strides": ("o-", "#1b6ca8"), "skips": ("s--", "#b5651d"), "static": ("^", "#555555")}
    for panel, (title, cost) in zip(panels, costs, strict=True):
        for group, (marker, colour) in styles.items():
            of_group = sorted(
                (c, 100 * p.wer, p.label)
                for c, p in zip(cost, points, strict=True)
                if p.group == group
            )
            if not of_group:  # plans that were not timed are not in the legend either
                continue
            panel.plot(
                [c for c, _, _ in of_group], [w for _, w, _ in of_group], marker,
                color=colour, label=group,
            )  # fmt: skip
            for c, w, label in of_group:
                panel.annotate(label, (c, w), textcoords="offset points", xytext=(4, 4), fontsize=7)
        panel.set_xlabel(title)
        panel.set_xscale("log")
        panel.grid(alpha=0.3)
        panel.set_ylim(0, 60)
    panels[0].set_ylabel("word error rate, %")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main()
