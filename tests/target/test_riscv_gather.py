"""csrc/cpu_riscv.c, with the kernel's answers injected: qemu-user 7 has no riscv_hwprobe of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from native import CSRC, EMULATED, STRICT

COMPILER, QEMU = "riscv64-linux-gnu-gcc", "qemu-riscv64"
HERE = Path(__file__).parent
V, ZBA = 1 << 2, 1 << 3
DEFAULT, OFF, ON = 0, 1, 2  # PR_RISCV_V_VSTATE_CTRL_*, the current state
KNOWN_KEYS = ["0 100", "1 101", "2 102", "3 103"]

pytestmark = pytest.mark.skipif(
    EMULATED or not (shutil.which(COMPILER) and shutil.which(QEMU)), reason=f"needs {COMPILER} and {QEMU}"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("riscv")
    gather, made = folder / "cpu_riscv.o", folder / "cpu_riscv_test"
    flags = [COMPILER, *STRICT, "-O1"]
    fakes = ["-include", str(HERE / "cpu_riscv_fakes.h")]
    subprocess.run([*flags, *fakes, "-c", str(CSRC / "cpu_riscv.c"), "-o", str(gather)], check=True)
    sources = [str(HERE / "cpu_riscv_test.c"), str(CSRC / "cpu.c"), str(gather)]
    subprocess.run([*flags, "-static", *sources, "-o", str(made)], check=True)
    return made


def gathered(program: Path, result: int, extensions: int, control: int, cpu: str) -> list[str]:
    command = [QEMU, "-cpu", cpu, str(program), str(result), str(extensions), str(control)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "riscv64"
    return lines[1:]


@pytest.mark.parametrize(("vlen", "vlenb"), [(128, 16), (256, 32), (512, 64)])
@pytest.mark.parametrize("control", [ON, DEFAULT])
def test_vector_length_is_read_where_there_is_a_vector_unit(
    program: Path, vlen: int, vlenb: int, control: int
) -> None:
    lines = gathered(program, 0, V | ZBA, control, f"rv64,v=true,vlen={vlen}")
    assert lines == [
        *KNOWN_KEYS, f"4 {V | ZBA}", "5 105", "9 109", "-1 110", f"control {control}", f"vlenb {vlenb}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("extensions", "control"),
    [(ZBA, ON), (V, OFF), (V, OFF | ON << 2)],
    ids=["no V", "off", "off until exec"],
)
def test_a_vector_unit_that_is_not_to_be_used_is_not_asked(
    program: Path, extensions: int, control: int
) -> None:
    """The CPU of this test has no V: reading vlenb would end the program."""
    lines = gathered(program, 0, extensions, control, "rv64,v=false")
    assert lines == [*KNOWN_KEYS, f"4 {extensions}", "5 105", "9 109", "-1 110", f"control {control}"]


def test_kernels_without_the_prctl_have_no_switch(program: Path) -> None:
    lines = gathered(program, 0, V, -1, "rv64,v=true,vlen=128")
    assert lines[-2:] == ["-1 110", "vlenb 16"]


def test_without_hwprobe_nothing_is_known(program: Path) -> None:
    assert gathered(program, -1, V, ON, "rv64,v=true") == []
