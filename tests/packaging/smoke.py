"""What an installed neurojit must do, wherever it was installed. Run outside the source tree."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import neurojit as nj

SOURCES = Path(__file__).resolve().parents[2]
if SOURCES in Path(nj.__file__).resolve().parents:
    sys.exit(f"this is the source tree's neurojit, not an installed one: {nj.__file__}")

for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-12)):
    for m, n, k in ((1, 1, 1), (3, 5, 7), (8, 8, 8), (17, 33, 9), (64, 64, 64), (200, 300, 700)):
        a = np.arange(m * k, dtype=dtype).reshape(m, k) % 13 - 6
        b = np.arange(k * n, dtype=dtype).reshape(k, n) % 11 - 5
        np.testing.assert_allclose(nj.matmul(a, b), a @ b, rtol=tolerance, atol=tolerance)
np.testing.assert_array_equal(nj.matmul([[1, 2]], [[3], [4]]), [[11]])

info = nj.info()
for command in (["features"], ["emit", "gemm", "--m", "2", "--n", "3", "--k", "4", "--target", "avx2"]):
    subprocess.run([sys.executable, "-m", "neurojit", *command], check=True, stdout=subprocess.DEVNULL)
print(
    f"Python {sys.version.split()[0]}, NumPy {np.__version__}: neurojit {nj.__version__} emits {info.isa}, "
    f"{info.kernels} kernels, executable through {info.strategy}"
)
