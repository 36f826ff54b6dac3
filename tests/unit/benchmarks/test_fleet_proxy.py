import os
import subprocess
import sys
from typing import Any

from benchmarks.fleet_proxy import SERVERS, added, carried
from benchmarks.fleet_server import descendants


def row(server: str, streams: int, p95: float, cpu: float = 0.1, *errors: str) -> dict[str, Any]:
    lag_s = {"p50": p95 / 2, "p95": p95}
    named = {"server": server, "streams": streams, "server_cpu": cpu}
    return {**named, "lag_s": lag_s, "errors": list(errors)}


def test_the_most_streams_below_the_limit_are_carried() -> None:
    rows = [row("serve", 4, 0.3), row("serve", 8, 0.9), row("serve", 16, 1.2)]

    assert carried(rows, "serve") == 8


def test_a_number_beyond_one_that_failed_does_not_count() -> None:
    rows = [row("serve", 4, 0.3), row("serve", 8, 1.4), row("serve", 16, 0.5)]

    assert carried(rows, "serve") == 4


def test_a_stream_that_was_lost_is_not_carried() -> None:
    assert carried([row("haproxy", 4, 0.3, 0.1, "1013")], "haproxy") == 0


def test_what_a_fleet_has_more_is_told_where_both_were_measured() -> None:
    rows = [
        row("serve", 4, 0.2, 0.3),
        row("ray", 4, 0.3, 0.45),
        row("haproxy", 4, 0.2, 0.35),
        row("ray", 8, 0.5),
    ]

    assert added(rows) == [
        {"server": "ray", "streams": 4, "lag_p50_s": 0.05, "lag_p95_s": 0.1, "cpu": 0.15},
        {"server": "haproxy", "streams": 4, "lag_p50_s": 0.0, "lag_p95_s": 0.0, "cpu": 0.05},
    ]


def test_each_way_in_is_another_setting_of_the_fleet() -> None:
    ways = {name: server(0, {})._environment for name, server in SERVERS.items()}

    assert "ASR_FLEET_INGRESS" not in ways["serve"]
    assert ways["haproxy"]["ASR_FLEET_INGRESS"] == "haproxy"
    assert ways["ray"]["ASR_FLEET_INGRESS"] == "ray"


def test_processes_below_one_are_found_with_those_below_them() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        while len(found := descendants(os.getpid())) < 2:
            pass
        assert child.stdin is not None
        child.stdin.close()

    assert child.pid in found
