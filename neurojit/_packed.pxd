# Packed weights for the call paths: what they read of `PackedWeights` without Python.

from libc.stdint cimport int64_t


cdef class PackedWeights:
    cdef void *data          # the panels, in `memory`; NULL when there are none
    cdef int64_t k, n        # shape
    cdef int64_t row, column  # what stands in a key for the strides: see neurojit/plan/panels.py
    cdef int element         # 4 or 8 bytes: of activations and results

    cdef readonly tuple shape
    cdef readonly object dtype
    cdef readonly str storage
    cdef readonly object activations
    cdef readonly object scales
    cdef readonly object panels
    cdef object memory
    cdef object multiply
