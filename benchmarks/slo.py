r"""Five systems under the same load: what of live captions' promises each keeps, and for what words.

    python -m benchmarks.slo --manifest DEV/manifest.tsv --second TINY --out slo.json [--cells ...]

Fixed full depth, fixed half depth, the brownout and the slack controller, and fixed full depth that
opens new utterances on a second, static model under load; on one core, with the same audio, from
half to three times what full depth keeps up with, and at 0.9 of what the floor depth does. Further:
five minutes of constant load, the time after a load's end, and everything that bends at once.

Every cell has a server of its own, pinned to a core, and is written as it ends; a rerun with the
same options goes on where the last one stopped. A cell that fails is recorded, and tried again by
the next run. Prints a table and, last, one JSON line.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.corpus import read_manifest
from benchmarks.hardware import read_environment
from benchmarks.record import Run
from benchmarks.slo_capacity import FIRST_STREAMS, floor_drop, measure_capacity
from benchmarks.slo_cell import STAGGER_S, Conditions, Voices, phases_s, run_cell
from benchmarks.slo_results import Results
from benchmarks.slo_sound import read_voices
from benchmarks.slo_systems import Cell, plan_cells, systems
from benchmarks.slo_words import timed_words
from service.engine import create_engine
from service.settings import Settings

logger = logging.getLogger(__name__)

BETWEEN_CELLS_S = 5.0
"""What starting and stopping a server takes, for the estimate."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    options = _parse(arguments)
    _log_to(options.log or options.out.with_suffix(".log"))
    environment = read_environment()  # of the machine, before this program keeps to one core
    os.sched_setaffinity(0, {options.client_core})
    conditions = _conditions(options)
    run = Run(
        benchmark="slo",
        started=datetime.now(UTC),
        environment=environment,
        config=_config(options),
        warm_up=1,
        repeats=1,
    )
    results = Results(options.out, run)
    voices = _voices(options, conditions)
    full, floor = _capacities(options, conditions, voices, results)
    conditions = replace(conditions, max_streams=options.max_streams or floor)
    cells = [
        cell for cell in plan_cells(full, floor, options.cells) if results.finished(cell.id) is None
    ]
    logger.info("capacity %d streams at full depth, %d at the floor", full, floor)
    logger.info("%d cells, about %.0f minutes", len(cells), _estimate_s(cells, conditions) / 60)
    for place, cell in enumerate(cells, 1):
        logger.info("cell %d of %d: %s, %d streams", place, len(cells), cell.id, cell.streams)
        results.add(_attempt(cell, conditions, voices))
    print(json.dumps(results.document()))


def told(row: Mapping[str, object]) -> str:
    """Put a row into one line."""
    names = (
        "in_time_share", "lag_s", "partial_interval_s", "stable_share", "final_s", "refused",
        "dropped_s", "mean_layers", "depth_changes", "wer", "flops_share", "server_cpu", "keeps",
        "second_model_share", "recovery_s", "errors",
    )  # fmt: skip
    return ", ".join(f"{name} {_short(row[name])}" for name in names if name in row)


def _attempt(cell: Cell, conditions: Conditions, voices: Voices) -> dict[str, object]:
    try:
        row = run_cell(cell, systems()[cell.system], conditions, voices)
    # Whatever went wrong in one cell, an unattended run has others to measure.
    except (Exception, SystemExit) as error:
        logger.exception("cell %s failed", cell.id)
        return {
            "cell": cell.id,
            "system": cell.system,
            "load": cell.load,
            "kind": cell.kind,
            "streams": cell.streams,
            "failed": f"{type(error).__name__}: {error}"[:2000],
        }
    logger.info("%s: %s", cell.id, told(row))
    return row


def _voices(options: argparse.Namespace, conditions: Conditions) -> Voices:
    utterances = [one for path in options.manifest for one in read_manifest(path)]
    clips = read_voices(utterances)
    settings = Settings.model_validate(_engine_settings(conditions.settings))
    engine = create_engine(
        settings.engine,
        model=settings.model,
        num_threads=1,
        cache=settings.engine_cache,
        fake_realtime_factor=settings.fake_realtime_factor,
    )
    known = timed_words(engine, {clip.id: clip for voice in clips for clip in voice}, options.words)
    return Voices(clips, known)


def _engine_settings(settings: Mapping[str, str]) -> dict[str, str]:
    wanted = {"engine", "engine_cache", "model", "fake_realtime_factor"}
    named = {name.removeprefix("ASR_").lower(): value for name, value in settings.items()}
    return {name: value for name, value in named.items() if name in wanted}


