"""What a fused elementwise kernel computes (`Map`): a chain of functions, from one array to another."""

from __future__ import annotations

from dataclasses import dataclass

from neurojit.plan.epilogue import Activation


@dataclass(frozen=True)
class Map:
    """y[i] = f_last(... f_first(x[i])) for 0 <= i < n, n the kernel's dynamic extent. x and y are contiguous;
    y may be x."""

    dtype: str
    functions: tuple[Activation, ...]
