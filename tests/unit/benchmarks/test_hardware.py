import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hardware import (
    FLAGS_OF_INTEREST,
    Hardware,
    installed_versions,
    parse_cpuinfo,
    read_commit,
    read_environment,
)

ZEN_4 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni

processor\t: 1
model name\t: another
flags\t\t: amx_tile
"""
GRAVITON = """\
processor\t: 0
Features\t: fp asimd asimddp bf16
CPU implementer\t: 0x41
"""


def hardware(processor: str) -> Hardware:
    return Hardware(processor, ("avx2",), cores=2, usable_cores=1, memory_bytes=1, system="Linux")


def test_a_processor_is_named_with_the_family_that_tells_its_generation() -> None:
    assert parse_cpuinfo(ZEN_4).name == "AMD EPYC (family 25, model 17)"


def test_only_the_first_processor_is_read() -> None:
    assert parse_cpuinfo(ZEN_4).flags == ("avx2", "avx512", "vnni", "bf16")


def test_arm_features_are_read_as_flags() -> None:
    assert parse_cpuinfo(GRAVITON).flags == ("bf16", "dotprod")


@given(st.text())
def test_any_cpuinfo_gives_a_name_and_known_flags(text: str) -> None:
    processor = parse_cpuinfo(text)

    assert processor.name
    assert set(processor.flags) <= set(FLAGS_OF_INTEREST)


@given(st.text(min_size=1))
def test_a_slug_is_safe_in_a_file_name(processor: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", hardware(processor).slug)


def test_the_slug_says_processor_and_cores() -> None:
    slug = hardware("AMD EPYC (family 25, model 17)").slug

    assert slug == "amd-epyc-family-25-model-17-2c"


def test_a_package_that_is_not_installed_is_left_out() -> None:
    versions = installed_versions(["numpy", "no-such-package-of-anyone"])

    assert sorted(versions) == ["numpy", "python"]


def test_a_folder_outside_git_has_no_commit(tmp_path: Path) -> None:
    assert read_commit(tmp_path) is None


def test_this_machine_can_be_described() -> None:
    environment = read_environment(["numpy"])

    assert environment.hardware.memory_bytes > 2**20
    assert 1 <= environment.hardware.usable_cores <= environment.hardware.cores
    assert environment.versions["numpy"]


@pytest.mark.parametrize("flag", sorted(FLAGS_OF_INTEREST))
def test_every_flag_is_found_by_each_of_its_names(flag: str) -> None:
    for name in FLAGS_OF_INTEREST[flag]:
        assert parse_cpuinfo(f"flags : {name}").flags == (flag,)
