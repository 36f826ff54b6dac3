"""What the dashboard and Prometheus' rules ask, read from their files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[1] / "docker"
DASHBOARDS = DOCKER / "grafana" / "dashboards"
RULES = DOCKER / "prometheus" / "rules"

Document = dict[str, Any]  # Any: YAML and JSON of others' schemas


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression and where it stands."""

    place: str
    text: str


@cache
def rules() -> list[Document]:
    """Every rule, recording or alerting."""
    files = sorted(RULES.glob("*.yml"))
    groups = [
        group for path in files for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[Document]:
    """Every dashboard."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard: Document) -> list[Document]:
    """The panels of a dashboard that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(text: str) -> str:
    """An expression of a dashboard with its variables filled in."""
    text = text.replace("$__rate_interval", "1m").replace("$__range", "30m")
    return text.replace("$job", ".*asr").replace("$instance", ".*")


def dashboard_expressions() -> Iterator[Expression]:
    """What panels, annotations and variables ask."""
    for dashboard in dashboards():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                place = f"panel {panel['title']!r} {target['refId']}"
                yield Expression(place, filled(target["expr"]))
        for note in dashboard["annotations"]["list"]:
            yield Expression(f"annotation {note['name']!r}", filled(note["expr"]))
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.+), \w+\)", variable.get("definition", ""))
            if found:
                yield Expression(f"variable {variable['name']!r}", filled(found[1]))


def rule_expressions() -> Iterator[Expression]:
    """What rules ask."""
    for rule in rules():
        yield Expression(f"rule {rule.get('alert') or rule['record']}", rule["expr"])
