"""What every result file holds, and how it is named (benchmarks/README.md says why)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from statistics import median

from benchmarks.hardware import Environment, Hardware

SCHEMA = 1
REQUIRED_KEYS = (
    "schema", "benchmark", "started", "environment", "config", "warm_up", "repeats", "results",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one benchmark was run; `started` carries its time zone."""

    benchmark: str
    started: datetime
    environment: Environment
    config: Mapping[str, object]
    warm_up: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times; with one repeat all three are equal."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise repeated measurements, at least one."""
        return cls(median=median(values), low=min(values), high=max(values))


def document(run: Run, results: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Build what a result file holds, as plain values."""
    return {
        "schema": SCHEMA,
        "benchmark": run.benchmark,
        "started": run.started.isoformat(timespec="seconds"),
        "environment": asdict(run.environment),
        "config": dict(run.config),
        "warm_up": run.warm_up,
        "repeats": run.repeats,
        "results": list(results),
    }


def file_name(benchmark: str, hardware: Hardware, day: date) -> str:
    """Name a result file: what was measured, on what, when."""
    return f"{benchmark}_{hardware.slug}_{day.isoformat()}.json"


def missing_keys(content: Mapping[str, object]) -> list[str]:
    """Return what a result file should hold and does not."""
    return [key for key in REQUIRED_KEYS if key not in content]
