"""Kernel templates: Python programs that emit machine code.

One kernel algorithm, one file (`gemm`, ...), written against the vector machine of `machine.py`; one
vector machine per ISA (`x86_64/avx2.py`, `x86_64/avx512.py`) says how each step becomes instructions.
"""
