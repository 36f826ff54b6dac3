"""Sections of the card about the shipped engine's words: conditions, texts as written, confidence.

Both files are results of benchmarks that read one log of `benchmarks.shipped_words`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]  # Any: a row of a result file

TITLES = {"native": "native", "non_native": "non-native", "held_out": "held-out voice"}
UNDER = {"clean": "as it is", "noisy-10db": "noise at 10 dB", "telephone-8khz": "telephone, 8 kHz"}


def word_sections(conditions: Path | None, confidence: Path | None) -> list[str]:
    """Write the sections of the files that are there.

    Args:
        conditions: of `benchmarks.conditions`.
        confidence: of `benchmarks.confidence`.
    """
    sections: list[str] = []
    if conditions is not None:
        rows = _rows(conditions)
        sections += [
            "## Noise and telephone\n\n" + condition_table(rows),
            "## Words lost, and texts as they are written\n\n" + written_table(rows),
        ]
    if confidence is not None:
        sections.append("## Confidence\n\n" + confidence_table(_rows(confidence)))
    return sections


def condition_table(rows: Sequence[Row]) -> str:
    """Every budget under every condition, its ratio to the published model under the same one."""
    cells = {(row["system"], row["layers"], row["set"], row["condition"]): row for row in rows}
    systems = sorted(
        {(row["system"], row["layers"]) for row in rows}, key=lambda one: -(one[1] or 0)
    )
    lines: list[list[str]] = []
    for corpus in ("native", "non_native"):
        for system, layers in systems:
            found = [cells.get((system, layers, corpus, condition)) for condition in UNDER]
            if any(found):
                name = f"{layers:g}" if layers else system
                lines.append([TITLES[corpus], name, *map(_under, found)])
    prose = (
        "The engine that serves (int8, ONNX), full context, WER % (95 %); in square brackets the ratio "
        "to published Moonshine base under the same condition in the same run, with its paired "
        "interval. Noise: kitchens, taps, machines, pink and white, one recording an utterance, "
        "10 dB below the speech by root mean square (the same recordings, mixed otherwise, were "
        "heard in training). Telephone: 8 kHz, G.711 mu-law.\n\n"
    )
    return prose + table(["set", "layers", *UNDER.values()], lines)


def written_table(rows: Sequence[Row]) -> str:
    """Kinds of errors of normalised text, and the rate of the text as it is."""
    clean = [row for row in rows if row["condition"] == "clean"]
    order = list(TITLES)
    lines = [
        [
            TITLES[row["set"]],
            f"{row['layers']:g}" if row["layers"] else row["system"],
            _percent(row["wer"]),
            *(
                _percent(row[kind] / row["reference_words"])
                for kind in ("substitutions", "deletions", "insertions")
            ),
            _percent(row["written"]["wer"]) if row["written"] else "",
        ]
        for row in sorted(clean, key=lambda row: (order.index(row["set"]), -(row["layers"] or 0)))
    ]
    prose = (
        "The same engine, quiet, in per cent of the reference's words. As written: case, "
        "punctuation and numerals count; where the references have none, nothing is said.\n\n"
    )
    header = ["set", "layers", "WER", "substituted", "deleted", "inserted", "as written"]
    return prose + table(header, lines)


def confidence_table(rows: Iterable[Row]) -> str:
    """Confidence against accuracy by depth, on the sets that the map was not fitted on."""
    lines = [
        [
            TITLES[row["set"]],
            UNDER[row["condition"]],
            f"{row['layers']:g}",
            str(row["after"]["words"]),
            _percent(row["after"]["accuracy"]),
            _percent(row["before"]["mean_confidence"]),
            _percent(row["after"]["mean_confidence"]),
            _percent(row["before"]["expected_error"]),
            _percent(row["after"]["expected_error"]),
        ]
        for row in rows
        if not row["fitted_on"]
    ]
    prose = (
        "A word's confidence comes from its tokens' probabilities and those of its utterance through "
        "three numbers for all depths (`decoding.json`), fitted on held-out speech that is none of "
        "these sets. Its mean by depth, which `asr_word_confidence_ratio` counts, estimates the share "
        "of right words without references. Per cent; the error is the expected calibration error "
        "over ten bins. "
        "Drawn in [confidence.svg](../../../docs/figures/confidence.svg).\n\n"
    )
    header = [
        "set", "condition", "layers", "words", "right", "confidence, raw", "calibrated",
        "error, raw", "calibrated",
    ]  # fmt: skip
    return prose + table(header, lines)


def _rows(path: Path) -> list[Row]:
    found: list[Row] = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["results"]
    return found


def _under(row: Row | None) -> str:
    if row is None:
        return ""
    low, high = row["interval"]
    rate = f"{_percent(row['wer'])} ({_percent(low)}-{_percent(high)})"
    against = row["over_published"]
    if against is None:
        return rate
    low, high = against["interval"]
    return f"{rate} [{against['ratio']:.2f}, {low:.2f}-{high:.2f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
