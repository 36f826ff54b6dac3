"""The files that other programs read are what Ray Serve takes; no cluster is started."""

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own, at its own code
]

ROOT = Path(__file__).parents[2]


def shipped() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text("utf-8"))


def test_serve_takes_the_config_file() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(shipped())

    assert config.applications[0].import_path == "service.fleet.application:build"


def test_the_builder_makes_one_deployment_with_our_policy_and_our_router() -> None:
    from ray.serve.config import AutoscalingConfig

    from service.fleet.application import build
    from service.fleet.autoscaling import ScalingPolicy
    from service.fleet.routing import LeastLoadRouter

    deployment = build(shipped()["applications"][0]["args"])._bound_deployment
    config = deployment._deployment_config
    scaling = config.autoscaling_config

    assert isinstance(scaling, AutoscalingConfig)
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 8)
    assert scaling.policy.get_policy() is ScalingPolicy
    assert config.request_router_config.get_request_router_class() is LeastLoadRouter
    assert config.graceful_shutdown_timeout_s == 30.0


def test_a_replica_has_its_cores_and_as_many_threads() -> None:
    from service.fleet.application import application
    from service.settings import Settings

    made = application(Settings(replica_cores=2.5, engine_threads=8))
    deployment = made._bound_deployment
    settings, *_ = deployment.init_args
    options = cast("dict[str, Any]", deployment.ray_actor_options)

    assert options["num_cpus"] == 2.5
    assert options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"
    assert settings.engine_threads == 2
    assert settings.metrics_port == 0
