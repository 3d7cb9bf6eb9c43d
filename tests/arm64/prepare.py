"""`make test-arm64`: an AArch64 CPython that has this package, made on any Linux and run by qemu-aarch64.

The problem. The package is written for two architectures, and most machines have one of them. A kernel alone
can be tried in a small C program; that the extension modules, the slots, the mappings and NumPy's structs
are right on the other one only the real package shows, in a real interpreter.

The idea. Nothing but qemu-user and a cross compiler is taken from the system. Debian's arm64 packages come
through a private apt, whose configuration and lists lie in build/, and are unpacked, not installed; what
PyPI has as wheels comes through pip, told to choose for another platform.

    build/arm64/
        apt/        lists of packages
        root/       CPython 3.11, its libraries and the headers of both, unpacked
        packages/   NumPy's wheel for aarch64, pytest and what else the tests import
        package/    neurojit: today's Python files, and extension modules cross-compiled
        python      runs the interpreter with all that; `run` runs any program

Each step is done again only when what it was made from changed. A step that fails says what it wanted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[2]
BUILD = SOURCES / "build/arm64"
ROOT, PACKAGES, PACKAGE, MODULES = (BUILD / name for name in ("root", "packages", "package", "modules"))

QEMU, COMPILER = "qemu-aarch64", "aarch64-linux-gnu-gcc"
WANTED = {QEMU: "qemu-user", COMPILER: "gcc-aarch64-linux-gnu", "apt-get": "apt", "dpkg": "dpkg"}

MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
RELEASE, PYTHON = "bookworm", "3.11"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libpython3.11-dev"),
    *("libc6", "libc6-dev", "linux-libc-dev", "libgcc-s1", "libstdc++6", "libcrypt1"),
    *("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
EXTRA = ("pytest-xdist>=3.6", "threadpoolctl>=3.2")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
SUFFIX = ".cpython-311-aarch64-linux-gnu.so"


class PreparationError(Exception):
    """What is missing, and what to do about it."""


def main() -> int:
    try:
        require_tools()
        once("root", (MIRROR, RELEASE, *DEBIAN), unpack_root)
        requirements = (*requirements_of("", "test"), *EXTRA)
        once("packages", requirements, lambda: install_packages(requirements))
        write_runners()
        build_package()
    except PreparationError as error:
        print(f"test-arm64: {error}", file=sys.stderr)
        return 1
    return 0


def require_tools() -> None:
    missing = {tool: package for tool, package in WANTED.items() if shutil.which(tool) is None}
    if missing:
        raise PreparationError(
            f"no {', '.join(missing)}: install Debian's or Ubuntu's {', '.join(missing.values())}"
        )


def once(name: str, made_from: Sequence[str], make: Callable[[], None]) -> None:
    """Calls make() unless the stamp says that it was done for the same."""
    stamp = BUILD / f".{name}"
    digest = hashlib.sha256("\n".join(made_from).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"test-arm64: {name}", flush=True)
    shutil.rmtree(BUILD / name, ignore_errors=True)
    (BUILD / name).mkdir(parents=True)
    make()
    stamp.write_text(digest)


def run(what: str, command: Sequence[str | Path], cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise PreparationError(
            f"{what}: {command[0]} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}"
        )


# ---- Debian's packages ---------------------------------------------------------------------------------


def unpack_root() -> None:
    """CPython and the libraries it needs, from Debian, without touching the system's apt."""
    if not Path(KEYRING).exists():
        raise PreparationError(f"no {KEYRING}: install the package debian-archive-keyring")
    apt = BUILD / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYRING}] {MIRROR} {RELEASE} main\n")
    (apt / "status").touch()
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    apt_get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    where = f"Debian's arm64 packages from {MIRROR} (DEBIAN_MIRROR names another)"
    run(f"{where}: is this machine off line?", [*apt_get, "update"])
    archives = apt / "archives"
    run(where, [*apt_get, "download", *DEBIAN], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        run(f"unpacking {archive.name}", ["dpkg", "-x", archive, ROOT])
    shutil.rmtree(apt)


# ---- PyPI's packages -----------------------------------------------------------------------------------


def requirements_of(*extras: str) -> list[str]:
    """What pyproject.toml asks for: "" is the package itself."""
    found = []
    for line in importlib.metadata.requires("neurojit") or ():
        requirement, _, marker = line.partition(";")
        if any((f'extra == "{extra}"' in marker) if extra else not marker for extra in extras):
            found.append(requirement.strip())
    return found


def install_packages(requirements: Sequence[str]) -> None:
    target = ["--target", PACKAGES, "--python-version", PYTHON, "--implementation", "cp"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    what = "wheels for aarch64 from PyPI: is this machine off line?"
    run(what, [*pip, "--only-binary=:all:", *platforms, *target, *requirements])


# ---- running -------------------------------------------------------------------------------------------


def write_runners() -> None:
    """`run` and `python`. An emulated process starts others through `python` too: -0 makes it
    sys.executable. Without the folder of the script, or the current one, on sys.path: that has the
    host's modules. NEUROJIT_TEST_* are for the tests that compile C. Without QEMU_CPU it is a core that has
    no SVE: OpenBLAS would use it, and what qemu 7 does with it raises floating-point flags of its own."""
    run_script = f"""#!/bin/sh
exec {QEMU} -L "{ROOT}" "$@"
"""
    python_script = f"""#!/bin/sh
export PYTHONSAFEPATH=1 PYTHONPYCACHEPREFIX="{BUILD}/pycache" PYTHONHOME="{ROOT}/usr"
export PYTHONPATH="${{PYTHONPATH:-{PACKAGE}:{PACKAGES}}}"
export NEUROJIT_TEST_CC="{" ".join(cross_compiler())}" NEUROJIT_TEST_RUN="{BUILD}/run"
export QEMU_CPU="${{QEMU_CPU:-neoverse-n1}}"
exec {QEMU} -L "{ROOT}" -0 "$0" "{ROOT}/usr/bin/python{PYTHON}" "$@"
"""
    for name, text in (("run", run_script), ("python", python_script)):
        script = BUILD / name
        script.write_text(text)
        script.chmod(0o755)


def cross_compiler() -> list[str]:
    return [COMPILER, f"--sysroot={ROOT}"]


# ---- this package --------------------------------------------------------------------------------------


def build_package() -> None:
    """The Python files as they are, beside extension modules that are compiled where they are out of date."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = {module.relative_to(MODULES): module for module in pool.map(compile_module, extensions())}
    for folder, place in (("neurojit", "neurojit"), ("asm_templates", "neurojit/asm_templates")):
        for path in (SOURCES / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".txt", ".typed"):
                files[place / path.relative_to(SOURCES / folder)] = path
    for path in [path for path in PACKAGE.rglob("*") if path.is_file()]:
        if path.relative_to(PACKAGE) not in files:
            path.unlink()
    for name, path in files.items():
        place = PACKAGE / name
        if not place.exists() or place.stat().st_mtime != path.stat().st_mtime:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def extensions() -> list[Any]:
    """setup.py's setuptools.Extension objects, as Cython left them: C sources and flags."""
    from setuptools import distutils

    before = Path.cwd()
    os.chdir(SOURCES)
    try:
        distribution = distutils.core.run_setup("setup.py", ["--quiet"], stop_after="init")
    finally:
        os.chdir(before)
    return list(distribution.ext_modules)


def compile_module(extension: Any) -> Path:
    made = MODULES / (extension.name.replace(".", "/") + SUFFIX)
    sources = [SOURCES / name for name in extension.sources]
    depends = [*sources, *(SOURCES / name for name in extension.depends), SOURCES / "setup.py"]
    newest = max(path.stat().st_mtime for path in [*depends, BUILD / ".root", BUILD / ".packages"])
    if made.exists() and made.stat().st_mtime > newest:
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    # Before setup.py's own, which are this machine's: NumPy's headers differ between architectures.
    include = [
        *(ROOT / "usr/include", ROOT / f"usr/include/python{PYTHON}", PACKAGES / "numpy/_core/include"),
        SOURCES / "csrc",
    ]
    command = [
        *(*cross_compiler(), "-shared", "-fPIC", *extension.extra_compile_args),
        *(f"-D{name}={value}" for name, value in extension.define_macros),
        *(f"-I{folder}" for folder in include),
        *(*sources, *(f"-l{name}" for name in extension.libraries), "-o", made),
    ]
    run(f"compiling {extension.name} for AArch64", command)
    return made


if __name__ == "__main__":
    sys.exit(main())
