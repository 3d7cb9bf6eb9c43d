"""A CPython of another architecture that has this package, made on any Linux and run by qemu-user.

    python tests/emulated/prepare.py arm64        for `make test-arm64`
    python tests/emulated/prepare.py riscv64      for `make test-riscv64`

The problem. The package is written for three architectures, and most machines have one of them. A kernel
alone can be tried in a small C program; that the extension modules, the slots, the mappings and NumPy's
structs are right on another one only the real package shows, in a real interpreter.

The idea. Nothing but qemu-user and a cross compiler is taken from the system. Debian's packages come
through a private apt, whose configuration and lists lie in build/, and are unpacked, not installed; what
PyPI has as wheels comes through pip, told to choose for another platform.

    build/NAME/
        apt/        lists of packages
        root/       CPython, its libraries and the headers of both, unpacked
        packages/   pytest, what else the tests import, and NumPy where PyPI has a wheel of it
        package/    neurojit: today's Python files, and extension modules cross-compiled
        python      runs the interpreter with all that; `run` runs any program

Each step is done again only when what it was made from changed. A step that fails says what it wanted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[2]
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
EXTRA = ("pytest-xdist>=3.6", "pytest-rerunfailures>=15", "threadpoolctl>=3.2")


@dataclass(frozen=True)
class Architecture:
    """name: Debian's. triple: GNU's. cpu: qemu's, where QEMU_CPU names no other. release: of Debian, whose
    CPython of the version `python` it is. debian: packages beside those that every one needs. links: names to
    make in the root, to what they lead to. wheels: PyPI's platforms. from_debian: requirements that PyPI has
    no wheels of; their modules are in `debian`. without: requirements that nobody has, whose tests skip."""

    name: str
    triple: str
    qemu: str
    cpu: str
    release: str
    python: str
    debian: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    wheels: tuple[str, ...] = ()
    from_debian: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def build(self) -> Path:
        return SOURCES / "build" / self.name

    @property
    def root(self) -> Path:
        return self.build / "root"

    @property
    def packages(self) -> Path:
        return self.build / "packages"

    @property
    def compiler(self) -> str:
        return f"{self.triple}-gcc"

    @property
    def python_path(self) -> list[Path]:
        debian = [self.root / "usr/lib/python3/dist-packages"] if self.from_debian else []
        return [self.build / "package", self.packages, *debian]

    @property
    def every_debian(self) -> tuple[str, ...]:
        version = self.python
        return (
            *(f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib"),
            *(f"libpython{version}-dev", "libc6", "libc6-dev", "linux-libc-dev", "libgcc-s1", "libstdc++6"),
            *("libcrypt1", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libsqlite3-0", "libuuid1"),
            *("zlib1g", *self.debian),
        )


RISCV_LIBRARIES = "usr/lib/riscv64-linux-gnu"
ARCHITECTURES = {
    row.name: row
    for row in (
        Architecture(
            "arm64",
            triple="aarch64-linux-gnu",
            qemu="qemu-aarch64",
            # Without SVE: OpenBLAS would use it, and what qemu 7 does with it raises floating-point flags of
            # its own.
            cpu="neoverse-n1",
            release="bookworm",
            python="3.11",
            debian=("libssl3",),
            wheels=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        ),
        Architecture(
            "riscv64",
            triple="riscv64-linux-gnu",
            qemu="qemu-riscv64",
            cpu="rv64,v=true,vlen=256,vext_spec=v1.0",
            release="trixie",
            python="3.13",
            debian=(
                *("libssl3t64", "python3-numpy", "python3-numpy-dev", "libblas3", "liblapack3"),
                *("libgfortran5", "python3-capstone", "libcapstone5"),
            ),
            links=(
                ("lib", "usr/lib"),
                (f"{RISCV_LIBRARIES}/libblas.so.3", "blas/libblas.so.3"),
                (f"{RISCV_LIBRARIES}/liblapack.so.3", "lapack/liblapack.so.3"),
            ),
            from_debian=("numpy", "capstone"),
            without=("safetensors",),
        ),
    )
}


class PreparationError(Exception):
    """What is missing, and what to do about it."""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in ARCHITECTURES:
        print(
            f"prepare.py: {' '.join(arguments)}: expected one of {', '.join(ARCHITECTURES)}", file=sys.stderr
        )
        return 2
    made = ARCHITECTURES[arguments[0]]
    try:
        require_tools(made)
        answers = HWPROBE.read_text() if made.name == "riscv64" else ""
        root_from = (MIRROR, made.release, *made.every_debian, *map(str, made.links), answers)
        once(made, "root", root_from, lambda: unpack_root(made))
        requirements = (*requirements_of(made, "", "test"), *EXTRA)
        once(made, "packages", requirements, lambda: install_packages(made, requirements))
        write_runners(made)
        build_package(made)
    except PreparationError as error:
        print(f"prepare.py: {made.name}: {error}", file=sys.stderr)
        return 1
    return 0


def require_tools(made: Architecture) -> None:
    wanted = {made.qemu: "qemu-user", made.compiler: f"gcc-{made.triple}", "apt-get": "apt", "dpkg": "dpkg"}
    missing = {tool: package for tool, package in wanted.items() if shutil.which(tool) is None}
    if missing:
        raise PreparationError(
            f"no {', '.join(missing)}: install Debian's or Ubuntu's {', '.join(missing.values())}"
        )


def once(made: Architecture, name: str, made_from: Sequence[str], make: Callable[[], None]) -> None:
    """Calls make() unless the stamp says that it was done for the same."""
    stamp = made.build / f".{name}"
    digest = hashlib.sha256("\n".join(made_from).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"{made.name}: {name}", flush=True)
    shutil.rmtree(made.build / name, ignore_errors=True)
    (made.build / name).mkdir(parents=True)
    make()
    stamp.write_text(digest)


def run(what: str, command: Sequence[str | Path], cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode != 0:
        raise PreparationError(
            f"{what}: {command[0]} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}"
        )


# ---- Debian's packages ---------------------------------------------------------------------------------


def unpack_root(made: Architecture) -> None:
    """CPython and the libraries it needs, from Debian, without touching the system's apt."""
    if not Path(KEYRING).exists():
        raise PreparationError(f"no {KEYRING}: install the package debian-archive-keyring")
    apt = made.build / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    source = f"deb [arch={made.name} signed-by={KEYRING}] {MIRROR} {made.release} main\n"
    (apt / "sources.list").write_text(source)
    (apt / "status").touch()
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "APT::Architecture": made.name,
        "APT::Architectures::": made.name,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    apt_get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    where = f"Debian's {made.name} packages from {MIRROR} (DEBIAN_MIRROR names another)"
    run(f"{where}: is this machine off line?", [*apt_get, "update"])
    archives = apt / "archives"
    run(where, [*apt_get, "download", *made.every_debian], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        run(f"unpacking {archive.name}", ["dpkg", "-x", archive, made.root])
    shutil.rmtree(apt)
    for name, to in made.links:
        if not (made.root / name).exists():
            (made.root / name).symlink_to(to)
    if made.name == "riscv64":
        answer_hwprobe(made)


HWPROBE, HWPROBE_LIBRARY = Path(__file__).with_name("hwprobe.c"), "usr/lib/hwprobe.so"


def answer_hwprobe(made: Architecture) -> None:
    """What Linux would say about an emulated RISC-V CPU, for a qemu that does not know the question."""
    command = [*cross_compiler(made), "-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    run("compiling hwprobe.c", [*command, HWPROBE, "-o", made.root / HWPROBE_LIBRARY])


# ---- PyPI's packages -----------------------------------------------------------------------------------


def requirements_of(made: Architecture, *extras: str) -> list[str]:
    """What pyproject.toml asks for: "" is the package itself. An extra that is made of others of ours is
    looked up: PyPI has a package of this name that is another one."""
    found = []
    for line in importlib.metadata.requires("neurojit") or ():
        requirement, _, marker = line.partition(";")
        if not any((f'extra == "{extra}"' in marker) if extra else not marker for extra in extras):
            continue
        ours = re.fullmatch(r"neurojit\[(.*)\]", requirement.strip())
        if ours:
            found += requirements_of(made, *ours[1].split(","))
        elif not re.match("|".join((*made.from_debian, *made.without)) or "$", requirement):
            found.append(requirement.strip())
    return found


def install_packages(made: Architecture, requirements: Sequence[str]) -> None:
    target = ["--target", made.packages, "--python-version", made.python, "--implementation", "cp"]
    platforms = [word for platform in made.wheels or ("any",) for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    what = f"wheels for {made.name} from PyPI: is this machine off line?"
    run(what, [*pip, "--only-binary=:all:", *platforms, *target, *requirements])


# ---- running -------------------------------------------------------------------------------------------


def write_runners(made: Architecture) -> None:
    """`run` and `python`. An emulated process starts others through `python` too: -0 makes it
    sys.executable. Without the folder of the script, or the current one, on sys.path: that has the
    host's modules. NEUROJIT_TEST_* are for the tests that compile C."""
    build, root = made.build, made.root
    preload = (
        f' -E LD_PRELOAD="/{HWPROBE_LIBRARY}${{LD_PRELOAD:+:$LD_PRELOAD}}"' if made.name == "riscv64" else ""
    )
    run_script = f"""#!/bin/sh
export QEMU_CPU="${{QEMU_CPU:-{made.cpu}}}"
exec {made.qemu} -L "{root}" "$@"
"""
    path = ":".join(map(str, made.python_path))
    python_script = f"""#!/bin/sh
export PYTHONSAFEPATH=1 PYTHONPYCACHEPREFIX="{build}/pycache" PYTHONHOME="{root}/usr"
export PYTHONPATH="${{PYTHONPATH:-{path}}}"
export NEUROJIT_TEST_CC="{" ".join(cross_compiler(made))}" NEUROJIT_TEST_RUN="{build}/run"
export QEMU_CPU="${{QEMU_CPU:-{made.cpu}}}"
exec {made.qemu} -L "{root}"{preload} -0 "$0" "{root}/usr/bin/python{made.python}" "$@"
"""
    for name, text in (("run", run_script), ("python", python_script)):
        script = build / name
        script.write_text(text)
        script.chmod(0o755)


def cross_compiler(made: Architecture) -> list[str]:
    return [made.compiler, f"--sysroot={made.root}"]


# ---- this package --------------------------------------------------------------------------------------


def build_package(made: Architecture) -> None:
    """The Python files as they are, beside extension modules that are compiled where they are out of date."""
    modules, package = made.build / "modules", made.build / "package"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(lambda extension: compile_module(made, modules, extension), extensions())
        files = {module.relative_to(modules): module for module in compiled}
    for folder, place in (("neurojit", "neurojit"), ("asm_templates", "neurojit/asm_templates")):
        for path in (SOURCES / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".txt", ".typed"):
                files[place / path.relative_to(SOURCES / folder)] = path
    for path in [path for path in package.rglob("*") if path.is_file()]:
        if path.relative_to(package) not in files:
            path.unlink()
    for name, path in files.items():
        place = package / name
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


def compile_module(made: Architecture, modules: Path, extension: Any) -> Path:
    version = made.python.replace(".", "")
    module = modules / f"{extension.name.replace('.', '/')}.cpython-{version}-{made.triple}.so"
    sources = [SOURCES / name for name in extension.sources]
    depends = [*sources, *(SOURCES / name for name in extension.depends), SOURCES / "setup.py"]
    stamps = [made.build / ".root", made.build / ".packages"]
    newest = max(path.stat().st_mtime for path in [*depends, *stamps])
    if module.exists() and module.stat().st_mtime > newest:
        return module
    module.parent.mkdir(parents=True, exist_ok=True)
    # Before setup.py's own, which are this machine's: NumPy's headers differ between architectures.
    numpy = [place / "numpy/_core/include" for place in made.python_path]
    include = [made.root / "usr/include", made.root / f"usr/include/python{made.python}", *numpy]
    command = [
        *(*cross_compiler(made), "-shared", "-fPIC", *extension.extra_compile_args),
        *(f"-D{name}={value}" for name, value in extension.define_macros),
        *(f"-I{folder}" for folder in (*include, SOURCES / "csrc")),
        *(*sources, *(f"-l{name}" for name in extension.libraries), "-o", module),
    ]
    run(f"compiling {extension.name} for {made.name}", command)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
