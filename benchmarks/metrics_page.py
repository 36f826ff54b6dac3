"""Write the table of `docs/metrics.md` from the series that the service registers.

python -m benchmarks.metrics_page
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics import Metrics, create_fleet_metrics, create_metrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
BEGIN = "<!-- series: python -m benchmarks.metrics_page -->"
END = "<!-- end of series -->"
GROUPS = {
    "process": "The process",
    "requests": "Requests: files and utterances",
    "steps": "Engine steps",
    "streams": "Live streams",
    "controller": "The controller",
}
FLEET = "A replica of a fleet"


def main() -> None:
    """Renew the table."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renewed(page: str) -> str:
    """Put the tables of now between the two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """Give one table for each group of series."""
    metrics = create_metrics(CollectorRegistry())
    parts: list[str] = []
    for group in fields(Metrics):
        series = getattr(metrics, group.name)
        parts += _table(GROUPS[group.name], [getattr(series, one.name) for one in fields(series)])
    fleet = create_fleet_metrics(CollectorRegistry())
    parts += _table(FLEET, [getattr(fleet, one.name) for one in fields(fleet)])
    return "\n".join(parts)


def _table(title: str, series: Sequence[Counter | Gauge | Histogram]) -> list[str]:
    rows = [_row(one) for one in series]
    head = [f"### {title}", "", "| series | type | labels | meaning |", "|---|---|---|---|"]
    return [*head, *rows, ""]


def _row(one: Counter | Gauge | Histogram) -> str:
    (metric,) = one.describe()
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    names: tuple[str, ...] = one._labelnames  # pyright: ignore[reportPrivateUsage] no other way
    labels = ", ".join(f"`{label}`" for label in names)
    return f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |"


if __name__ == "__main__":
    main()
