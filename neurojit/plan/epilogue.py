"""What happens to an element of a product before it is stored (`Epilogue`), and functions by name.

    t = alpha * acc          left out for alpha = 1
    t = t + beta * C         the product rounded, then the sum; for beta = 1 plainly t + C
    t = t + bias
    t = t + residual
    C = activation(t)

Each line is rounded to the element type on its own, without fused multiply-adds, so that the same
operations in NumPy give the same bits up to the activation. C is read only if beta is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

FUNCTIONS = {
    "identity": 0, "exp": 0, "log": 0, "tanh": 0, "sigmoid": 0, "erf": 0,
    "relu": 0, "leaky_relu": 1, "clamp": 2, "elu": 1, "silu": 0, "gelu": 0, "gelu_tanh": 0,
}  # fmt: skip
"""name -> count of parameters. What they compute: neurojit.asm_templates.math."""
SHORT_FUNCTIONS = ("identity", "relu", "leaky_relu", "clamp")
"""Functions of one or two instructions and one temporary: applied to accumulators, not to the stored tile."""


@dataclass(frozen=True)
class Activation:
    """A function of one element by its name in FUNCTIONS, with its constant parameters.

    ValueError: unknown name, or another count of parameters."""

    name: str = "identity"
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise ValueError(f"activation {self.name!r}: expected one of {', '.join(FUNCTIONS)}")
        if len(self.parameters) != FUNCTIONS[self.name]:
            expected = FUNCTIONS[self.name]
            count = len(self.parameters)
            raise ValueError(f"activation {self.name}: {count} parameters, expected {expected}")

    def __str__(self) -> str:
        return self.name + (f"({', '.join(map(str, self.parameters))})" if self.parameters else "")


IDENTITY = Activation()


@dataclass(frozen=True)
class Epilogue:
    """See the module's head. bias: `row` is a vector of n elements added to every row of C, `column` one
    of m elements added to every column. residual: the row stride, in elements, of an m x n matrix with
    adjacent columns; None without one. Their addresses follow C's: first the bias, then the residual.

    Of products of one row or one column, residual and C have adjacent elements, and are taken as a row."""

    alpha: float = 1.0
    beta: float = 0.0
    bias: Literal["none", "row", "column"] = "none"
    residual: int | None = None
    activation: Activation = IDENTITY

    @property
    def buffers(self) -> int:
        """How many operands it has besides C."""
        return (self.bias != "none") + (self.residual is not None)

    def steps(self, size: int) -> tuple[tuple[int, int], ...]:
        """Of each operand, the bytes from one row of C to the next, and from one column to the next."""
        bias = {"none": (), "row": ((0, size),), "column": ((size, 0),)}[self.bias]
        return bias if self.residual is None else (*bias, (self.residual * size, size))

    def transposed(self, length: int) -> Epilogue:
        """For a column of `length` adjacent elements that is computed as a row."""
        if self is NO_EPILOGUE:
            return self
        bias: dict[str, Literal["none", "row", "column"]] = {"row": "column", "column": "row"}
        residual = None if self.residual is None else length
        return replace(self, bias=bias.get(self.bias, "none"), residual=residual)

    def __str__(self) -> str:
        terms = f"{self.alpha} acc" if self.alpha != 1 else "acc"
        terms += f" + {self.beta} C" if self.beta else ""
        terms += f" + {self.bias} bias" if self.bias != "none" else ""
        terms += " + residual" if self.residual is not None else ""
        return f"{self.activation}({terms})"


NO_EPILOGUE = Epilogue()
