"""The fleet's manifests: valid as far as schemas are at hand, and right about what they promise."""

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.unit.deployment.test_kubernetes import VERSIONS

ROOT = Path(__file__).parents[3]
OVERLAY = ROOT / "k8s" / "overlays" / "ray"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
CUT_OFF_S = 10.0
"""As in service/fleet/application.py, which needs Ray to be imported."""

Manifest = dict[str, Any]


def read(name: str) -> Manifest:
    return yaml.safe_load((OVERLAY / name).read_text(encoding="utf-8"))


def cluster() -> Manifest:
    return read("ray-service.yaml")["spec"]["rayClusterConfig"]


def serve_config() -> Manifest:
    return yaml.safe_load(read("ray-service.yaml")["spec"]["serveConfigV2"])


def templates() -> dict[str, Manifest]:
    config = cluster()
    (workers,) = config["workerGroupSpecs"]
    return {"head": config["headGroupSpec"]["template"], "worker": workers["template"]}


@cache
def rendered() -> list[Manifest]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("expected kubectl to render overlays, got none; the sources are still read")
    printed = subprocess.run(
        [kubectl, "kustomize", OVERLAY], capture_output=True, check=True
    ).stdout
    return [one for one in yaml.safe_load_all(printed) if one]


def test_the_overlay_renders_a_service_of_ray_and_its_fence() -> None:
    assert {one["kind"] for one in rendered()} == {"RayService", "NetworkPolicy"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fence_is_valid(version: str) -> None:
    kubernetes_validate.validate(read("network.yaml"), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("group", ["head", "worker"])
def test_the_pods_that_the_operator_makes_are_valid(group: str, version: str) -> None:
    # RayService has no schema that ships with the validator; a pod's template is all but a pod.
    pod = {"apiVersion": "v1", "kind": "Pod", **templates()[group]}

    kubernetes_validate.validate(pod, version, strict=True)


def test_the_config_is_the_one_that_serve_deploy_takes() -> None:
    shipped = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text(encoding="utf-8"))

    assert serve_config() == shipped


def test_the_application_that_is_named_exists() -> None:
    (one,) = serve_config()["applications"]
    module, _, function = one["import_path"].partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    defined = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}

    assert function in defined


def test_its_arguments_are_settings_that_fit_together() -> None:
    (one,) = serve_config()["applications"]

    settings = Settings(**one["args"])

    assert settings.replicas_max >= settings.replicas_min


def test_every_setting_that_is_given_is_one_of_the_service() -> None:
    (worker,) = templates()["worker"]["spec"]["containers"]
    given = {one["name"] for one in worker["env"]}

    assert "ASR_API_KEYS_FILE" in given
    assert {name.removeprefix("ASR_").lower() for name in given} <= Settings.model_fields.keys()


def test_there_is_a_core_for_every_replica() -> None:
    (one,), (workers,) = serve_config()["applications"], cluster()["workerGroupSpecs"]
    cores = int(workers["rayStartParams"]["num-cpus"])

    assert workers["minReplicas"] * cores >= one["args"]["replicas_min"]
    assert workers["maxReplicas"] * cores >= one["args"]["replicas_max"]
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_grace_period_covers_the_drain() -> None:
    (one,) = serve_config()["applications"]
    drain_s = one["args"]["shutdown_grace_s"] + CUT_OFF_S

    assert templates()["worker"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 5


def test_nobody_talks_to_ray_without_its_token_and_no_statistics_leave() -> None:
    starts = [cluster()["headGroupSpec"], *cluster()["workerGroupSpecs"]]

    assert cluster()["authOptions"] == {"mode": "token"}
    assert all(one["rayStartParams"]["disable-usage-stats"] == "true" for one in starts)
    assert "RAY_USAGE_STATS_ENABLED=0" in DOCKERFILE


def test_clients_reach_the_port_of_the_service_alone() -> None:
    ingress = read("network.yaml")["spec"]["ingress"]
    of_clients = [one for one in ingress if {"podSelector": {}} in one["from"]]

    assert [one["ports"] for one in of_clients] == [[{"port": "http", "protocol": "TCP"}]]


@pytest.mark.parametrize("group", ["head", "worker"])
def test_a_pod_may_do_little(group: str) -> None:
    spec = templates()[group]["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"USER {spec['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
