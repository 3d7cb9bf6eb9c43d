"""Extension modules. Everything else about the package stands in pyproject.toml."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

# Wheels target the baseline ISA: no -march=native, and never -ffast-math. Code that needs more than
# the baseline is either emitted at run time or compiled per function behind a CPUID check.
# -ffp-contract=off: the reference kernels say `fma` where they mean it.
COMPILE = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden"] if os.name == "posix" else []
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
if os.environ.get("NEUROJIT_STRICT_C") == "1":  # CI; a user's newer compiler may warn about more
    COMPILE += WARNINGS


def extension(name: str, *csources: str, numpy_api: bool = False) -> Extension:
    """The extension module `name`, from its .pyx and the C files of csrc it links."""
    pyx = name.replace(".", "/") + ".pyx"
    return Extension(
        name,
        [pyx, *(f"csrc/{source}" for source in csources)],
        include_dirs=["csrc", *([numpy.get_include()] if numpy_api else [])],
        depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
        extra_compile_args=COMPILE,
        define_macros=[("_GNU_SOURCE", "1"), ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        libraries=["m"] if sys.platform.startswith("linux") else [],
    )


EXTENSIONS = [
    extension("neurojit.target._cpu", "cpu.c", "cpu_x86.c", "cpu_aarch64.c", "cpu_riscv.c", "cpu_apple.c"),
    extension("neurojit.encoder._buffer", "code_buffer.c", "x86_encoder.c", "word_encoder.c"),
    extension(
        "neurojit.runtime._runtime",
        *("executable_memory.c", "map_linux.c", "map_apple.c", "instruction_sync.c", "code.c"),
        *("slots.c", "clock.c"),
        *("abi_check.c", "abi_check_x86.c", "abi_check_aarch64.c", "abi_check_riscv.c"),
    ),
    extension("neurojit.runtime._reference", "reference.c"),
    extension(
        "neurojit.runtime._blocked",
        *(
            "gemm_batch.c",
            "gemm_blocked.c",
            "gemm_reference.c",
            "gemm_strips.c",
            "pack.c",
            "pack_x86.c",
            "pack_neon.c",
            "reference.c",
            "round_rows.c",
            "row_batch.c",
            "scratch.c",
            "thread_pool.c",
        ),
    ),
    extension("neurojit._packed"),
    extension("neurojit._bound", numpy_api=True),
    extension("neurojit._matmul", numpy_api=True),
    extension("neurojit._dense", numpy_api=True),
    extension("neurojit._program", "arenas.c", numpy_api=True),
    extension("neurojit._bound_program", numpy_api=True),
    extension("neurojit._jit", numpy_api=True),
]

setup(
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        },
    )
)
