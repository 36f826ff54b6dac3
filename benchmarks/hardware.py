"""The machine and the software a figure was measured on, for every result file."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

# What decides which kernels run, and the names the kernel lists it under (x86 and Arm).
FLAGS_OF_INTEREST: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "avx2": ("avx2",),
        "avx512": ("avx512f",),
        "vnni": ("avx512_vnni", "avx_vnni"),
        "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
        "amx": ("amx_tile",),
        "dotprod": ("asimddp",),
    }
)
PACKAGES = ("numpy", "onnxruntime", "torch", "ctranslate2", "faster-whisper", "tokenizers")


@dataclass(frozen=True, slots=True)
class Processor:
    """One processor model; `flags` are the keys of `FLAGS_OF_INTEREST` that it has."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. `usable_cores` are those this process may run on, fewer under `taskset`."""

    processor: str
    flags: tuple[str, ...]
    cores: int
    usable_cores: int
    memory_bytes: int
    system: str

    @property
    def slug(self) -> str:
        """The machine in a file name: `amd-epyc-zen4-2c`."""
        words = re.sub(r"[^a-z0-9]+", "-", self.processor.lower()).strip("-")
        return f"{words}-{self.cores}c"


@dataclass(frozen=True, slots=True)
class Commit:
    """The revision measured; `dirty` when tracked files differed from it."""

    sha: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Environment:
    """All that a result file says about where it came from."""

    hardware: Hardware
    versions: dict[str, str]
    commit: Commit | None


def read_environment(packages: Iterable[str] = PACKAGES) -> Environment:
    """Describe this machine, the packages that are installed, and the checked-out commit.

    Returns:
        An environment whose `commit` is None outside a git checkout.
    """
    return Environment(
        hardware=read_hardware(),
        versions=installed_versions(packages),
        commit=read_commit(Path(__file__).parent),
    )


def read_hardware() -> Hardware:
    """Describe this machine; where /proc is missing, by what the platform module knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        processor = parse_cpuinfo(cpuinfo.read_text())
    else:
        processor = Processor(platform.processor() or platform.machine(), flags=())
    cores = os.cpu_count() or 1
    return Hardware(
        processor=processor.name,
        flags=processor.flags,
        cores=cores,
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def parse_cpuinfo(text: str) -> Processor:
    """Read the first processor of a `/proc/cpuinfo`.

    Hypervisors shorten the name to the brand, so family and model stand beside it: they tell the
    generations apart.
    """
    fields = {
        key.strip().lower(): value.strip()
        for key, _, value in (
            line.partition(":") for line in text.split("\n\n", maxsplit=1)[0].splitlines()
        )
    }
    present = set((fields.get("flags") or fields.get("features") or "").split())
    name = fields.get("model name") or fields.get("cpu implementer") or "unknown"
    if "cpu family" in fields:
        name = f"{name} (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return Processor(
        name=name,
        flags=tuple(flag for flag, names in FLAGS_OF_INTEREST.items() if present & set(names)),
    )


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return Python's version and those of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # its absence is the answer: this run cannot have used it
    return versions


def read_commit(folder: Path) -> Commit | None:
    """Ask git which commit `folder` stands at; None outside a checkout or without git."""
    try:
        sha = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return Commit(sha=sha, dirty=bool(changed))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
