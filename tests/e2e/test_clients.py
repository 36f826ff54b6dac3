"""The clients that come with the server: the command line, and the example in the documents."""

import json
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.server_process import Server, started
from tests.service_kit import PATIENCE_S, wav_bytes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
EXAMPLE_LINES = 30


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with started(engine="fake") as server:
        yield server


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(wav_bytes(2.0, rate_hz=48_000))
    return path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def example() -> str:
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_example_in_the_documents_prints_captions(
    server: Server, recording: Path, tmp_path: Path
) -> None:
    program = tmp_path / "client.py"
    program.write_text(example())

    finished = run(str(program), str(recording), f"ws://127.0.0.1:{server.port}")

    assert finished.stderr == ""
    assert finished.returncode == 0
    assert finished.stdout == "   0.00 s  8.0 layers  alpha bravo charlie delta\n"


def test_the_example_says_why_a_server_refuses_it(
    server: Server, recording: Path, tmp_path: Path
) -> None:
    program = tmp_path / "client.py"
    program.write_text(example().replace("drop=auto", "drop=7"))

    finished = run(str(program), str(recording), f"ws://127.0.0.1:{server.port}")

    assert finished.returncode == 1
    assert finished.stderr.startswith("drop_out_of_range: ")


def test_the_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= EXAMPLE_LINES


def test_the_command_line_streams_a_file(server: Server, recording: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"

    finished = run("-m", "service", "stream", str(recording), "--url", url, "--drop", "0.5")

    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "um bravo um delta\n"


def test_json_lines_hold_what_the_server_said(server: Server, recording: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"

    finished = run("-m", "service", "stream", str(recording), "--url", url, "--json")

    messages = [json.loads(line) for line in finished.stdout.splitlines()]
    assert messages[0]["type"] == "ready"
    assert messages[-1]["type"] == "done"
    assert [message["text"] for message in messages if message["type"] == "final"] == [
        "alpha bravo charlie delta"
    ]


def test_a_policy_that_the_server_does_not_have_is_refused_in_its_words(
    server: Server, recording: Path
) -> None:
    url = f"http://127.0.0.1:{server.port}"

    finished = run("-m", "service", "stream", str(recording), "--url", url, "--policy", "dance")

    assert finished.returncode == 1
    assert "(policy_unknown)" in finished.stderr
    assert "Traceback" not in finished.stderr
