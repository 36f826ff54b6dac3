"""What `asr archive` takes; apart from what it does, which imports much."""

import argparse
from pathlib import Path


def add_archive_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `asr archive` takes, beside the dial and the engine."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file, a folder, a glob in quotes, a manifest (.tsv), or a URI like s3://bucket/talks",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="takes the rows")
    parser.add_argument("--format", default="parquet", choices=("parquet", "jsonl"))
    parser.add_argument(
        "--flops-budget",
        type=_operations,
        metavar="N",
        help="operations for all files, like 2e15: shallow first, deeper where confidence was low",
    )
    parser.add_argument("--actors", type=_count, help="engines side by side (one for each core)")
    parser.add_argument("--cores", type=_count, default=1, help="cores and threads of each (1)")
    parser.add_argument(
        "--address", help="a Ray cluster (auto, HOST:PORT) in place of this machine"
    )


def _operations(text: str) -> int:
    operations = float(text)
    if not 0 < operations < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return round(operations)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text!r}")
    return count
