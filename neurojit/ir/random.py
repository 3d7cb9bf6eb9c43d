"""Random numbers that are a function of a key and a counter: Threefry-2x32 with 20 rounds.

Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). Element number i of a
result, in row-major order, is made of the two words

    w0, w1 = threefry2x32(key, (i mod 2^32, counter))

alone, so any part of it can be computed by itself, in any order, on any number of threads:

    uniform f32   (w0 >> 8) 2^-24                               in [0, 1)
    uniform f64   (w0 2^21 + (w1 >> 11)) 2^-53                  in [0, 1)
    normal        sqrt(-2 log u) cos(2 pi v)                    Box and Muller
                  u = ((w0 >> 8) + 1) 2^-24 in (0, 1],  v = (w1 >> 8) 2^-24;
                  for f64  u = (w0 + 1) 2^-32,  v = w1 2^-32
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurojit.ir.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
ROUNDS = 20


def threefry2x32(key: tuple[int, int], c0: Array, c1: Array) -> tuple[Array, Array]:
    """Two uint32 words for each counter (c0, c1), arrays of uint32 that broadcast."""
    schedule = [np.uint32(word & 0xFFFF_FFFF) for word in (*key, key[0] ^ key[1] ^ PARITY)]
    with np.errstate(over="ignore"):
        x0, x1 = c0 + schedule[0], c1 + schedule[1]
        for turn in range(ROUNDS // 4):
            for rotation in ROTATIONS[turn % 2]:
                x0 = x0 + x1
                x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
                x1 = x1 ^ x0
            x0 = x0 + schedule[(turn + 1) % 3]
            x1 = x1 + schedule[(turn + 2) % 3] + np.uint32(turn + 1)
    return x0, x1


def words(key: Array, counter: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """(w0, w1) of each element. key: two i32, counter: one i32, both taken as unsigned."""
    count = math.prod(shape)
    c0 = np.arange(count, dtype=np.uint64).astype(np.uint32)
    c1 = np.full(1, int(counter) & 0xFFFF_FFFF, np.uint32)
    w0, w1 = threefry2x32((int(key[0]) & 0xFFFF_FFFF, int(key[1]) & 0xFFFF_FFFF), c0, c1)
    return w0.reshape(shape), w1.reshape(shape)


def uniform(key: Array, counter: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Exact numbers, as float64."""
    w0, w1 = (word.astype(np.uint64) for word in words(key, counter, shape))
    if dtype == "f32":
        numbers: Array = (w0 >> np.uint64(8)).astype(np.float64) * 2.0**-24
    else:
        numbers = ((w0 << np.uint64(21)) + (w1 >> np.uint64(11))).astype(np.float64) * 2.0**-53
    return numbers


def normal(key: Array, counter: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """In the next higher precision than dtype's."""
    wide: Any = np.float64 if dtype == "f32" else np.longdouble
    dropped, kept = (8, 24) if dtype == "f32" else (0, 32)
    w0, w1 = ((word >> np.uint32(dropped)).astype(wide) for word in words(key, counter, shape))
    u, v = (w0 + 1) * wide(2) ** -kept, w1 * wide(2) ** -kept
    pi = 4 * np.arctan(wide(1))
    result: Array = np.sqrt(-2 * np.log(u)) * np.cos(2 * pi * v)
    return result
