"""Products in the interpreter's precision, of parts so small that no BLAS wakes its threads for them.

OpenBLAS cannot be forked while another thread is inside a product that it shares among threads: the child
may find its locks taken for ever, and the parent may wait for ever in fork itself. The gate of programs
multiplies whenever something is compiled, and the interpreter whenever something is not, so neither may
bring that about.
"""

from __future__ import annotations

import numpy as np

from neurojit.ir.types import Array

ALONE = 1 << 18
"""Multiply-adds up to which OpenBLAS multiplies matrices on the calling thread (interface/gemm.c)."""
SIDE = 64
"""Rows and columns of a part of a larger product."""


def product(a: Array, b: Array) -> Array:
    """a @ b, for matrices and stacks of them."""
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    if a.dtype not in (np.float64, np.float32) or not a.size or not b.size:
        return np.asarray(np.matmul(a, b))  # NumPy's own loops
    if 1 in (rows, columns):  # gemv has threads from some thousand elements on
        return np.asarray(np.einsum("...ij,...jk->...ik", a, b))
    if rows * depth * columns <= ALONE:
        return np.asarray(np.matmul(a, b))
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    whole = np.zeros((*stack, rows, columns), a.dtype)
    for i in _cut(rows):
        for j in _cut(columns):
            for k in _cut(depth):
                whole[..., i, j] += np.matmul(a[..., i, k], b[..., k, j])
    return whole


def _cut(extent: int) -> list[slice]:
    """As few equal parts as there can be; so none is 1, a vector, unless the extent is."""
    parts = -(-extent // SIDE)
    return [slice(extent * i // parts, extent * (i + 1) // parts) for i in range(parts)]
