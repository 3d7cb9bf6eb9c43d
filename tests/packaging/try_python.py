"""`make test-pythons`: builds, installs and tries the package with the Python that runs this.

On 3.10 also with the oldest NumPy that pyproject.toml admits, which is not the one it was built with.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SOURCES = Path(__file__).parents[2]
OLDEST_NUMPY = {(3, 10): "numpy==1.23.5"}


def main() -> None:
    with tempfile.TemporaryDirectory() as room:
        venv.create(room, with_pip=True)
        python = Path(room, "bin", "python")
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*install, SOURCES], check=True)
        subprocess.run([python, SOURCES / "tests/packaging/smoke.py"], check=True, cwd=room)
        oldest = OLDEST_NUMPY.get(sys.version_info[:2])
        if oldest is not None:
            subprocess.run([*install, oldest], check=True)
            subprocess.run([python, SOURCES / "tests/packaging/smoke.py"], check=True, cwd=room)


if __name__ == "__main__":
    main()
