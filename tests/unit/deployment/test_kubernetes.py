"""The manifests: valid where a schema is at hand, and right about what they promise."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api.listener import FLUSH_S
from service.settings import Settings

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
OVERLAYS = ("cpu", "cpu-keda", "gpu")
VERSIONS = ("1.31", "1.37")
"""Of Kubernetes: preStop `sleep` and unhealthyPodEvictionPolicy are on in the older one."""
# Custom resources: no schema ships with the validator, so their shape is checked here.
CUSTOM = {"ServiceMonitor", "ScaledObject"}

Manifest = dict[str, Any]


def read(path: str) -> Manifest:
    return yaml.safe_load((K8S / path).read_text(encoding="utf-8"))


def sources() -> list[Path]:
    """Manifests as they stand in the repository; patches and kustomize's own files left out."""
    folders = ("base", "components")
    paths = [path for folder in folders for path in (K8S / folder).rglob("*.yaml")]
    return sorted(path for path in paths if path.name != "kustomization.yaml")


@cache
def rendered(overlay: str, folder: Path = K8S) -> list[Manifest]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("expected kubectl to render overlays, got none; the sources are still read")
    command = [kubectl, "kustomize", str(folder / "overlays" / overlay)]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    return [one for one in yaml.safe_load_all(printed) if one]


def kind(name: str, manifests: list[Manifest]) -> Manifest:
    (found,) = (one for one in manifests if one["kind"] == name)
    return found


def deployment() -> Manifest:
    return read("base/deployment.yaml")


def pod() -> Manifest:
    return deployment()["spec"]["template"]["spec"]


def container() -> Manifest:
    (only,) = pod()["containers"]
    return only


