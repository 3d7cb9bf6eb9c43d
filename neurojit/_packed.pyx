"""`PackedWeights`: weights laid out for kernels, an immutable object. Made by `nj.pack` (packed.py)."""

from libc.stdint cimport uintptr_t

cimport cython


@cython.final
cdef class PackedWeights:
    """Weights packed by nj.pack, a (k, n) matrix that nj.matmul and nj.linear take as right operand.

    shape: (k, n). dtype: of activations and results. storage: "f32", "f64", "bf16" or "int8". activations:
    what they are rounded to in the kernel, or None. scales: for int8 a read-only (n,) float32 array, the
    scale of each column, else None. nbytes: memory of the panels, padding and scales included.
    `x @ packed` is nj.matmul(x, packed). Immutable: copies are the object itself; pickling keeps the stored
    weights, never code.
    """

    __array_ufunc__ = None  # x @ packed comes here, not to an array of objects

    def __init__(self, panels, tuple shape not None, memory, scales, dtype, activations, multiply):
        """panels: a Panels (plan/panels.py). memory: its bytes, aligned, owned by this object alone from now
        on. multiply: what `x @ self` calls."""
        if self.memory is not None:
            raise TypeError("packed weights are immutable; pack others with nj.pack")
        self.panels, self.memory, self.scales, self.multiply = panels, memory, scales, multiply
        self.dtype, self.activations = dtype, activations
        self.storage = panels.storage.partition(" ")[0]
        self.shape = shape
        self.k, self.n = shape
        self.row, self.column = panels.strides
        self.element = dtype.itemsize
        size = panels.panels(self.n) * panels.panel_bytes
        if memory.size < size or (memory.size and memory.ctypes.data % 64):
            raise ValueError(f"{memory.size} bytes at {memory.ctypes.data:#x} cannot hold these panels")
        self.data = <void *><uintptr_t>memory.ctypes.data
        memory.flags.writeable = False
        if scales is not None:
            scales.flags.writeable = False

    @property
    def ndim(self):
        return 2

    @property
    def nbytes(self):
        return self.memory.size

    @property
    def address(self):
        """Of the first panel, for kernels."""
        return <uintptr_t>self.data

    def stored(self):
        """A Stored (storage.py): fresh arrays of the weights in the storage type, and the scales."""
        from neurojit.storage import take_out  # with the compiler's tables: not at import

        return take_out(self.memory, self.panels, self.k, self.n)

    def unpack(self):
        """A fresh (k, n) array of `dtype`: the weights as they are stored; of int8, q * scale, rounded."""
        from neurojit.storage import widen

        stored = self.stored()
        widened = widen(stored, self.storage)
        return widened if stored.scales is None else widened * stored.scales

    def numpy_product(self, x):
        """x @ self by NumPy, for an (m, k) array of `dtype`: where no kernel can."""
        from neurojit.storage import product_of_integers, products_of_bf16, round_rows

        if self.activations is None:
            return x @ self.unpack()
        rows, weights = round_rows(x, self.activations), self.stored()
        if self.activations == "int8":
            return product_of_integers(rows, weights)
        return products_of_bf16(rows, weights).nearest()

    def __rmatmul__(self, x):
        return self.multiply(x, self)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        rounded = "" if self.activations is None else f", activations={self.activations}"
        return (f"<neurojit.PackedWeights {self.shape[0]}x{self.shape[1]} {self.dtype}, "
                f"storage={self.storage}{rounded}, {self.nbytes} bytes>")
