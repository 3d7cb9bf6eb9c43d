"""Reads handwritten digits: trained by scikit-learn, computed by neurojit. `make demo` runs it.

A small network learns three quarters of the 1,797 digits (8x8 pixels) that come with scikit-learn. Its
matrix products then run through nj.matmul on the other quarter, and must give scikit-learn's answers.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

# all the times below are of one thread
os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "NEUROJIT")})

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import neurojit as nj
from neurojit.__main__ import main as command
from neurojit.errors import NeurojitError
from neurojit.report.emit import emit, render

Array = np.ndarray[Any, Any]
Layers = list[tuple[Array, Array]]
HIDDEN = (64, 32)
SEED = 7
LISTING_LINES = 30


def main() -> int:
    digits = load_digits()
    pixels = (digits.data / 16).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(pixels, digits.target, random_state=SEED)
    model = MLPClassifier(HIDDEN, max_iter=60, learning_rate_init=0.01, tol=0, random_state=SEED)
    warnings.simplefilter("ignore", ConvergenceWarning)  # 60 rounds are enough to show something
    start = time.perf_counter()
    model.fit(train_x, train_y)
    shape = "-".join(str(width) for width in (64, *HIDDEN, 10))
    print(f"Trained a {shape} network on {len(train_x)} digits in {time.perf_counter() - start:.1f} s.\n")

    layers: Layers = [
        (np.ascontiguousarray(weights, np.float32), bias.astype(np.float32))
        for weights, bias in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    expected = model.predict(test_x)
    predicted = model.classes_[forward(nj.matmul, test_x, layers).argmax(axis=1)]
    singly = [model.classes_[forward(nj.matmul, digit[None], layers).argmax()] for digit in test_x]
    agree = int((predicted == expected).sum())
    agree_singly = int((np.array(singly) == expected).sum())
    print(draw(test_x[0]))
    print(
        f"This is a {predicted[0]}, says the network computed by neurojit; scikit-learn says {expected[0]}.\n"
    )
    print(f"{len(test_x)} digits it has never seen:")
    print(f"  read right                     {(predicted == test_y).mean():.1%}")
    print(f"  same answer as scikit-learn    {agree} as a batch, {agree_singly} one by one")
    if agree != len(test_x) or agree_singly != len(test_x):
        print("neurojit and scikit-learn disagree", file=sys.stderr)
        return 1

    print("\nTime of one inference (best of many, one thread):")
    print(f"  {'':22}{'one digit':>12}{f'{len(test_x)} digits':>14}")
    for name, infer in (
        ("nj.matmul", lambda x: forward(nj.matmul, x, layers)),
        ("numpy.matmul", lambda x: forward(np.matmul, x, layers)),
        ("scikit-learn predict", model.predict),
    ):
        print(f"  {name:22}{best_us(infer, test_x[:1]):>9.1f} us{best_us(infer, test_x):>11.1f} us")
    print("  Bias and ReLU are NumPy's in the first two rows: only the products differ.")

    print(
        "\nThe machine code of the first layer, for one digit: "
        f"C[1,{HIDDEN[0]}] = A[1,64] @ B[64,{HIDDEN[0]}]."
    )
    try:
        lines = render(emit("gemm", 1, HIDDEN[0], 64)).splitlines()
    except NeurojitError as error:
        print(f"None: {error}")
    else:
        print("\n".join(lines[:LISTING_LINES]))
        print(
            f"... {max(len(lines) - LISTING_LINES, 0)} more lines: "
            f"python -m neurojit emit gemm --m 1 --n {HIDDEN[0]} --k 64"
        )

    print("\nThis CPU, and what neurojit uses of it (python -m neurojit features --measure):\n")
    return command(["features", "--measure"])


def forward(matmul: Callable[[Array, Array], Array], x: Array, layers: Layers) -> Array:
    """The network's outputs before the softmax, which does not change which is the largest."""
    for weights, bias in layers[:-1]:
        x = matmul(x, weights)
        x += bias
        np.maximum(x, 0, out=x)
    weights, bias = layers[-1]
    return matmul(x, weights) + bias


def draw(pixels: Array) -> str:
    """A digit as characters, two a pixel."""
    return "\n".join("  " + "".join(2 * " .:+#@"[int(5 * p)] for p in row) for row in pixels.reshape(8, 8))


def best_us(infer: Callable[[Array], Any], x: Array, repeats: int = 40) -> float:
    """Microseconds of infer(x): the best of `repeats` runs of about 2 ms."""
    infer(x)
    start = time.perf_counter()
    infer(x)
    calls = max(1, int(0.002 / (time.perf_counter() - start)))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            infer(x)
        best = min(best, time.perf_counter() - start)
    return best / calls * 1e6


if __name__ == "__main__":
    sys.exit(main())
