"""The errors that benchmarks raise on purpose, one tree.

BenchmarkError (also ValueError)
|-- CorpusInvalid                      corpus_invalid
|-- PeerFilesWrong                     peer_files_wrong
`-- PeerUnknown                        peer_unknown
"""

from typing import ClassVar


class BenchmarkError(ValueError):
    """What was asked for cannot be measured; `code` is stable, the message is not."""

    code: ClassVar[str] = "benchmark_error"


class CorpusInvalid(BenchmarkError):
    """A manifest or a list of ids does not fit its audio."""

    code: ClassVar[str] = "corpus_invalid"


class PeerFilesWrong(BenchmarkError):
    """A peer's files are missing, or not the published ones."""

    code: ClassVar[str] = "peer_files_wrong"


class PeerUnknown(BenchmarkError):
    """No peer has that name."""

    code: ClassVar[str] = "peer_unknown"
