"""The command line's arguments; what is heavy is imported once it is known to be needed."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.archive_arguments import add_archive_arguments
from service.errors import ServiceError
from service.logs import configure_logs

if TYPE_CHECKING:
    from service.engine.base import Engine
    from service.settings import Settings

EXIT_WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status: 0, 1 for a failure, 2 for a wrong use."""
    parsed = _parser().parse_args(arguments)
    commands = {
        "archive": _archive,
        "build-engine": _build_engine,
        "fleet": _fleet,
        "new-key": _new_key,
        "serve": _serve,
        "settings": _settings,
        "stream": _stream,
        "transcribe": _transcribe,
    }
    try:
        return commands[parsed.command](parsed)
    except ServiceError as error:
        sys.stderr.write(f"asr: {error}\n")
        return EXIT_WRONG_USE


def _serve(parsed: argparse.Namespace) -> int:
    from service.cli.serve import serve
    from service.settings import read_settings

    settings = read_settings(
        host=parsed.host, port=parsed.port, engine=parsed.engine, model=parsed.model
    )
    configure_logs(settings.log_level, settings.log_format)
    return serve(settings, _engine(settings))


def _fleet(parsed: argparse.Namespace) -> int:
    from service.cli.fleet import fleet
    from service.settings import read_settings

    settings = read_settings(
        host=parsed.host,
        port=parsed.port,
        engine=parsed.engine,
        model=parsed.model,
        replicas_max=parsed.replicas_max,
    )
    configure_logs(settings.log_level, settings.log_format)
    return fleet(settings, parsed.address)


def _transcribe(parsed: argparse.Namespace) -> int:
    from service.cli.transcribe import TranscribeCommand, run
    from service.scheduling.depth import parse_choice
    from service.scheduling.hotwords import parse_hotwords
    from service.settings import read_settings

    settings = read_settings(engine=parsed.engine, model=parsed.model)
    configure_logs("warning")
    command = TranscribeCommand(
        files=tuple(parsed.files),
        choice=parse_choice(parsed.drop, parsed.max_drop, parsed.policy),
        form=parsed.format,
        progress=parsed.progress or sys.stderr.isatty(),
        batch_windows=settings.batch_windows,
        hotwords=parse_hotwords(parsed.hotwords),
    )
    return run(command, _engine(settings), sys.stdout, sys.stderr)


def _archive(parsed: argparse.Namespace) -> int:
    from service.cli.archive import ArchiveCommand, run
    from service.scheduling.depth import parse_choice
    from service.scheduling.hotwords import parse_hotwords
    from service.settings import read_settings

    settings = read_settings(engine=parsed.engine, model=parsed.model)
    configure_logs("warning")
    command = ArchiveCommand(
        paths=tuple(parsed.paths),
        out=parsed.out,
        form=parsed.format,
        choice=parse_choice(parsed.drop, parsed.max_drop, parsed.policy),
        hotwords=parse_hotwords(parsed.hotwords),
        flops_budget=parsed.flops_budget,
        actors=parsed.actors,
        cores=parsed.cores,
        address=parsed.address,
    )
    return run(command, settings, sys.stderr)


def _stream(parsed: argparse.Namespace) -> int:
    from service.cli.stream import StreamCommand, run
    from service.scheduling.depth import parse_choice
    from service.scheduling.hotwords import parse_hotwords
    from service.settings import client_key

    configure_logs("warning")
    choice = parse_choice(parsed.drop, parsed.max_drop, parsed.policy)
    key = client_key(parsed.key_file)
    hotwords = parse_hotwords(parsed.hotwords)
    command = StreamCommand(parsed.url, parsed.file, choice, parsed.json, key, hotwords)
    return run(command, sys.stdout, sys.stderr)


def _new_key(parsed: argparse.Namespace) -> int:
    from service.api.keys import Tier, new_key_line

    key, line = new_key_line(parsed.name, Tier(parsed.tier))
    # Apart, so that `>> keys` keeps the line and the key itself is seen once.
    sys.stderr.write(f"the key, which is kept nowhere: {key}\n")
    sys.stdout.write(f"{line}\n")
    return 0


