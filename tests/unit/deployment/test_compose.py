"""compose.yaml without a container engine: pinned, hardened, and every file it mounts is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("asr", "asr-gpu")


def release() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert found
    return found.group(1)


def seconds(duration: str) -> float:
    units = {"s": 1, "m": 60}
    return float(duration[:-1]) * units[duration[-1]]


def binds(service: dict[str, Any]) -> list[list[str]]:
    return [one.split(":") for one in service.get("volumes", []) if one.startswith("./")]


def test_the_parts_are_those_that_the_page_names() -> None:
    assert set(SERVICES) == {*OURS, "prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_release(name: str) -> None:
    _, tag = SERVICES[name]["image"].split(":")

    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-cuda)?", tag)


@pytest.mark.parametrize("name", OURS)
def test_our_images_carry_the_release_and_name_stages_that_exist(name: str) -> None:
    service = SERVICES[name]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")

    assert service["image"].split(":")[1].removesuffix("-cuda") == release()
    assert f" AS {service['build']['target']}\n" in dockerfile
    assert f"ARG VERSION={release()}\n" in dockerfile


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_little(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert "privileged" not in service
    # Ours say so in the Dockerfile.
    assert name in OURS or not service["user"].startswith("0")


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_alone_unless_asked(name: str) -> None:
    ports = SERVICES[name]["ports"]

    assert ports
    assert all(port.startswith(("127.0.0.1:", "${BIND_ADDRESS:-127.0.0.1}:")) for port in ports)


def test_no_two_containers_want_the_same_port() -> None:
    published = [port.split(":")[-2] for service in SERVICES.values() for port in service["ports"]]

    assert len(set(published)) == len(published)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists_and_is_read_only(name: str) -> None:
    for source, _, mode in binds(SERVICES[name]):
        assert (ROOT / source).exists(), source
        assert mode == "ro"


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_and_services_that_are_named_are_declared(name: str) -> None:
    service = SERVICES[name]
    volumes = [one.split(":")[0] for one in service.get("volumes", []) if not one.startswith(".")]

    assert set(volumes) <= COMPOSE["volumes"].keys()
    assert set(service.get("depends_on", {})) <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_others_wait_for_has_a_health_check(name: str) -> None:
    for waited, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert SERVICES[waited]["healthcheck"]["test"]


def test_a_stop_waits_longer_than_the_service_takes() -> None:
    for name in OURS:
        service = SERVICES[name]
        grace_s = float(service["environment"]["ASR_SHUTDOWN_GRACE_S"])

        assert seconds(service["stop_grace_period"]) >= grace_s + 5


def test_every_setting_that_is_given_is_one_of_the_service() -> None:
    for name in OURS:
        given = [key.removeprefix("ASR_").lower() for key in SERVICES[name]["environment"]]

        assert given
        assert set(given) <= Settings.model_fields.keys()


def test_the_gpu_variant_comes_only_when_asked_for_and_answers_to_the_scraped_name() -> None:
    gpu = SERVICES["asr-gpu"]

    assert gpu["profiles"] == ["gpu"]
    assert gpu["networks"]["default"]["aliases"] == ["asr"]
    assert "profiles" not in SERVICES["asr"]


def test_prometheus_scrapes_and_alerts_by_names_of_this_file() -> None:
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (managers,) = config["alerting"]["alertmanagers"]

    assert jobs["asr"]["static_configs"] == [{"targets": ["asr:8000"]}]
    assert managers["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_no_password_stands_in_the_file() -> None:
    grafana = SERVICES["grafana"]["environment"]

    assert grafana["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


@pytest.mark.parametrize(("password", "expected"), [("", "true"), ("secret", "")])
def test_without_a_password_there_is_no_administrator(
    tmp_path: Path, password: str, expected: str
) -> None:
    shell, flag, script = SERVICES["grafana"]["entrypoint"]
    run = tmp_path / "run.sh"
    run.write_text('#!/bin/sh\nprintf %s "$GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"\n')
    run.chmod(0o755)
    command = script.replace("$$", "$").replace("/run.sh", str(run))

    started = subprocess.run(
        [shell, flag, command],
        env={"GF_SECURITY_ADMIN_PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )

    assert started.stdout == expected


def test_compose_itself_takes_the_file() -> None:
    program = shutil.which("docker-compose", path=Path(sys.executable).parent)
    program = program or shutil.which("docker-compose")
    if program is None:
        pytest.skip("expected docker-compose, got none; the other tests read the file themselves")

    subprocess.run([program, "--profile", "gpu", "config", "-q"], cwd=ROOT, check=True)
