"""The service on two models: `asr serve` whose engine switches new utterances under load.

    python -m benchmarks.slo_server --port 0 --second FOLDER --above 0.25 --below 0.15 [--tally FILE]

Everything else is as the environment says, as for `asr serve`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.slo_switching import SwitchingEngine, Thresholds
from service.cli.serve import serve
from service.engine import create_engine
from service.engine.base import Engine
from service.logs import configure_logs
from service.settings import Settings, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve from the command line until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--second", required=True, help="shipped model or folder")
    parser.add_argument("--above", type=float, required=True, help="seconds of a step")
    parser.add_argument("--below", type=float, required=True, help="seconds of a step")
    parser.add_argument("--tally", type=Path)
    options = parser.parse_args(arguments)
    settings = read_settings(port=options.port)
    configure_logs(settings.log_level)
    engine = SwitchingEngine(
        _engine(settings, settings.model),
        _engine(settings, options.second),
        Thresholds(options.above, options.below),
        tally=options.tally,
    )
    return serve(settings, engine)


def _engine(settings: Settings, model: str) -> Engine:
    return create_engine(
        settings.engine,
        model=model,
        num_threads=settings.engine_threads,
        cache=settings.engine_cache,
        fake_realtime_factor=settings.fake_realtime_factor,
        device=settings.device,
    )


if __name__ == "__main__":
    sys.exit(main())