def _capacities(
    options: argparse.Namespace, conditions: Conditions, voices: Voices, results: Results
) -> tuple[int, int]:
    found: list[int] = []
    first = options.first
    for name, given in (("full", options.full_capacity), ("floor", options.floor_capacity)):
        id_ = f"capacity-{name}"
        row = results.finished(id_)
        if given is not None:
            row = {"cell": id_, "kind": "capacity", "streams": given, "given": True}
            results.add(row)
        elif row is None:
            drop = 0.0
            if name == "floor":
                drop = floor_drop(conditions) if options.floor_drop is None else options.floor_drop
            row = measure_capacity(
                id_, drop, conditions, voices, probe_s=options.probe, first=first
            )
            results.add(row)
        found.append(max(1, int(str(row["streams"]))))
        first = found[-1]  # less depth carries no fewer
    return found[0], found[1]


def _estimate_s(cells: Sequence[Cell], conditions: Conditions) -> float:
    return sum(
        BETWEEN_CELLS_S
        + STAGGER_S
        + sum(phases_s(cell, conditions))
        + (conditions.tail_s if cell.kind == "load-end" else 0.0)
        for cell in cells
    )


def _conditions(options: argparse.Namespace) -> Conditions:
    of_systems: dict[str, dict[str, str]] = {}
    for given in options.system_setting:
        name, _, setting = given.partition(":")
        if name not in systems() or "=" not in setting:
            raise SystemExit(f"expected SYSTEM:ASR_NAME=VALUE, got {given!r}")
        of_systems.setdefault(name, {}).update([setting.split("=", 1)])
    return Conditions(
        warm_up_s=options.warm_up,
        seconds=options.seconds,
        constant_s=options.constant,
        settle_s=options.settle,
        tail_s=options.tail,
        pause_s=options.pause,
        partial_interval_s=options.partial_interval,
        max_streams=options.max_streams or 1,
        server_core=options.server_core,
        client_core=options.client_core,
        settings=dict(setting.split("=", 1) for setting in options.setting),
        system_settings=of_systems,
        second=options.second,
        switch_above_s=options.switch_above,
        switch_below_s=options.switch_below,
        folder=options.out.parent,
    )


def _config(options: argparse.Namespace) -> dict[str, object]:
    left_out = {"out", "log", "cells", "words", "manifest", "second"}
    kept = {name: value for name, value in vars(options).items() if name not in left_out}
    sets = [path.resolve().parent.name for path in options.manifest]
    return {**kept, "sets": sets, "second": Path(options.second).name}


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "/".join(str(part) for part in value.values())
    return f"{len(value)}" if isinstance(value, list) else str(value)


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(sys.stderr), logging.FileHandler(path)]
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    form.converter = time.gmtime
    for handler in handlers:
        handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, action="append")
    parser.add_argument("--out", type=Path, required=True, help="result file; goes on from it")
    parser.add_argument("--log", type=Path, help="default: beside the result file")
    parser.add_argument("--words", type=Path, help="keeps what an unloaded pass hears")
    parser.add_argument(
        "--cells", nargs="*", default=[], help="systems, loads, kinds or ids; default: all"
    )
    parser.add_argument("--second", default="", help="static model of the system that switches")
    parser.add_argument("--switch-above", type=float, default=0.25, help="seconds of a step")
    parser.add_argument("--switch-below", type=float, default=0.15, help="seconds of a step")
    parser.add_argument("--seconds", type=float, default=90.0, help="of a cell's window")
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds before it")
    parser.add_argument("--constant", type=float, default=300.0, help="seconds of constant load")
    parser.add_argument("--settle", type=float, default=30.0, help="seconds before that")
    parser.add_argument("--tail", type=float, default=45.0, help="seconds after a load's end")
    parser.add_argument("--probe", type=float, default=60.0, help="seconds of a search's try")
    parser.add_argument("--first", type=int, default=FIRST_STREAMS, help="a search begins there")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between clips")
    parser.add_argument(
        "--partial-interval", type=float, default=0.5, help="seconds, fixed; 0.5: at every chunk"
    )
    parser.add_argument("--full-capacity", type=int, help="streams; default: measured")
    parser.add_argument("--floor-capacity", type=int, help="streams; default: measured")
    parser.add_argument("--floor-drop", type=float, help="default: what the service says")
    parser.add_argument(
        "--max-streams",
        type=int,
        help="places of a server; default: C, as many as the floor depth keeps up with",
    )
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--setting", action="append", default=[], help="ASR_NAME=VALUE, of all")
    parser.add_argument(
        "--system-setting", action="append", default=[], help="SYSTEM:ASR_NAME=VALUE"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
