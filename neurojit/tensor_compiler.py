"""Kernels over tensors: emitted, mapped, validated. `compiler` does the same for products.

Functions over contiguous elements are kept for good; the others are their caller's.
"""

from __future__ import annotations

import numpy as np

from neurojit.codegen import TensorKernel, emit_map, emit_tensor_kernel, tensor_buffer
from neurojit.errors import NeurojitError
from neurojit.expressions import apply_function
from neurojit.plan.cast import Cast
from neurojit.plan.epilogue import Activation
from neurojit.plan.gather import Gather
from neurojit.plan.map import Map
from neurojit.plan.random import Random
from neurojit.product_codegen import dump
from neurojit.row_validation import validate_cast, validate_gather, validate_random, validate_rows
from neurojit.runtime import Code, executable_memory
from neurojit.runtime._blocked import keep_mapped
from neurojit.target import Target, host_choice, host_target
from neurojit.validation import Array, validate_map

_maps: dict[tuple[str, Activation], Code] = {}


def map_kernel(dtype: str, activation: Activation) -> Code | None:
    """A validated kernel of a function over contiguous elements, kept for good; None where there is none."""
    key = (dtype, activation)
    if key not in _maps:
        if host_choice().isa.name == "none" or executable_memory().closed:
            return None
        try:
            g = Map.of_functions(dtype, (activation,))
            dump(g, lambda: tensor_buffer(g, host_target().isa))
            kernel = Code.map(emit_map(g, host_target().isa), release_gil=True)

            def run(x: Array, y: Array) -> int:
                return kernel.call((x.ctypes.data, y.ctypes.data), y.size)

            validate_map(dtype, activation, run, f"{activation} {dtype} on {host_target().isa.name}")
        except NeurojitError:
            return None  # NumPy computes the function
        _maps[key] = kernel
        keep_mapped(kernel)
    return _maps[key]


def compile_tensor_kernel(g: TensorKernel, target: Target, release_gil: bool = False) -> Code:
    """A validated kernel over tensors, not yet published. Raises ExecutableMemoryError, ValidationError, or
    RegisterPressureError where too many values are alive at a time."""
    dump(g, lambda: tensor_buffer(g, target.isa))
    kernel = Code.map(emit_tensor_kernel(g, target.isa), release_gil=release_gil)
    what = f"{type(g).__name__.lower()} {g.dtype} on {target.isa.name}"
    if isinstance(g, Gather):
        validate_gather(g, kernel.call, what)
    elif isinstance(g, Random):
        validate_random(g, kernel.call, what)
    elif isinstance(g, Cast):
        validate_cast(g, kernel.call, what)
    else:
        validate_rows(g, kernel.call, what, _emitted_function)
    return kernel


def _emitted_function(activation: Activation, x: Array) -> Array:
    """The function by its own kernel, which was held against its bound."""
    kernel = map_kernel("f32" if x.itemsize == 4 else "f64", activation)
    if kernel is None:
        return apply_function(activation, x)
    y = np.empty_like(x)
    kernel.call((x.ctypes.data, y.ctypes.data), x.size)
    return y
