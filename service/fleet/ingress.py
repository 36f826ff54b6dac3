"""Where the fleet is entered: HAProxy, kept by an actor that tells it who runs.

It stands on the head node. When that node is lost the cluster is; when the actor or HAProxy ends, Ray
starts both again.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from service.errors import SettingsInvalid
from service.fleet.haproxy import HAProxy, haproxy_config
from service.fleet.membership import Membership, controller_id
from service.fleet.servers import ASK_FOR_SERVERS, changes, read_servers
from service.fleet.view import Member
from service.logs import configure_logs
from service.settings import Settings

logger = logging.getLogger(__name__)

NAME, NAMESPACE = "ingress", "elastic-asr"
HEAD = "node:__internal_head__"
"""The resource that Ray gives to the head node alone."""
A_LITTLE = 0.001
LOOK_EVERY_S = 1.0
REST_S = 0.1
"""Between two looks: reports of many replicas come one by one."""
READY_S = 30.0


class Ingress:
    """The actor.

    Args:
        settings: of the service.
        app_name, deployment: whose replicas it leads to.
    """

    def __init__(self, settings: Settings, app_name: str, deployment: str) -> None:
        configure_logs(settings.log_level, settings.log_format)
        self._duty = duty_of(settings)
        self._replicas = app_name, deployment
        self._members: Mapping[str, Member] = {}
        self._leads_somewhere = threading.Event()
        self._haproxy = HAProxy(settings).__enter__()
        # The actor's own thread answers; this one lives as long as the process does.
        threading.Thread(target=self._run, daemon=True).start()

    def ready(self) -> bool:
        """Wait until a replica can be reached, and tell whether one can."""
        return self._leads_somewhere.wait(READY_S)

    def end(self) -> None:
        """End HAProxy, and what streams are left with it."""
        self._haproxy.__exit__()

    def duty(self) -> tuple[str, str]:
        """Tell what it does, as `duty_of` does."""
        return self._duty

    def _run(self) -> None:
        try:
            asyncio.run(self._balance())
        except OSError:
            logger.exception("HAProxy does not answer")
        finally:
            self._haproxy.__exit__()
            # Ray starts anew what has ended, and cannot know of a thread.
            os._exit(1)

    async def _balance(self) -> None:
        news = asyncio.Event()

        def learn(members: Mapping[str, Member]) -> None:
            self._members = members
            news.set()

        membership = Membership(*self._replicas, NAME, learn)
        while not self._haproxy.has_ended:
            servers = read_servers(await self._haproxy.tell([ASK_FOR_SERVERS]))
            await self._haproxy.tell(changes(servers, self._members))
            if any(one.address is not None for one in self._members.values()):
                self._leads_somewhere.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await news.wait()
            news.clear()
            await asyncio.sleep(REST_S)
        membership.stop()
        logger.error("HAProxy has ended")


def duty_of(settings: Settings) -> tuple[str, str]:
    """Give what an ingress has to do: as which HAProxy, and whom it has to listen to.

    What else settings say is the replicas' business, and no reason to end streams.
    """
    return haproxy_config(settings, Path()), controller_id()


def head_address() -> str:
    """Give the address of the head node."""
    nodes: list[dict[str, Any]] = ray.nodes()  # Any: Ray's JSON
    return next(one["NodeManagerAddress"] for one in nodes if HEAD in one["Resources"])


def lead_in(settings: Settings, app_name: str, deployment: str) -> None:
    """Have the ingress run as settings say; one that does goes on, and so do the streams through it.

    Raises:
        SettingsInvalid: it cannot.
    """
    with suppress(ValueError):  # there is none
        there: Any = ray.get_actor(NAME, namespace=NAMESPACE)
        duty: Any = ray.get(there.duty.remote())
        if duty == duty_of(settings):
            return
        _end(there)
    actor: Any = ray.remote(Ingress)
    made = actor.options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        resources={HEAD: A_LITTLE},
        max_restarts=-1,
        max_concurrency=2,
    ).remote(settings, app_name, deployment)
    try:
        ray.get(made.ready.remote())
    except RayActorError as error:
        raise SettingsInvalid(f"expected HAProxy to start, got {error}") from error


def lead_nowhere() -> None:
    """End the ingress, and what streams are left with it."""
    with suppress(ValueError):
        _end(ray.get_actor(NAME, namespace=NAMESPACE))


def _end(actor: Any) -> None:  # noqa: ANN401 what Ray makes of a class has no type
    with suppress(RayActorError):  # it ends itself when HAProxy does
        ray.get(actor.end.remote())
    ray.kill(actor)