def settings(one: Manifest) -> set[str]:
    return {each["name"] for each in one.get("env", [])}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_is_valid(path: Path, version: str) -> None:
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    if manifest["kind"] in CUSTOM:
        return  # its shape is tested below
    if manifest["kind"] == "Deployment":
        # kustomize writes the selector.
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        manifest["spec"]["selector"] = {"matchLabels": labels}

    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid(overlay: str, version: str) -> None:
    manifests = rendered(overlay)

    assert {one["kind"] for one in manifests} >= {"Deployment", "Service", "PodDisruptionBudget"}
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_validation_sees_a_field_that_does_not_exist() -> None:
    manifest = read("base/service.yaml")
    manifest["spec"]["sesionAffinity"] = "None"

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pods_they_mean(overlay: str) -> None:
    manifests = rendered(overlay)
    labels = kind("Deployment", manifests)["spec"]["template"]["metadata"]["labels"].items()
    service = kind("Service", manifests)
    monitor = kind("ServiceMonitor", manifests)["spec"]

    assert kind("Deployment", manifests)["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    budget = kind("PodDisruptionBudget", manifests)["spec"]["selector"]["matchLabels"]
    assert budget.items() <= labels
    policy = kind("NetworkPolicy", manifests)["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_every_file_is_used_by_a_kustomization() -> None:
    used = {
        (path.parent / name).resolve()
        for path in K8S.rglob("kustomization.yaml")
        for name in _files(yaml.safe_load(path.read_text(encoding="utf-8")))
    }
    written = {
        path.resolve()
        for path in K8S.rglob("*.yaml")
        if path.name != "kustomization.yaml" and path.parent.name != "adapter"
    }

    assert used == written


def _files(kustomization: Manifest) -> list[str]:
    patches = [one["path"] for one in kustomization.get("patches", []) if "path" in one]
    return [one for one in kustomization["resources"] if one.endswith(".yaml")] + patches


def test_a_pod_may_do_little() -> None:
    of_pod, of_container = pod()["securityContext"], container()["securityContext"]

    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["readOnlyRootFilesystem"] is True
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert pod()["automountServiceAccountToken"] is False
    assert read("base/network.yaml")["spec"]["egress"] == []


def test_the_pod_runs_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")

    of_pod = pod()["securityContext"]

    assert f"USER {of_pod['runAsUser']}:{of_pod['runAsGroup']}\n" in dockerfile
    assert f"EXPOSE {container()['ports'][0]['containerPort']}\n" in dockerfile


def test_the_grace_period_covers_the_drain() -> None:
    (grace,) = (one for one in container()["env"] if one["name"] == "ASR_SHUTDOWN_GRACE_S")
    waits_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod()["terminationGracePeriodSeconds"] >= waits_s + float(grace["value"]) + FLUSH_S + 5


def test_readiness_goes_before_the_process_does() -> None:
    probe = container()["readinessProbe"]
    waits_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert probe["periodSeconds"] * probe["failureThreshold"] <= waits_s


def test_probes_ask_routes_that_mean_them() -> None:
    asked = {
        name: container()[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "readiness", "liveness")
    }

    ready = "/readyz?saturated=ok"
    assert asked == {"startup": ready, "readiness": ready, "liveness": "/livez"}


def test_a_disruption_budget_holds_for_pods_that_are_not_ready_too() -> None:
    assert read("base/disruption.yaml")["spec"]["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"


def test_every_setting_that_is_given_is_one_of_the_service() -> None:
    patches = [read(f"overlays/{name}/resources.yaml") for name in ("cpu", "gpu")]
    patched = [one["spec"]["template"]["spec"]["containers"][0] for one in patches]
    given = set[str]().union(*map(settings, [container(), *patched]))

    assert "ASR_API_KEYS_FILE" in given
    assert {name.removeprefix("ASR_").lower() for name in given} <= Settings.model_fields.keys()


def test_no_secret_stands_in_a_manifest() -> None:
    (keys,) = (one["secret"] for one in pod()["volumes"] if one["name"] == "keys")
    (mount,) = container()["volumeMounts"]
    values = {one["name"]: one.get("value") for one in container()["env"]}
    documents = [
        one
        for path in K8S.rglob("*.yaml")
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]

    assert keys["secretName"] == "elastic-asr-keys"
    assert not keys.get("optional"), "a forgotten secret must not open the service"
    assert values["ASR_API_KEYS_FILE"] == f"{mount['mountPath']}/keys"
    assert values.keys().isdisjoint({"ASR_API_KEYS", "ASR_API_KEY"})
    assert all(one.get("kind") != "Secret" for one in documents)
    assert "secretGenerator" not in json.dumps(documents)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay_names_a_release_that_compose_names_too(overlay: str) -> None:
    (image,) = read(f"overlays/{overlay}/kustomization.yaml")["images"]
    compose = (ROOT / "compose.yaml").read_text(encoding="utf-8")

    assert f"image: {image['name']}:{image['newTag']}\n" in compose


def test_both_autoscalers_want_the_same() -> None:
    ours = read("base/autoscaler.yaml")["spec"]
    keda = read("components/keda/scaled-object.yaml")["spec"]
    targets = [one["pods"]["target"]["averageValue"] for one in ours["metrics"]]
    thresholds = [one["metadata"]["threshold"] for one in keda["triggers"]]

    assert [quantity(one) for one in targets] == [float(one) for one in thresholds]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == ours["behavior"]
    assert keda["minReplicaCount"] == ours["minReplicas"]
    assert keda["maxReplicaCount"] == ours["maxReplicas"]


def quantity(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def test_streams_leave_one_pod_at_a_time() -> None:
    down = read("base/autoscaler.yaml")["spec"]["behavior"]["scaleDown"]

    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    assert down["stabilizationWindowSeconds"] >= 300
    assert read("base/disruption.yaml")["spec"]["maxUnavailable"] == 1


def test_a_pod_takes_more_streams_than_the_autoscaler_aims_at() -> None:
    env = read("overlays/cpu/resources.yaml")["spec"]["template"]["spec"]["containers"][0]["env"]
    (most,) = (int(one["value"]) for one in env if one["name"] == "ASR_MAX_STREAMS")
    aim = quantity(
        read("base/autoscaler.yaml")["spec"]["metrics"][0]["pods"]["target"]["averageValue"]
    )

    assert aim <= 0.75 * most


def test_the_autoscaler_reads_what_the_adapter_offers() -> None:
    wanted = [
        one["pods"]["metric"]["name"] for one in read("base/autoscaler.yaml")["spec"]["metrics"]
    ]
    offered = [one["name"]["as"] for one in read("adapter/values.yaml")["rules"]["custom"]]

    assert wanted == offered


def test_the_number_of_pods_is_left_to_the_autoscaler() -> None:
    assert "replicas" not in deployment()["spec"]


def test_custom_resources_have_the_fields_that_their_operators_need() -> None:
    monitor = read("components/service-monitor/service-monitor.yaml")
    scaled = read("components/keda/scaled-object.yaml")

    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    for endpoint in monitor["spec"]["endpoints"]:
        assert endpoint.keys() == {"port", "path", "interval", "scrapeTimeout"}
        assert re.fullmatch(r"\d+s", endpoint["interval"])
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment()["metadata"]["name"]
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["type"] == "prometheus"
        assert trigger["metricType"] == "AverageValue"
        assert trigger["metadata"].keys() == {
            *("serverAddress", "query", "threshold", "ignoreNullValues")
        }
        assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_keda_counts_the_pods_of_its_own_namespace_alone() -> None:
    overlay = read("overlays/cpu-keda/kustomization.yaml")
    sources = [
        one["metadata"] for one in read("components/keda/scaled-object.yaml")["spec"]["triggers"]
    ]
    scaled = kind("ScaledObject", rendered("cpu-keda"))

    for trigger in [*sources, *(one["metadata"] for one in scaled["spec"]["triggers"])]:
        assert f'{{namespace="{overlay["namespace"]}",' in trigger["query"]
    assert scaled["metadata"]["namespace"] == overlay["namespace"]


def test_keda_asks_for_the_namespace_that_an_overlay_of_ones_own_names(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    path = tmp_path / "k8s" / "overlays" / "cpu-keda" / "kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("namespace: elastic-asr", "namespace: captions"), encoding="utf-8")

    scaled = kind("ScaledObject", rendered("cpu-keda", tmp_path / "k8s"))

    for trigger in scaled["spec"]["triggers"]:
        assert '{namespace="captions",job="elastic-asr"' in trigger["metadata"]["query"]


def test_keda_takes_the_place_of_the_autoscaler() -> None:
    kinds = [one["kind"] for one in rendered("cpu-keda")]

    assert "ScaledObject" in kinds
    assert "HorizontalPodAutoscaler" not in kinds