def _settings(_parsed: argparse.Namespace) -> int:
    from service.cli.settings_page import settings_page

    sys.stdout.write(settings_page())
    return 0


def _build_engine(parsed: argparse.Namespace) -> int:
    from service.cli.build_engine import run
    from service.settings import read_settings

    settings = read_settings(engine=parsed.engine, model=parsed.model)
    configure_logs("warning")
    return run(
        settings.engine,
        settings.model,
        settings.engine_cache,
        sys.stdout,
        every_processor=parsed.every_processor,
        device=settings.device,
    )


def _engine(settings: "Settings") -> "Engine":
    from service.app import make_engine

    return make_engine(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asr", description="Speech recognition whose encoder depth is a dial."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="serve over HTTP", description="Serve; ASR_ variables set what flags do not."
    )
    serve.add_argument("--host", help="address to listen on (HOST, else 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (PORT, else 8000)")
    fleet = commands.add_parser(
        "fleet",
        help="serve as many replicas, with Ray",
        description="Serve as many replicas as the load needs; ASR_ variables set what flags do not.",
    )
    fleet.add_argument("--host", help="address to listen on (HOST, else 127.0.0.1)")
    fleet.add_argument("--port", type=int, help="port to listen on (PORT, else 8000)")
    fleet.add_argument("--replicas-max", type=int, help="replicas at most (REPLICAS_MAX, else 2)")
    fleet.add_argument(
        "--address",
        help="deploy to this Ray cluster (auto, HOST:PORT) and leave it running, "
        "in place of starting one here",
    )
    transcribe = commands.add_parser(
        "transcribe", help="transcribe files, without a server", description="Transcribe files."
    )
    transcribe.add_argument("files", nargs="+", type=Path, metavar="FILE")
    transcribe.add_argument(
        "--format", default="text", choices=("text", "json", "verbose_json", "srt", "vtt")
    )
    transcribe.add_argument(
        "--progress", action="store_true", help="show progress also where stderr is no terminal"
    )
    archive = commands.add_parser(
        "archive",
        help="transcribe thousands of files to Parquet or JSON, with Ray",
        description="Transcribe files to rows; the same command again does only what is missing.",
    )
    add_archive_arguments(archive)
    stream = commands.add_parser(
        "stream", help="caption live sound, by a server", description="Caption sound as it plays."
    )
    sound = stream.add_mutually_exclusive_group(required=True)
    sound.add_argument("file", nargs="?", type=Path, metavar="FILE", help="played in real time")
    sound.add_argument("--mic", action="store_true", help="the default microphone")
    stream.add_argument("--url", default="http://127.0.0.1:8000", help="where the server is")
    stream.add_argument(
        "--key-file", type=Path, metavar="FILE", help="holds the API key (else ASR_API_KEY)"
    )
    stream.add_argument("--json", action="store_true", help="print every message as a line of JSON")
    build = commands.add_parser(
        "build-engine",
        help="make the int8 files of a model for this processor",
        description="Make the files that the engine onnx runs from.",
    )
    build.add_argument(
        "--every-processor",
        action="store_true",
        help="make them for all processors that may come, as an image needs them",
    )
    new_key = commands.add_parser(
        "new-key", help="make an API key", description="Make a key and its line for the key file."
    )
    new_key.add_argument("name", help="whose key it is, for the log")
    new_key.add_argument("--tier", choices=("standard", "priority"), default="standard")
    commands.add_parser(
        "settings", help="list all settings", description="List all settings, as Markdown."
    )
    for command in (transcribe, archive, stream):
        command.add_argument("--drop", default="auto", help="depth to give up: auto or [0, 1)")
        command.add_argument("--max-drop", help="the largest drop accepted: [0, 1)")
        command.add_argument("--policy", default="ladder", help="how a budget becomes a plan")
        command.add_argument("--hotwords", default="", help="words that may come, between commas")
    for command in (serve, fleet, transcribe, archive, build):
        command.add_argument(
            "--engine", choices=("auto", "onnx", "torch", "fake"), help="what computes"
        )
        command.add_argument("--model", help="a shipped model, a folder, or a hub identifier")
    return parser
