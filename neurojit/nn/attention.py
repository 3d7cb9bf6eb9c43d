"""Attention of several heads: over a whole sequence, or a token a call with the keys and values before it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from neurojit.ir.layer import Layer, Scope
from neurojit.ir.structure import Value
from neurojit.ir.types import TensorType
from neurojit.nn.weights import checked_element, checked_extents, generator, given_or_drawn

Rng = np.random.Generator | int | None
MASKED = -1e30
"""A score so low that its weight is 0, and no NaN arises where a row has nothing else."""


class MultiHeadAttention(Layer):
    """softmax(q k' / sqrt(d)) v for each of `heads`, d = width / heads (Vaswani et al. 2017).

    tokens: x (tokens, width) gives as much; causal: none looks at those after it. cache: instead of tokens, x
    is one token (1, width) a call, and the keys and values of the last calls, up to so many, are states;
    beyond, the oldest are overwritten. weight (width, 3 width), query, key and value side by side;
    out_weight (width, width)."""

    def __init__(
        self,
        width: int,
        heads: int,
        weight: Any = None,
        bias: Any = None,
        out_weight: Any = None,
        out_bias: Any = None,
        *,
        tokens: int | None = None,
        cache: int | None = None,
        causal: bool = False,
        dtype: str = "f32",
        rng: Rng = None,
    ) -> None:
        what = f"MultiHeadAttention({width}, {heads})"
        checked_extents(what, width=width, heads=heads)
        checked_element(what, dtype)
        if width % heads:
            raise ValueError(f"{what}: width {width} is no multiple of {heads} heads")
        if (tokens is None) == (cache is None):
            raise ValueError(f"{what}: expected either tokens or cache, a number of tokens")
        checked_extents(what, **({"tokens": tokens} if tokens is not None else {"cache": cache or 0}))
        self.width, self.heads, self.tokens, self.cache = width, heads, tokens, cache
        self.causal, self.dtype = causal, dtype
        source, bound = generator(rng), 1 / sqrt(width)
        shapes = {"weight": (width, 3 * width), "bias": (3 * width,)}
        shapes |= {"out_weight": (width, width), "out_bias": (width,)}
        given = {"weight": weight, "bias": bias, "out_weight": out_weight, "out_bias": out_bias}
        self.arrays = {
            name: given_or_drawn(f"{what}: {name}", given[name], shape, dtype, source, bound)
            for name, shape in shapes.items()
        }

    @property
    def input_type(self) -> TensorType:
        return TensorType((self.tokens or 1, self.width), self.dtype)

    def build(self, scope: Scope, x: Value) -> Value:
        b = scope.b
        weights = {name: scope.weight(name, array) for name, array in self.arrays.items()}
        projected = b.add(b.matmul(x, weights["weight"]), weights["bias"])
        q, k, v = (self._heads(scope, projected, part) for part in range(3))
        mask = None
        if self.cache is not None:
            k, v, mask = self._remembered(scope, k, v)
        elif self.causal:
            later = np.triu(np.full((self.tokens or 1, self.tokens or 1), MASKED), 1)
            mask = b.constant(later, self.dtype)
        scores = b.mul(b.matmul(q, k, transpose_b=True), 1 / sqrt(self.width // self.heads))
        if mask is not None:
            scores = b.add(scores, mask)
        mixed = b.matmul(b.softmax(scores, axis=-1), v)
        tokens = b.reshape(b.transpose(mixed, permutation=(1, 0, 2)), shape=(self.tokens or 1, self.width))
        return b.add(b.matmul(tokens, weights["out_weight"]), weights["out_bias"])

    def _heads(self, scope: Scope, projected: Value, part: int) -> Value:
        """Query, key or value as (heads, tokens, width / heads)."""
        b = scope.b
        own = b.slice(projected, axis=1, start=part * self.width, end=(part + 1) * self.width)
        split = b.reshape(own, shape=(self.tokens or 1, self.heads, self.width // self.heads))
        return b.transpose(split, permutation=(1, 0, 2))

    def _remembered(self, scope: Scope, k: Value, v: Value) -> tuple[Value, Value, Value]:
        """Keys and values of the tokens so far, this one included, and a mask of the places still empty."""
        b, length = scope.b, self.cache or 1
        kept = TensorType((self.heads, length, self.width // self.heads), self.dtype)
        counter = TensorType((1, 1), self.dtype)
        place, filled = scope.state("place", counter), scope.state("filled", counter)
        places = b.constant(np.arange(length, dtype=np.float64).reshape(length, 1), self.dtype)
        here = b.compare(places, place, predicate="eq")
        chosen = []
        for name, fresh in (("keys", k), ("values", v)):
            now = b.select(here, fresh, scope.state(name, kept))
            scope.keep(name, now)
            chosen.append(now)
        beyond = b.compare(place, float(length - 1), predicate="ge")
        scope.keep("place", b.select(beyond, 0.0, b.add(place, 1.0)))
        now_filled = b.minimum(b.add(filled, 1.0), float(length))
        scope.keep("filled", now_filled)
        # halves between the whole numbers, so that no rounding could decide, and the gate knows it
        halves = b.constant(np.arange(length).reshape(1, length) + 0.5, self.dtype)
        mask = b.select(b.compare(halves, now_filled, predicate="lt"), 0.0, MASKED)
        return chosen[0], chosen[1], mask

    def __repr__(self) -> str:
        return f"MultiHeadAttention({self.width}, {self.heads})"
