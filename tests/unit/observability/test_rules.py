"""Prometheus' files: alerts that say what to do, each with a test that promtool runs."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.expressions import RULES, rules
from service.streaming.measures import LIMIT_S
from tests.observability_kit import ROOT, selectors

PROMETHEUS = ROOT / "docker" / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
PAGE = ROOT / "docs" / "metrics.md"

Document = dict[str, Any]
ALERTS = [rule for rule in rules() if "alert" in rule]
# Of each of these there has to be an alert.
WATCHED = {
    "up",
    "asr_model_ready",
    "asr_auth_failures_total",
    "asr_depth_layers",
    "asr_depth_floor_layers",
    "asr_stream_dropped_audio_seconds_total",
    "job:asr_stream_lag_late:ratio_rate1h",
    "job:asr_depth_debt:ratio",
    "job_instance:asr_admission_rejected:rate5m",
    "job_instance:asr_event_loop_lag_seconds:p99_rate5m",
    "job_instance:asr_requests_failed:ratio_rate5m",
}


def named(rule: Document) -> str:
    return rule["alert"]


def loaded(path: Path) -> Document:
    return yaml.safe_load(path.read_text("utf-8"))


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("expected promtool (Debian's package prometheus), found none")
    ran = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["prometheus.yml", "fleet.yml"])
def test_promtool_finds_no_fault_in_the_configuration(name: str) -> None:
    assert "SUCCESS" in promtool("check", "config", str(PROMETHEUS / name))


def test_promtool_finds_no_fault_in_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", *map(str, sorted(RULES.glob("*.yml"))))


def test_the_alerts_fire_when_they_should_and_not_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", *map(str, TESTS))


def test_every_alert_has_a_test() -> None:
    text = "".join(path.read_text("utf-8") for path in TESTS)

    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in text] == []


@pytest.mark.parametrize("rule", ALERTS, ids=named)
def test_an_alert_says_what_is_the_matter_and_what_to_do(rule: Document) -> None:
    notes = rule["annotations"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert notes["summary"].endswith(".")
    assert len(notes["runbook"]) >= 40
    assert re.search(r"\{\{ \$(value|labels)", notes["summary"]) or rule["alert"] == "AsrAbsent"


@pytest.mark.parametrize("rule", ALERTS, ids=named)
def test_the_page_that_an_alert_links_to_speaks_of_it(rule: Document) -> None:
    assert rule["annotations"]["runbook_url"] == f"docs/metrics.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in PAGE.read_text("utf-8")


def test_all_that_has_to_be_watched_is() -> None:
    watched = {str(s.name) for rule in ALERTS for s in selectors(rule["expr"])}

    assert watched >= WATCHED


def test_no_two_rules_have_one_name() -> None:
    names = [rule.get("alert") or rule["record"] for rule in rules()]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("alert", "promise"), [("AsrFirstWordsLate", "first_partial"), ("AsrFinalsLate", "final")]
)
def test_an_alert_on_a_promise_has_its_limit(alert: str, promise: str) -> None:
    (rule,) = [one for one in ALERTS if one["alert"] == alert]

    assert float(rule["expr"].rpartition(">")[2]) == LIMIT_S[promise]


def test_the_names_in_prometheus_configuration_are_those_of_compose() -> None:
    services = loaded(ROOT / "compose.yaml")["services"]
    config = loaded(PROMETHEUS / "prometheus.yml")
    targets = [
        target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    (alertmanager,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]

    assert "asr:8000" in targets
    assert {target.split(":")[0] for target in targets} <= {*services, "127.0.0.1"}
    assert alertmanager.split(":")[0] in services
    mounts = " ".join(services["prometheus"]["volumes"])
    assert "./docker/prometheus/prometheus.yml:" in mounts
    assert "./docker/prometheus/rules:/etc/prometheus/rules" in mounts


def test_every_route_of_alertmanager_leads_to_a_receiver() -> None:
    config = loaded(ROOT / "docker" / "alertmanager" / "alertmanager.yml")
    receivers = {one["name"] for one in config["receivers"]}
    routes = [config["route"], *config["route"]["routes"]]

    assert {route["receiver"] for route in routes} <= receivers
    inhibited = re.findall(r"Asr\w+", str(config["inhibit_rules"]))
    assert set(inhibited) <= {rule["alert"] for rule in ALERTS}


def test_alertmanager_finds_no_fault_in_its_configuration() -> None:
    program = shutil.which("amtool")
    if program is None:
        pytest.skip("expected amtool (Debian's package prometheus-alertmanager), found none")

    path = ROOT / "docker" / "alertmanager" / "alertmanager.yml"
    ran = subprocess.run([program, "check-config", str(path)], check=False, timeout=240)

    assert ran.returncode == 0
