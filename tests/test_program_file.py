"""Programs saved, loaded and pickled; files that were damaged in every way."""

from __future__ import annotations

import os
import pickle
import resource
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networks
import numpy as np
import pytest
from networks import Net
from operands import plain

import neurojit as nj
from neurojit import program_file
from neurojit.errors import ProgramFileError


@pytest.fixture
def program() -> nj.Program:
    """Weights of two shapes, a state."""
    net = Net()
    b, x = net.b, net.input("x", 2, 3)
    before = net.state("count", 2, 4, initial=0.5)
    after = b.add(before, net.dense(x, "0", 3, 4, "tanh"))
    b.state_write(after, name="count")
    module, weights = net.module(after)
    return nj.compile(module, weights)


X = plain(1, (2, 3))


@pytest.fixture
def saved(program: nj.Program, tmp_path: Path) -> Path:
    pytest.importorskip("safetensors")
    program(X)
    program.save(tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def same(one: nj.Program, other: nj.Program) -> None:
    assert other.compiled == one.compiled
    assert other.ir == one.ir
    assert dict(other.weights).keys() == dict(one.weights).keys()
    for _ in range(3):
        np.testing.assert_array_equal(other(X), one(X))


def test_a_loaded_program_goes_on_where_the_saved_one_was(program: nj.Program, saved: Path) -> None:
    same(program, nj.load(saved))
    same(nj.load(str(saved)), nj.load(saved))


def test_a_pickled_program_goes_on_where_the_pickled_one_was(program: nj.Program) -> None:
    program(X)
    program.weights["b0"] = np.ones(4, np.float32)
    content = pickle.dumps(program)
    same(program, pickle.loads(content))
    assert len(content) < 4000  # text and numbers
    assert program.listing()[:40].encode() not in content


@pytest.mark.parametrize("batch", ["?", 3])
def test_dynamic_extents_and_many_types(batch: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    net = Net("f64")
    b, x = net.b, net.input("x", batch, 5)
    scalar = b.weight(name="s", type="tensor<f64>")
    chosen = b.select(b.weight(name="mask", type="tensor<5xi1>"), x, scalar)
    half = b.convert(b.weight(name="half", type="tensor<5xbf16>"), dtype="f64")
    module, _ = net.module(b.add(chosen, half))
    weights = {
        "s": np.array(0.1),
        "mask": np.arange(5) % 2 == 0,
        "half": np.array([0x3F80, 0x4000, 0, 0x8000, 0x7FC0], np.uint16),
    }
    one = nj.compile(module, weights)
    one.save(tmp_path / "p")
    data = plain(1, (3, 5), np.float64)
    np.testing.assert_array_equal(nj.load(tmp_path / "p")(data), one(data))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(data), one(data))


def test_a_traced_program_is_saved_too(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    w = plain(2, (3, 8))
    function = nj.jit(lambda x: np.tanh(x @ w))
    function.program(X).save(tmp_path / "p")
    np.testing.assert_array_equal(nj.load(tmp_path / "p")(X), function(X))


def test_a_file_truncated_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(len(content)):
        saved.write_bytes(content[:length])
        with pytest.raises(ProgramFileError, match=r"p.safetensors: (no safetensors file|format|damaged)"):
            nj.load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ProgramFileError):
        nj.load(saved)


def test_a_flipped_bit_anywhere_is_refused(program: nj.Program, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    for place in range(len(content)):
        for bit in (0, 3, 5, 7):
            content[place] ^= 1 << bit
            saved.write_bytes(content)
            with pytest.raises(ProgramFileError):
                nj.load(saved)
            content[place] ^= 1 << bit
    saved.write_bytes(content)
    same(program, nj.load(saved))


def test_an_oversized_header_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (1 << 62, 1 << 40, 200_000_000, len(content)):
        saved.write_bytes(length.to_bytes(8, "little") + content[8:])
        with pytest.raises(ProgramFileError, match="no safetensors file, or damaged"):
            nj.load(saved)


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    numpy_format = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "other"
    for metadata in (None, {"neurojit": "2", "ir": "", "checksum": ""}, {"neurojit": "1"}):
        path.write_bytes(numpy_format.save({"x": X}, metadata))
        with pytest.raises(ProgramFileError, match="format of a neurojit program: expected 1, got"):
            nj.load(path)
    path.write_bytes(pickle.dumps(X))
    with pytest.raises(ProgramFileError, match="no safetensors file"):
        nj.load(path)
    with pytest.raises(ProgramFileError, match="expected a regular file"):
        nj.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ProgramFileError, match="expected a regular file"):
        nj.load(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError):
        nj.load(tmp_path / "nothing")


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(program: nj.Program, saved: Path) -> None:
    before = saved.read_bytes()
    program.weights["b0"] = np.ones(4, np.float32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            program.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
    program.save(saved)
    np.testing.assert_array_equal(nj.load(saved).weights["b0"], np.ones(4))
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~mask
    with pytest.raises(FileNotFoundError):
        program.save(saved.parent / "nowhere" / "p")


def test_without_safetensors_the_error_says_what_to_install(
    program: nj.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    load = nj.load  # which is imported itself when first asked for
    monkeypatch.setattr(program_file.importlib, "import_module", absent)
    with pytest.raises(ImportError, match="pip install safetensors"):
        program.save(tmp_path / "p")
    with pytest.raises(ImportError, match="pip install safetensors"):
        load(tmp_path / "p")
    assert not os.listdir(tmp_path)


def test_an_interpreted_program_is_saved_and_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    module, weights = networks.perceptron((3, 4, 2), 2)
    none = SimpleNamespace(isa=SimpleNamespace(name="none"), reason="this test has none")
    monkeypatch.setattr("neurojit.contract.host_choice", lambda: none)
    one = nj.compile(module, weights)
    assert not one.compiled
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(X), one(X))
