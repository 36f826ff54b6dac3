"""What HAProxy is told, so that its servers are the replicas that run, by their load.

Servers come and go over its admin socket, and no configuration is ever read again: a reload would
leave open streams to an old process that knows nobody new.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.fleet.picking import balancer_weights
from service.fleet.view import Member

BACKEND = "fleet"
CHECKS = "check inter 1s fastinter 200ms fall 3 rise 1 on-marked-down shutdown-sessions"
"""By a connection and no request: a replica that is busy is not gone. When a machine is, streams
that were on it are told at once, and not when their packets have waited for many minutes."""
ASK_FOR_SERVERS = f"show stat {BACKEND} 4 -1"


@dataclass(frozen=True, slots=True)
class Server:
    """A replica, as HAProxy knows it.

    Args:
        connections: open ones.
        weight: 0 when it is to get no more.
    """

    connections: int
    weight: int


def read_servers(answer: str) -> dict[str, Server]:
    """Read the answer to `ASK_FOR_SERVERS`."""
    rows = csv.DictReader(answer.removeprefix("# ").splitlines())
    return {row["svname"]: Server(int(row["scur"]), int(row["weight"])) for row in rows}


def changes(servers: Mapping[str, Server], members: Mapping[str, Member]) -> list[str]:
    """Give the commands that make servers of members.

    Who is no longer a member gets no new connection, and is forgotten once all of its own have ended.

    Args:
        servers: that HAProxy has, by name.
        members: replicas that run. Those that have not said where they are do not count.
    """
    reachable = {name: one for name, one in members.items() if one.address is not None}
    weights = balancer_weights({name: one.report for name, one in reachable.items()})
    commands: list[str] = []
    for name, member in reachable.items():
        if name not in servers:
            commands += _added(name, member, weights[name])
        elif servers[name].weight != weights[name]:
            commands.append(_weighed(name, weights[name]))
    for name in servers.keys() - reachable.keys():
        commands += _dismissed(name, servers[name])
    return commands


def _added(name: str, member: Member, weight: int) -> Iterator[str]:
    yield f"add server {BACKEND}/{name} {member.address} {CHECKS} weight {weight}"
    yield f"enable health {BACKEND}/{name}"
    yield f"enable server {BACKEND}/{name}"


def _weighed(name: str, weight: int) -> str:
    return f"set server {BACKEND}/{name} weight {weight}"


def _dismissed(name: str, server: Server) -> Iterator[str]:
    if not server.connections:
        yield f"set server {BACKEND}/{name} state maint"
        yield f"del server {BACKEND}/{name}"
    elif server.weight:
        yield _weighed(name, 0)
