"""Other libraries' arrays, by DLPack: read where they are, written where they are."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
from operands import plain

import neurojit as nj


class Exported:
    """Some other library's array on the CPU."""

    def __init__(self, array: Any) -> None:
        self.array, self.exports = array, 0

    def __dlpack__(self, **keywords: Any) -> Any:
        self.exports += 1
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class OnAnotherDevice(Exported):
    def __dlpack__(self, **keywords: Any) -> Any:
        raise BufferError("it lies on device 2")


@pytest.fixture
def program() -> nj.Program:
    return nj.compile(*networks.perceptron((6, 9, 4), "?"))


X = plain(1, (5, 6))


def test_inputs_are_read_where_they_are(program: nj.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    run = program.contract._run
    monkeypatch.setattr(
        program.contract, "_run", lambda p, inputs, *rest: (seen.append(inputs[0]), run(p, inputs, *rest))
    )
    given = Exported(X.copy())
    np.testing.assert_array_equal(program(given), program(X))
    assert seen[0].ctypes.data == given.array.ctypes.data
    given.array[:] = 0
    np.testing.assert_array_equal(program(given), program(np.zeros_like(X)))


def test_outputs_are_written_where_they_are(program: nj.Program) -> None:
    for call in (
        lambda out: program(X, out),
        lambda out: program(Exported(X), out),
        lambda out: program(Exported(X), out=out),
        lambda out: program.bind(X, out)(),
        lambda out: program.bind(Exported(X), out)(),
    ):
        out = Exported(np.zeros((5, 4), np.float32))
        assert call(out) is out
        np.testing.assert_array_equal(out.array, program(X))


def test_a_strided_output_and_one_that_overlaps() -> None:
    program = nj.compile(*networks.perceptron((6, 6), "?"))
    wide = np.zeros((5, 12), np.float32)
    program(X, out=Exported(wide[:, ::2]))
    np.testing.assert_array_equal(wide[:, ::2], program(X))
    assert not wide[:, 1::2].any()
    both = X.copy()
    program(both, out=Exported(both))
    np.testing.assert_array_equal(both, program(X))


def test_what_cannot_be_exported_names_the_operand(program: nj.Program) -> None:
    with pytest.raises(TypeError, match=r"main: input 0 \(x\): OnAnotherDevice: it lies on device 2; .* CPU"):
        program(OnAnotherDevice(X))
    with pytest.raises(TypeError, match=r"main: output 0 .*: OnAnotherDevice: it lies on device 2"):
        program(X, out=OnAnotherDevice(np.zeros((5, 4), np.float32)))
    with pytest.raises(TypeError, match="argument 0: OnAnotherDevice: it lies on device 2"):
        nj.jit(lambda x: x + 1)(OnAnotherDevice(X))
    with pytest.raises(TypeError, match="expected float32, got float64"):
        program(Exported(X.astype(np.float64)))
    with pytest.raises(ValueError, match="expected a writeable array of shape"):
        program(X, out=Exported(np.zeros((5, 3), np.float32)))


def test_torch_tensors_pass(program: nj.Program) -> None:
    torch = pytest.importorskip("torch")
    x, out = torch.from_numpy(X.copy()), torch.zeros(5, 4)
    assert program(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), program(X))
    np.testing.assert_array_equal(torch.from_dlpack(program(x)).numpy(), program(X))
    with pytest.raises(TypeError, match=r"requires_grad|require gradient"):
        program(x.requires_grad_())
