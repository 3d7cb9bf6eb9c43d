"""Networks to compile, as TensorLang modules with weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from neurojit.ir import Builder, Module, Value

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
ELEMENT = {"f32": np.float32, "f64": np.float64}


class Net:
    """A function in the making, whose weights are made up as it names them."""

    def __init__(self, element: str = "f32") -> None:
        self.b = Builder("main")
        self.element = element
        self.weights: Weights = {}
        self.rng = np.random.default_rng(len(element))

    def input(self, name: str, *shape: int | str) -> Value:
        return self.b.parameter(name, f"tensor<{'x'.join(map(str, (*shape, self.element)))}>")

    def weight(self, name: str, *shape: int) -> Value:
        scale = 1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.3
        self.weights[name] = (self.rng.standard_normal(shape) * scale).astype(ELEMENT[self.element])
        return self.b.weight(name=name, type=f"tensor<{'x'.join(map(str, (*shape, self.element)))}>")

    def state(self, name: str, *shape: int, initial: float = 0.0) -> Value:
        type_ = f"tensor<{'x'.join(map(str, (*shape, self.element)))}>"
        return self.b.state_read(name=name, initial=initial, type=type_)

    def dense(self, x: Value, name: str, k: int, n: int, activation: str = "") -> Value:
        y = self.b.add(self.b.matmul(x, self.weight(f"w{name}", k, n)), self.weight(f"b{name}", n))
        return getattr(self.b, activation)(y) if activation else y

    def module(self, *outputs: Value) -> tuple[Module, Weights]:
        return Module("net", (self.b.build(*outputs),)), self.weights


def perceptron(
    widths: tuple[int, ...], batch: int | str = "?", activation: str = "tanh", element: str = "f32"
) -> tuple[Module, Weights]:
    net = Net(element)
    h = net.input("x", batch, widths[0])
    for number, (k, n) in enumerate(itertools.pairwise(widths)):
        h = net.dense(h, str(number), k, n, activation if number < len(widths) - 2 else "")
    return net.module(h)


def residual_block(batch: int | str = "?") -> tuple[Module, Weights]:
    """Two outputs; a residual, elementwise ops with two uses, an output that is an input of others."""
    net = Net()
    b, x = net.b, net.input("x", batch, 20)
    h = net.dense(x, "up", 20, 36, "gelu")
    y = b.add(net.dense(h, "down", 36, 20), x)
    gate = b.sigmoid(y)
    z = b.mul(gate, b.sub(b.exp(b.neg(b.abs(y))), 0.25))
    return net.module(y, b.add(z, gate))


def recurrent(batch: int = 1, inputs: int = 12, hidden: int = 20) -> tuple[Module, Weights]:
    """A step of an LSTM with its state: h and c persist, gates are slices of one row."""
    net = Net()
    b, x = net.b, net.input("x", batch, inputs)
    h, c = net.state("h", batch, hidden), net.state("c", batch, hidden)
    gates = b.add(
        b.add(
            b.matmul(x, net.weight("wx", inputs, 4 * hidden)),
            b.matmul(h, net.weight("wh", hidden, 4 * hidden)),
        ),
        net.weight("b", 4 * hidden),
    )
    i, f, g, o = (b.slice(gates, axis=1, start=n * hidden, end=(n + 1) * hidden) for n in range(4))
    c_new = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
    h_new = b.mul(b.sigmoid(o), b.tanh(c_new))
    b.state_write(h_new, name="h")
    b.state_write(c_new, name="c")
    return net.module(h_new)


def recurrent_sequence(
    steps: int = 9, batch: int = 1, inputs: int = 12, hidden: int = 20, reverse: bool = False
) -> tuple[Module, Weights]:
    """The LSTM as a scan: outputs of all steps, and what is carried last."""
    net = Net()
    b, xs = net.b, net.input("xs", steps, batch, inputs)
    h0, c0 = net.input("h0", batch, hidden), net.input("c0", batch, hidden)
    wx, wh = net.weight("wx", inputs, 4 * hidden), net.weight("wh", hidden, 4 * hidden)
    bias = net.weight("b", 4 * hidden)

    def step(h: Value, c: Value, x: Value) -> tuple[list[Value], list[Value]]:
        gates = b.add(b.add(b.matmul(x, wx), b.matmul(h, wh)), bias)
        i, f, g, o = (b.slice(gates, axis=1, start=n * hidden, end=(n + 1) * hidden) for n in range(4))
        c = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
        h = b.mul(b.sigmoid(o), b.tanh(c))
        return [h, c], [h]

    (h, c), (hs,) = b.scan(step, (h0, c0), (xs,), reverse=reverse)
    return net.module(hs, h, c)


def gated(
    batch: int | str = 1, inputs: int = 12, hidden: int = 20, reset_after: bool = True
) -> tuple[Module, Weights]:
    """A step of a GRU, the carried h an input: the reset gate after the product, as in torch, or before."""
    net = Net()
    b, x, h = net.b, net.input("x", batch, inputs), net.input("h", batch, hidden)
    wx, wh = net.weight("wx", inputs, 3 * hidden), net.weight("wh", hidden, 3 * hidden)
    bx, bh = net.weight("bx", 3 * hidden), net.weight("bh", 3 * hidden)

    def gate(value: Value, n: int) -> Value:
        return b.slice(value, axis=1, start=n * hidden, end=(n + 1) * hidden)

    of_x = b.add(b.matmul(x, wx), bx)
    of_h = b.add(b.matmul(h, wh), bh)
    r = b.sigmoid(b.add(gate(of_x, 0), gate(of_h, 0)))
    z = b.sigmoid(b.add(gate(of_x, 1), gate(of_h, 1)))
    if reset_after:
        candidate = b.mul(r, gate(of_h, 2))
    else:
        candidate = b.matmul(b.mul(r, h), net.weight("wn", hidden, hidden))
    n = b.tanh(b.add(gate(of_x, 2), candidate))
    return net.module(b.add(b.mul(b.sub(1.0, z), n), b.mul(z, h)))


def encoder(tokens: int = 5, width: int = 16, heads: int = 2) -> tuple[Module, Weights]:
    """A transformer's block: attention over heads, layer norms, residuals, a dense block."""
    net = Net()
    b, x = net.b, net.input("x", tokens, width)
    depth = width // heads

    def split(value: Value) -> Value:
        return b.transpose(b.reshape(value, shape=(tokens, heads, depth)), permutation=(1, 0, 2))

    normed = b.layer_norm(x, net.weight("g1", width), net.weight("s1", width))
    q, k, v = (split(net.dense(normed, name, width, width)) for name in "qkv")
    scores = b.softmax(b.mul(b.matmul(q, k, transpose_b=True), depth**-0.5), axis=2)
    mixed = b.reshape(b.transpose(b.matmul(scores, v), permutation=(1, 0, 2)), shape=(tokens, width))
    x = b.add(net.dense(mixed, "o", width, width), x)
    normed = b.layer_norm(x, net.weight("g2", width), net.weight("s2", width))
    hidden = net.dense(normed, "up", width, 2 * width, "gelu")
    return net.module(b.add(net.dense(hidden, "down", 2 * width, width), x))
