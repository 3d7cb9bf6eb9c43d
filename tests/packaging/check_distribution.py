"""`make wheel`: the sdist and the wheel of a folder hold what they must, and the wheel works on its own.

Usage: check_distribution.py DIST. The wheel is installed in an environment of its own and tried there.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

IN_BOTH = (
    "neurojit/py.typed",
    "neurojit/_matmul.pyi",
    "neurojit/encoder/_buffer.pyi",
    "neurojit/runtime/_runtime.pyi",
)
IN_WHEEL = (
    "neurojit/asm_templates/gemm.py",
    "neurojit/asm_templates/x86_64/encodings.txt",
    "neurojit/asm_templates/x86_64/supplement.txt",
    "neurojit/asm_templates/aarch64/encodings.txt",
    "neurojit/asm_templates/riscv64/encodings.txt",
)
IN_SDIST = (
    "asm_templates/gemm.py",
    "asm_templates/x86_64/encodings.txt",
    "asm_templates/x86_64/supplement.txt",
    "csrc/slots.h",
    "csrc/slots.c",
    "neurojit/_matmul.pyx",
    "neurojit/runtime/_runtime.pxd",
    "tests/conftest.py",
    "LICENSE",
    "Makefile",
    "README.md",
)
EXTENSIONS = (
    *("_matmul", "_dense", "_packed", "_program", "_jit", "encoder/_buffer", "target/_cpu"),
    *("runtime/_blocked", "runtime/_reference", "runtime/_runtime"),
)
SMOKE = Path(__file__).with_name("smoke.py")


def main(folder: str) -> int:
    (wheel,), (sdist,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in (*IN_BOTH, *IN_WHEEL) if name not in names]
    missing += [
        e
        for e in EXTENSIONS
        if not any(name.startswith(f"neurojit/{e}.") and name.endswith(".so") for name in names)
    ]
    strays = [name for name in names if name.endswith((".c", ".h", ".pyx"))]
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    lacking = [name for name in (*IN_BOTH, *IN_SDIST) if name not in inside]
    compiled = [name for name in inside if name.endswith((".so", ".pyc"))]
    for where, what, found in (
        (wheel, "lacks", missing),
        (wheel, "should not hold", strays),
        (sdist, "lacks", lacking),
        (sdist, "should not hold", compiled),
    ):
        if found:
            print(f"{where.name} {what} {', '.join(found)}", file=sys.stderr)
    if missing or strays or lacking or compiled:
        return 1
    with tempfile.TemporaryDirectory() as room:
        venv.create(room, with_pip=True)
        python = Path(room, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel.resolve()], check=True)
        subprocess.run([python, SMOKE], check=True, cwd=room)
    size = wheel.stat().st_size // 1024
    print(f"{wheel.name}: {len(names)} files, {size} KiB; {sdist.name}: {len(inside)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
