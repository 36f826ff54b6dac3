import socket
import subprocess
import sys

import pytest

from service.errors import SettingsInvalid
from service.fleet.deploy import run_here, run_on
from service.settings import Settings


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(SettingsInvalid, match="to be free, got one in use"):
            run_here(Settings(port=taken.getsockname()[1]))


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_said_at_once(scheme: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{probe.getsockname()[1]}"

        with pytest.raises(SettingsInvalid, match=f"expected a Ray cluster at {address}"):
            run_on(address, Settings())


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


def test_serving_imports_no_ray() -> None:
    done = run_python(
        "import sys, service.app, service.cli.main, service.cli.serve, service.fleet\n"
        "service.cli.main(['settings'])\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'ray']"
    )

    assert done.returncode == 0, done.stderr


def test_without_ray_the_command_says_what_to_install() -> None:
    done = run_python(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
        "from service.cli import main\n"
        "sys.exit(main(['fleet', '--engine', 'fake']))"
    )

    assert done.returncode == 2
    assert "expected the extra ray for asr fleet, found no Ray" in done.stderr
    assert "pip install 'elastic-asr[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
