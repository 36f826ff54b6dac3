r"""Write a checkpoint's card from measurements alone: tables, intervals, costs, a figure's data.

    python -m model_store.recipes.card --model DIR --wer WER*.jsonl --time TIME.json \
        --profile PROFILE.json --peers PEERS.json --peer-times TIMES.json \
        --run RUN_FOLDER --notes NOTES.md [--conditions RESULT.json] [--confidence RESULT.json]

Writes `CARD.md` (for people) and `card.json` (for the service and the benchmarks) into DIR.
Every figure comes from the files named; the notes are the only prose that is put in as it is.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store.checkpoint import load_catalogue
from model_store.depth import DepthPlan
from model_store.recipes.card_words import table, word_sections
from model_store.text.wer import (
    WordErrors,
    bootstrap_interval,
    normalised_word_errors,
    paired_ratio_interval,
    total,
)

YARDSTICK = "moonshine-base-onnx"
"""Published int8 weights of Moonshine base; its graph repacked to be fast (see benchmarks/README.md)."""
SET_NAMES = {
    "native": "commonvoice-dev",
    "held_out": "kathleen",
    "non_native": "speechocean762-test",
}
Rows = dict[str, dict[str, WordErrors]]
"""Case or peer and set -> utterance -> errors."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything the card is written from."""

    cases: Mapping[str, dict[str, Any]]  # Any: one line of the log each
    errors: Rows
    peers: Mapping[str, dict[str, Any]]
    timed: Mapping[str, dict[str, Any]]
    profiled: Mapping[str, dict[str, Any]]


def main() -> None:
    """Write the card from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--wer", type=Path, nargs="+", required=True)
    for name in ("time", "profile", "peers", "peer-times", "run", "notes"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("conditions", "confidence"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    found = read_measurements(
        options.wer, options.time, options.profile, options.peers, options.peer_times
    )
    config = json.loads((options.model / "config.json").read_text(encoding="utf-8"))
    catalogue = load_catalogue(options.model, config["encoder_layers"])
    sections = [
        f"# {options.model.name}",
        options.notes.read_text(encoding="utf-8").strip(),
        training_section(options.run),
        "## Word error rate by depth\n\n" + ladder_table(found, catalogue.plans("ladder")),
        "## Skipped layers, the papers' way\n\n" + skip_table(found, catalogue.plans("skip")),
        "## Under chunk masks\n\n" + chunk_table(found, catalogue.plans("ladder")),
        "## Policies at equal effective layers\n\n" + policy_table(found, catalogue.num_layers),
        *word_sections(options.conditions, options.confidence),
        "## Static models, same utterances\n\n" + peer_table(found),
        "## What the dial is worth\n\n" + worth_table(found),
    ]
    (options.model / "CARD.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    (options.model / "card.json").write_text(
        json.dumps(card_values(found, catalogue.plans("ladder")), indent=1) + "\n", encoding="utf-8"
    )


def read_measurements(
    wer: Sequence[Path], time: Path, profile: Path, peers: Path, peer_times: Path
) -> Measurements:
    """Read the logs that the measuring programs wrote.

    Args:
        wer: lines of `evaluate wer`.
        time: of `evaluate time`, or of `benchmarks.cpu_time`: the int8 engine's.
        profile: of `benchmarks.profile_request`.
        peers: texts of the static models over all sets.
        peer_times: their CPU time on the utterances that `time` ran over, in the same run.
    """
    cases: dict[str, dict[str, Any]] = {}
    errors: Rows = {}
    for log in wer:
        for text in log.read_text(encoding="utf-8").splitlines():
            case = json.loads(text)
            cases[case["key"]] = case
            errors[case["key"]] = {
                name: WordErrors(**item["errors"]) for name, item in case["utterances"].items()
            }
    measured = json.loads(peers.read_text(encoding="utf-8"))
    for item in measured["utterances"]:
        key = f"{item['peer']}/{item['id'].split('/')[0]}"
        errors.setdefault(key, {})[item["id"]] = normalised_word_errors(
            item["reference"], item["text"]
        )
    return Measurements(
        cases,
        errors,
        peer_costs(json.loads(peer_times.read_text(encoding="utf-8"))),
        plan_costs(json.loads(time.read_text(encoding="utf-8"))),
        {
            row["plan"]: row
            for row in json.loads(profile.read_text(encoding="utf-8").splitlines()[-1])["results"]
        },
    )


def plan_costs(measured: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give CPU seconds by plan: of `evaluate time`, or the int8 engine's of `benchmarks.cpu_time`."""
    if "plans" in measured:
        return {row["plan"]: row for row in measured["plans"]}
    ours = [row for row in measured["results"] if row["recogniser"].startswith("onnx ")]
    return {
        row["recogniser"].split()[-1]: {
            "cpu_s_per_s": row["cpu_s_per_s"]["median"],
            "low": row["cpu_s_per_s"]["low"],
            "high": row["cpu_s_per_s"]["high"],
        }
        for row in ours
    }


