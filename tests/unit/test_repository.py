"""The files around the code: what they promise exists, and they name no machine."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from model_store.training.config import RunConfig, load_run
from service.cli import main

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROSE = ("README.md", "CONTRIBUTING.md")
# Brackets keep these patterns from matching themselves.
MACHINE_PATH = re.compile(r"/(?:[w]ork|[f]arm|[r]oot)/|/tmp/[a-z]|[.]library|[.][.]/[s]hared")
REGISTRY_HOST = re.compile(r"(?:[p]ypi|[p]ythonhosted|[n]pmjs|[d]eb[.]debian)[.](?:org|com)")


def tracked_texts() -> dict[str, str]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("expected a git checkout, got an unpacked copy")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    texts: dict[str, str] = {}
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and b"\0" not in (head := path.read_bytes()[:4096]) and head:
            texts[name] = path.read_text(encoding="utf-8", errors="ignore")
    return texts


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    lines = project["dependencies"] + [line for rows in extras.values() for line in rows]
    return [one for one in map(Requirement, lines) if one.name != project["name"]]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in rows}


def make_targets() -> dict[str, str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):[^=\n]*?## (.+)$", makefile, re.MULTILINE))


def commands_in(prose: str) -> list[str]:
    text = (ROOT / prose).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in fenced for line in block.splitlines() if line.strip()]


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)

    assert sorted(phony[0].split()) == sorted(make_targets())


@pytest.mark.parametrize("prose", PROSE)
def test_every_make_command_in_prose_exists(prose: str) -> None:
    text = (ROOT / prose).read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)\b(?=`|\n|$|  | [A-Z]+=|;)", text))

    assert named
    assert named <= set(make_targets())


@pytest.mark.parametrize("prose", PROSE)
def test_every_recipe_and_benchmark_named_in_prose_exists(prose: str) -> None:
    text = (ROOT / prose).read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m ((?:model_store|benchmarks|service)[\w.]*)", text))

    missing = [
        name
        for name in modules
        if not (ROOT / (name.replace(".", "/") + ".py")).exists()
        and not (ROOT / name.replace(".", "/") / "__main__.py").exists()
    ]

    assert not missing


@pytest.mark.parametrize("prose", PROSE)
def test_every_asr_command_in_prose_exists(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (line.split() for line in commands_in(prose) if line.startswith("asr ")):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([words[1], "--help"])

        usage = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in usage] == []


def test_every_file_named_in_the_readme_tree_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block
    names = [line.split()[0] for line in block.group(1).splitlines() if line.strip()]

    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken: list[str] = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text("utf-8"))
        broken += [
            f"{document.name}: {link}" for link in links if not (document.parent / link).exists()
        ]

    assert not broken


def test_every_test_that_the_security_page_names_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))

    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_dependency_is_pinned_inside_its_range() -> None:
    pinned = pins()
    unpinned = {"torchaudio"}  # has to match torch, so it is never pinned beside it

    outside = [
        str(one)
        for one in requirements()
        if one.name not in unpinned
        and pinned.get(canonicalize_name(one.name), "absent") not in one.specifier
    ]

    assert not outside


@pytest.mark.parametrize(
    ("package", "version"), [("python-multipart", "0.0.26"), ("starlette", "1.3.0")]
)
def test_a_release_with_a_known_vulnerability_cannot_be_installed(
    package: str, version: str
) -> None:
    ranges = [one.specifier for one in requirements() if one.name == package]

    assert ranges
    assert all(version not in specifier for specifier in ranges)


def test_serving_needs_no_training_stack() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    serving = PYPROJECT["project"]["dependencies"] + extras["serve"]
    names = {Requirement(line).name for line in serving}

    assert names.isdisjoint({"torch", "torchaudio", "transformers", "onnx", "elastic-asr"})


def test_every_shipped_run_is_read_without_an_unknown_key() -> None:
    runs = sorted((ROOT / "model_store" / "recipes" / "runs").glob("*.toml"))

    assert runs
    assert all(isinstance(load_run(path), RunConfig) for path in runs)


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    named = [
        f"{name}: {found.group()}"
        for name, text in tracked_texts().items()
        for pattern in (MACHINE_PATH, REGISTRY_HOST)
        if (found := pattern.search(text))
    ]

    assert not named
