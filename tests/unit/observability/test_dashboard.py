"""The dashboard: what a stranger needs to read a panel is there, and its files are where it looks."""

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from benchmarks.expressions import dashboards, panels
from tests.observability_kit import ROOT

# Units of Grafana that panels may have; "none" and "short" are plain numbers.
UNITS = {"none", "short", "s", "percentunit", "reqps", "cpm", "bytes", "flops", "dateTimeFromNow"}
ROWS = [
    "At a glance",
    "Requests: rate, errors, duration",
    "Live streams: what a viewer of captions notices",
    "Elasticity: load, depth, and what it is worth",
    "Controller: why the depth is what it is",
    "Resources",
    "Fleet: replicas, moves and scaling",
]
Document = dict[str, Any]

DASHBOARD = dashboards()[0]
PANELS = panels(DASHBOARD)


def titled(panel: Document) -> str:
    return panel["title"]


def test_there_is_one_dashboard_with_its_rows() -> None:
    assert len(dashboards()) == 1
    assert [one["title"] for one in DASHBOARD["panels"] if one["type"] == "row"] == ROWS


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_has_a_title_a_description_a_unit_and_a_legend(panel: Document) -> None:
    assert len(panel["title"]) >= 6
    assert panel["title"][0].isupper()
    assert "asr_" not in panel["title"]
    assert len(panel["description"]) >= 40
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def test_no_two_panels_have_one_title_or_number() -> None:
    everything = DASHBOARD["panels"]

    assert len({one["title"] for one in everything}) == len(everything)
    assert len({one["id"] for one in everything}) == len(everything)


def test_panels_lie_side_by_side_and_inside_the_width() -> None:
    boxes = [(one["title"], one["gridPos"]) for one in DASHBOARD["panels"]]

    assert all(box["x"] + box["w"] <= 24 for _, box in boxes)
    overlapping = [
        (a, b)
        for (a, one), (b, other) in combinations(boxes, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]
    assert not overlapping


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_follows_the_choice_of_source_and_replica(panel: Document) -> None:
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        selected = re.findall(r"(?:asr|process)_\w+\{([^}]*)\}", target["expr"])
        assert selected
        assert all('job=~"$job", instance=~"$instance"' in labels for labels in selected)


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_every_label_in_a_legend_is_one_that_the_expression_keeps(panel: Document) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
        kept = {label.strip() for group in grouped for label in group.split(",")}
        if "sum(" in target["expr"] or "avg(" in target["expr"] or kept:
            assert named <= kept


def test_the_variables_are_the_source_the_service_and_the_replica() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]

    assert names == ["datasource", "job", "instance"]


def test_compose_mounts_what_grafana_is_told_to_read() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    grafana = compose["services"]["grafana"]
    provisioning = ROOT / "docker" / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "elastic-asr.yml").read_text("utf-8"))
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text("utf-8"))

    mounts = dict(volume.split(":")[:2][::-1] for volume in grafana["volumes"])
    folder = provider["providers"][0]["options"]["path"]
    assert mounts[folder] == "./docker/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./docker/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/elastic-asr.json"
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