def peer_costs(measured: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give what static models cost, by name and set: of `benchmarks.peers.run`, or of `benchmarks.cpu_time`."""
    if "recogniser" not in measured["results"][0]:
        return {f"{row['peer']}/{row['set']}": row for row in measured["results"]}
    return {
        f"{row['recogniser']}/{SET_NAMES['native']}": {
            "cpu_s_per_audio_s": row["cpu_s_per_s"]["median"]
        }
        for row in measured["results"]
        if " " not in row["recogniser"]  # ours have their plan in the name
    }


def ladder_table(found: Measurements, plans: Iterable[DepthPlan]) -> str:
    """Every budget: native, held-out voice, non-native, untrained, against the yardstick, cost."""
    rows: list[list[str]] = []
    for plan in plans:
        key = f"trained/ladder/{plan}/full"
        rows.append(
            [
                f"{plan.effective_layers:g}",
                f"`{plan}`",
                rate(found, f"{key}/native"),
                against_yardstick(found, f"{key}/native", "native"),
                rate(found, f"untrained/ladder/{plan}/full/native"),
                rate(found, f"{key}/held_out"),
                rate(found, f"{key}/non_native"),
                operations(found, f"{key}/native"),
                cpu(found, plan),
            ]
        )
    header = [
        "layers", "plan", "native WER % (95 %)", "over Moonshine base (95 %)", "untrained",
        "held-out voice", "non-native", "GFLOP per s (encoder)", "CPU s per s",
    ]  # fmt: skip
    return table(header, rows)


def skip_table(found: Measurements, plans: Iterable[DepthPlan]) -> str:
    """Every budget of the best plans that only skip."""
    rows: list[list[str]] = []
    for plan in plans:
        policy = "skip" if plan.skips else "ladder"
        key = f"trained/{policy}/{plan}"
        rows.append(
            [
                f"{plan.effective_layers:g}",
                f"`{plan}`",
                rate(found, f"{key}/full/native"),
                against_yardstick(found, f"{key}/full/native", "native"),
                rate(found, f"untrained/{policy}/{plan}/full/native"),
                rate(found, f"{key}/24/native"),
                rate(found, f"{key}/full/held_out"),
                operations(found, f"{key}/full/native"),
                cpu(found, plan),
            ]
        )
    header = [
        "layers", "plan", "native WER % (95 %)", "over Moonshine base (95 %)", "untrained",
        "24-frame chunks", "held-out voice", "GFLOP per s (encoder)", "CPU s per s",
    ]  # fmt: skip
    return table(header, rows)


def chunk_table(found: Measurements, plans: Iterable[DepthPlan]) -> str:
    """Offline decoding over chunk-masked encoders; a stream's own figures are measured apart."""
    rows: list[list[str]] = []
    for plan in plans:
        key = f"trained/ladder/{plan}"
        rows.append(
            [
                f"{plan.effective_layers:g}",
                rate(found, f"{key}/full/native"),
                *(rate(found, f"{key}/{chunk}/native") for chunk in (16, 24, 48)),
                ratio(found, f"{key}/24/native", f"{key}/full/native"),
                rate(found, f"untrained/ladder/{plan}/24/native"),
                rate(found, f"{key}/24/held_out"),
                rate(found, f"{key}/24/non_native"),
            ]
        )
    header = [
        "layers", "full context", "16 frames", "24 frames", "48 frames",
        "24 over full (95 %)", "24, untrained", "24, held-out voice", "24, non-native",
    ]  # fmt: skip
    prose = (
        "WER % of an offline decode over chunk masks (24 frames = 0.576 s), native dev set. "
        "These are not streaming figures: a stream decodes as it goes.\n\n"
    )
    return prose + table(header, rows)


def policy_table(found: Measurements, num_layers: int) -> str:
    """Policies side by side where their effective layers are equal."""
    by_layers: dict[float, dict[str, str]] = {}
    for key, case in found.cases.items():
        if case["weights"] == "trained" and key.endswith("/full/native"):
            layers = DepthPlan.parse(case["plan"]).effective_layers
            value = f"{100 * case['wer']:.1f} @ {case['encoder_flops_per_s'] / 1e9:.2f}"
            by_layers.setdefault(layers, {})[case["policy"]] = value
    policies = ["ladder", "uniform", "skip", "first-k", "every-other", "random-k"]
    full = by_layers.get(float(num_layers), {}).get("ladder", "")
    rows = [
        [
            f"{layers:g}",
            *(cells.get(policy, full if layers == num_layers else "") for policy in policies),
        ]
        for layers, cells in sorted(by_layers.items(), reverse=True)
    ]
    prose = "Native dev set, full context: WER % @ encoder GFLOP for a second of audio.\n\n"
    return prose + table(["layers", *policies], rows)


def peer_table(found: Measurements) -> str:
    """Published static models."""
    rows: list[list[str]] = []
    for name in sorted({key.split("/")[0] for key in found.errors if key.count("/") == 1}):
        cells = [rate(found, f"{name}/{corpus}") for corpus in SET_NAMES.values()]
        cost = found.peers.get(f"{name}/commonvoice-dev")
        rows.append([name, *cells, f"{cost['cpu_s_per_audio_s']:.4f}" if cost else ""])
    prose = "CPU time from one run with ours; texts from other runs of the same day.\n\n"
    return prose + table(
        ["model", "native WER % (95 %)", "held-out voice", "non-native", "CPU s per s"], rows
    )


def worth_table(found: Measurements) -> str:
    """Elastic share and bounds of each profiled plan."""
    rows = [
        [
            f"{row['effective_layers']:g}",
            f"`{plan}`",
            *(
                f"{row[name]:.2f}"
                for name in (
                    "encoder_flops_ratio",
                    "encoder_time_ratio",
                    "flops_ratio",
                    "flops_bound",
                    "time_ratio",
                    "time_bound",
                )
            ),
        ]
        for plan, row in found.profiled.items()
    ]
    first = next(iter(found.profiled.values()))
    stages = "".join(
        f"| {name.replace('_', ' ')} | {1000 * first['cpu_s_per_s'][name]['median']:.2f} "
        f"| {first['flops_per_s'].get(name, 0) / 1e9:.3f} |\n"
        for name in first["cpu_s_per_s"]
    )
    prose = (
        f"A 10 s clip, one thread. Elastic share s of a request at full depth: "
        f"{first['elastic_share_time']:.2f} by time, {first['elastic_share_flops']:.2f} by FLOPs. "
        "No plan can leave less than 1 - s (1 - q) of a request, q = its layers' cost over the "
        "full plan's.\n\n"
        "| stage at full depth | CPU ms per s | GFLOP per s |\n|---|---|---|\n" + stages + "\n"
    )
    header = [
        "layers", "plan", "encoder FLOPs", "encoder time", "request FLOPs", "bound",
        "request time", "bound",
    ]  # fmt: skip
    return prose + table(header, rows)


def training_section(run: Path) -> str:
    """What the log of the run says: steps, audio, time, and the losses at the end."""
    lines = [json.loads(text) for text in (run / "log.jsonl").read_text("utf-8").splitlines()]
    heard = {line["step"]: line for line in lines}
    audio_h = sum(line["audio_s"] for line in heard.values()) / 3600
    last = heard[max(heard)]
    by_plan = "".join(
        f"| `{plan}` | {loss:.3f} |\n" for plan, loss in sorted(last["by_plan"].items())
    )
    return (
        "## Training\n\n"
        f"{last['step']} steps, {audio_h:.1f} hours of audio seen, "
        f"{last['trained_s'] / 3600:.2f} hours of computing. The recipe is "
        "`model_store/recipes/runs/moonshine-base.toml`. Losses over the last steps: "
        f"features {last['features']:.3f}, KL {last['kl']:.3f} nats a token, "
        f"cross-entropy {last['task']:.3f}.\n\n| plan | loss |\n|---|---|\n" + by_plan
    ).strip()


def card_values(found: Measurements, plans: Iterable[DepthPlan]) -> dict[str, Any]:
    """What programs read: word error rates of the ladder on the native set, costs."""
    budgets: list[dict[str, Any]] = []
    for plan in plans:
        key = f"trained/ladder/{plan}/full/native"
        errors = list(found.errors.get(key, {}).values())
        case = found.cases.get(key)
        if not errors or case is None:
            continue
        low, high = bootstrap_interval(errors)
        budgets.append(
            {
                "plan": str(plan),
                "effective_layers": plan.effective_layers,
                "drop": plan.drop,
                "wer": total(errors).rate,
                "wer_low": low,
                "wer_high": high,
                "wer_by_set": {
                    SET_NAMES[corpus]: total(
                        found.errors[f"trained/ladder/{plan}/full/{corpus}"].values()
                    ).rate
                    for corpus in SET_NAMES
                    if f"trained/ladder/{plan}/full/{corpus}" in found.errors
                },
                "flops_per_s": case["flops_per_s"],
                "encoder_flops_per_s": case["encoder_flops_per_s"],
                "cpu_s_per_s": found.timed.get(str(plan), {}).get("cpu_s_per_s"),
            }
        )
    return {"set": SET_NAMES["native"], "context": "full", "budgets": budgets}


def rate(found: Measurements, key: str) -> str:
    """WER in per cent with its interval, or nothing where it was not measured."""
    errors = list(found.errors.get(key, {}).values())
    if not errors:
        return ""
    low, high = bootstrap_interval(errors)
    return f"{100 * total(errors).rate:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def against_yardstick(found: Measurements, key: str, corpus: str) -> str:
    """Ratio to the published Moonshine base on the same utterances."""
    return ratio(found, key, f"{YARDSTICK}/{SET_NAMES[corpus]}")


def ratio(found: Measurements, key: str, baseline: str) -> str:
    """Ratio of two word error rates with its paired interval."""
    ours, theirs = found.errors.get(key), found.errors.get(baseline)
    if not ours or not theirs or set(ours) != set(theirs):
        return ""
    names = sorted(ours)
    pairs = [ours[name] for name in names], [theirs[name] for name in names]
    low, high = paired_ratio_interval(*pairs)
    return f"{total(pairs[0]).rate / total(pairs[1]).rate:.2f} ({low:.2f}-{high:.2f})"


def operations(found: Measurements, key: str) -> str:
    """GFLOP for a second of audio, and the encoder's part."""
    case = found.cases.get(key)
    if case is None:
        return ""
    return f"{case['flops_per_s'] / 1e9:.2f} ({case['encoder_flops_per_s'] / 1e9:.2f})"


def cpu(found: Measurements, plan: DepthPlan) -> str:
    """CPU seconds of one thread for a second of audio, and the spread."""
    row = found.timed.get(str(plan))
    return f"{row['cpu_s_per_s']:.4f} ({row['low']:.4f}-{row['high']:.4f})" if row else ""


if __name__ == "__main__":
    main()
