"""Where expressions stand that name series, and which series and labels `/metrics` has."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import promql_parser
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from benchmarks.expressions import (
    Document,
    Expression,
    dashboard_expressions,
    rule_expressions,
    rules,
)
from service.metrics import create_fleet_metrics, create_metrics

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "k8s"
# What Prometheus itself gives every target, what service discovery adds in Kubernetes, and what
# `/fleet/targets` adds.
OF_PROMETHEUS = {"up"}
TARGET_LABELS = {"job", "instance", "namespace", "pod", "replica"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@cache
def series() -> Mapping[str, frozenset[str]]:
    """Every series of `/metrics` with its own labels."""
    registry = CollectorRegistry()
    create_metrics(registry)
    create_fleet_metrics(registry)
    labels: dict[str, frozenset[str]] = {
        name: frozenset(cast("tuple[str, ...]", collector._labelnames))
        for collector, names in registry._collector_to_names.items()
        if isinstance(collector, MetricWrapperBase)
        for name in names
    }
    ProcessCollector(registry=registry)
    empty, bucket = frozenset[str](), frozenset({"le"})
    return {
        f"{metric.name}{suffix}": labels.get(metric.name, empty)
        | (bucket if suffix == "_bucket" else empty)
        for metric in registry.collect()
        for suffix in SUFFIXES[metric.type]
    }


def recorded() -> dict[str, str]:
    """The names that recording rules give, and the expressions behind them."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def kubernetes_expressions() -> Iterator[Expression]:
    """What manifests ask: the autoscalers and the adapter behind one of them."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            for text in _asked_in(document):
                yield Expression(path.relative_to(ROOT).as_posix(), text)


def _asked_in(node: Any) -> Iterator[str]:
    """Walk a manifest for expressions, and for the names of metrics that an autoscaler reads."""
    if isinstance(node, list):
        for value in cast("list[Any]", node):
            yield from _asked_in(value)
    if not isinstance(node, dict):
        return
    for key, value in cast("Document", node).items():
        if key in {"query", "expr", "seriesQuery"} and isinstance(value, str):
            yield value
        elif key == "metric":
            yield value["name"]
        elif key == "metricsQuery":
            # The adapter fills in what stands between << and >>.
            asked_of = str(cast("Document", node)["seriesQuery"])
            series_name = str(selectors(asked_of)[0].name)
            text = value.replace("<<.Series>>", series_name).replace("<<.GroupBy>>", "pod")
            yield text.replace("<<.LabelMatchers>>", 'pod="a"')
        else:
            yield from _asked_in(value)


def expressions() -> list[Expression]:
    """All of them."""
    return [*dashboard_expressions(), *rule_expressions(), *kubernetes_expressions()]


def selectors(text: str) -> list[promql_parser.VectorSelector]:
    """The series that an expression selects."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


def aggregated_labels(text: str) -> set[str]:
    """The labels that an expression groups by."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found
