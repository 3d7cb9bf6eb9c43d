"""`--bless` writes golden files anew; PeachPy is taken from where `make encodings` put it; markers that name
a machine skip a test on any other, with their reason."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from native import EMULATED, PATIENCE

PEACHPY = Path(__file__).parent.parent / "build/peachpy/usr/lib/python3/dist-packages"
if PEACHPY.is_dir():  # before neurojit is imported, which freezes the configuration
    os.environ.setdefault("PEACHPY_PATH", str(PEACHPY))

from operands import TARGETS, runnable_isas  # noqa: E402 (imports neurojit)

# A first call compiles, so examples differ in time by orders of magnitude.
settings.register_profile("neurojit", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=5000)  # --hypothesis-profile=explore
settings.load_profile("neurojit")

WITHOUT_A_MACHINE = ("ir", "passes")  # folders of tests of plain Python, the same on every host
MACHINES = {"x86_64": ("x86_64", "AMD64"), "aarch64": ("aarch64", "arm64")}

Child = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write golden files anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what a marker says does not belong on this machine: for one reason, the first."""
    foreign = [name for name, machines in MACHINES.items() if platform.machine() not in machines]
    for item in items:
        if EMULATED and item.path.parent.name in WITHOUT_A_MACHINE:
            item.add_marker(pytest.mark.skip(reason="not emulated: plain Python, the same on every host"))
        for name in [*foreign, *(["not_emulated"] if EMULATED else [])]:
            mark = item.get_closest_marker(name)
            if mark is not None:
                item.add_marker(pytest.mark.skip(reason=f"{name.replace('_', ' ')}: {mark.args[0]}"))


@pytest.fixture
def child() -> Child:
    """Runs a script in a fresh interpreter that can import neurojit and this folder's modules."""

    def run(script: str, timeout: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
        variables = {**os.environ, "PYTHONPATH": path, **environment}
        return subprocess.run(
            [sys.executable, "-c", script],
            env=variables, capture_output=True, text=True, timeout=timeout * PATIENCE,
        )  # fmt: skip

    return run


@pytest.fixture(params=runnable_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An ISA, for which programs are compiled meanwhile: each that this machine can run, in turn."""
    monkeypatch.setattr("neurojit.contract.host_target", lambda: TARGETS[request.param])
    name: str = request.param
    return name


@pytest.fixture
def cold() -> Iterator[None]:
    """No kernel is published, none is refused, nothing has fallen back."""
    from neurojit import compiler, numpy_matmul
    from neurojit.runtime import SLOTS

    def forget() -> None:
        SLOTS.evict_bytes(1 << 62)
        compiler._refused.clear()
        numpy_matmul.fallbacks.clear()

    forget()
    yield
    forget()
