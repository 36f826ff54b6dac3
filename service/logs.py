"""How log lines look; set up once, by the command line.

Never in a log line: audio, transcripts, tokens of a user, secrets, query strings.
"""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logs(level: str) -> None:
    """Send everything at or above a level to stderr, one event a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
