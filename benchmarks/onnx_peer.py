"""Networks for ONNX Runtime: a model of the same layers, called in both of the ways that it offers.

All of its graph optimizations, one thread unless said. `run` takes and gives arrays; with IO binding the
addresses of inputs and outputs are fixed before, and a state goes back and forth between two buffers without
a copy. Attention is there once in ONNX's own ops and once as the runtime's fused Attention. The best of all
counts.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from whole_networks import Call, Network

from neurojit import nn
from neurojit.ir.layer import Array, Function

OPSET, IR_VERSION = 17, 9
available = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
missing = "no ONNX Runtime here (pip install 'neurojit[peers]')"


def version() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def calls_of(network: Network, threads: int = 1) -> dict[str, Call]:
    """Name -> a way to call it; none without ONNX Runtime."""
    if not available:
        return {}
    found: dict[str, Call] = {}
    for suffix, fused in (("", False), (", fused attention", True)):
        graph = Graph(fused)
        feeds, outputs = graph.build(network)
        if fused and not graph.has_attention:
            continue
        session = graph.session(graph.model(feeds, outputs), threads)
        found |= {f"{name}{suffix}": call for name, call in ways(session, feeds, list(outputs)).items()}
    return found


def compile_ms(before: Network, network: Network, _any_batch: bool) -> float:
    """Milliseconds from a model to its first result, after another."""

    def first_result(network: Network) -> float:
        graph = Graph(False)
        feeds, outputs = graph.build(network)
        model = graph.model(feeds, outputs)
        start = time.perf_counter()
        graph.session(model, 1).run(None, feeds)
        return 1e3 * (time.perf_counter() - start)

    first_result(before)
    return first_result(network)


def ways(session: Any, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Call]:
    """feeds: x and what its state is at first; outputs: y, and the state after. h, the first part of a state,
    is the output of a step."""
    state = [name for name in feeds if name != "x"]
    if not state:
        y = np.empty_like(session.run(outputs, feeds)[0])
        binding = bound(session, feeds, {outputs[0]: y})
        names = {"run": session.run_with_iobinding, "b": binding, "y": y, "x": feeds["x"]}
        return {
            "run": Call("y, = run(None, {'x': x})", {"run": session.run, "x": feeds["x"]}),
            "IO binding": Call("run(b)", names),
        }
    here = {name: feeds[name].copy() for name in state}
    there = {name: feeds[name].copy() for name in state}
    names = {
        "run": session.run_with_iobinding,
        "a": bound(session, {"x": feeds["x"], **here}, dict(zip(outputs, there.values(), strict=True))),
        "b": bound(session, {"x": feeds["x"], **there}, dict(zip(outputs, here.values(), strict=True))),
        "y": here[state[0]],
        "first": list(here.values()),
        "kept": (feeds, there),  # a binding knows addresses alone
    }
    variables = ", ".join(state)
    pairs = ", ".join(f"'{name}': {name}" for name in state)
    return {
        "run": Call(
            f"{variables}, = run(None, {{'x': x, {pairs}}}); y = {state[0]}",
            {"run": session.run, "x": feeds["x"], "zeros": [feeds[name] for name in state]},
            f"{variables}, = zeros",
        ),
        "IO binding": Call("run(a); run(b)", names, "for s in first: s.fill(0)", 2),
    }


def bound(session: Any, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
    """The arrays' own memory as inputs and outputs of a session."""
    binding = session.io_binding()
    for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
        for name, array in arrays.items():
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    return binding


class Graph:
    """An ONNX graph in the making. fused: attention as one op of the runtime's own domain."""

    def __init__(self, fused: bool) -> None:
        self.fused, self.has_attention = fused, False
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **more: Any) -> Any:
        """The names of its results; of one alone, the name."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.named(kind, inputs, names, **more)
        return names[0] if outputs == 1 else names

    def named(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> None:
        """An op whose results have these names."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, **more))

    def build(self, network: Network) -> tuple[dict[str, Array], dict[str, int]]:
        """What it is fed with at first, and its outputs with their ranks."""
        x = network.input
        layers = network.layers
        if isinstance(layers[0], (nn.LSTM, nn.GRU)):
            return self.recurrent(layers[0], x)
        return {"x": x}, {self.add(layers, "x"): x.ndim}

    def model(self, feeds: dict[str, Array], outputs: dict[str, int]) -> bytes:
        """As in a file."""
        from onnx import TensorProto, checker, helper

        def values(names: Any, shapes: Any) -> list[Any]:
            pairs = zip(names, shapes, strict=True)
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in pairs]

        inputs = values(feeds, [array.shape for array in feeds.values()])
        ends = values(outputs, [[None] * rank for rank in outputs.values()])
        graph = helper.make_graph(self.nodes, "network", inputs, ends, self.initializers)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
        checker.check_model(model)
        serialized: bytes = model.SerializeToString()
        return serialized

    @staticmethod
    def session(model: bytes, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def add(self, layers: Any, x: str) -> str:
        """Layers one after the other. TypeError: one that stands in no network here."""
        for layer in layers:
            if isinstance(layer, str):
                layer = Function(layer)
            if isinstance(layer, nn.Residual):
                x = self.op("Add", x, self.add(layer.layers, x))
            elif isinstance(layer, nn.Sequential):
                x = self.add(layer.layers, x)
            elif isinstance(layer, nn.Linear):
                x = self.op("Gemm", x, self.constant(layer.weight), self.constant(layer.bias))
            elif isinstance(layer, Function):
                x = self.op(layer.name.capitalize(), x)
            elif isinstance(layer, nn.LayerNorm):
                parts = self.constant(layer.weight), self.constant(layer.bias)
                x = self.op("LayerNormalization", x, *parts, axis=-1, epsilon=layer.epsilon)
            elif isinstance(layer, nn.MultiHeadAttention):
                x = self.attention(layer, x)
            else:
                raise TypeError(f"onnx_peer: {layer!r}: expected a layer that this file translates")
        return x

    def attention(self, layer: nn.MultiHeadAttention, x: str) -> str:
        self.has_attention = True
        weights = {name: self.constant(array) for name, array in layer.arrays.items()}
        tokens, heads, depth = layer.tokens or 1, layer.heads, layer.width // layer.heads
        rows = self.constant(np.array([tokens, layer.width], np.int64))
        if self.fused:
            batched = self.op("Reshape", x, self.constant(np.array([1, tokens, layer.width], np.int64)))
            mixed = self.op(
                "Attention", batched, weights["weight"], weights["bias"],
                domain="com.microsoft", num_heads=heads,
            )  # fmt: skip
        else:
            projected = self.op("Gemm", x, weights["weight"], weights["bias"])
            split = self.constant(np.array([tokens, heads, depth], np.int64))
            parts = self.op("Split", projected, outputs=3, axis=1)
            q, k, v = (
                self.op("Transpose", self.op("Reshape", part, split), perm=order)
                for part, order in zip(parts, ((1, 0, 2), (1, 2, 0), (1, 0, 2)), strict=True)
            )
            scores = self.op("Mul", self.op("MatMul", q, k), self.constant(np.float32(depth**-0.5)))
            mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
            mixed = self.op("Transpose", mixed, perm=(1, 0, 2))
        return self.op("Gemm", self.op("Reshape", mixed, rows), weights["out_weight"], weights["out_bias"])

    def recurrent(self, layer: nn.LSTM | nn.GRU, x: Array) -> tuple[dict[str, Array], dict[str, int]]:
        """ONNX has i, o, f, c where the layer has i, f, g, o; and z, r, h where it has r, z, n."""
        order = (0, 3, 1, 2) if isinstance(layer, nn.LSTM) else (1, 0, 2)

        def gates(array: Array) -> Array:
            parts = np.split(array, layer.gates, axis=-1)
            return np.concatenate([parts[i] for i in order], axis=-1)

        bias = np.concatenate([gates(layer.input_bias), gates(layer.state_bias)])
        weights = [self.constant(gates(w).T[None]) for w in (layer.input_weight, layer.state_weight)]
        weights.append(self.constant(bias[None]))
        kind = type(layer).__name__
        more: dict[str, Any] = {"hidden_size": layer.hidden}
        if isinstance(layer, nn.GRU):
            more["linear_before_reset"] = int(layer.reset == "after")
        steps = layer.steps or 1
        feeds = {"x": x.reshape(steps, 1, layer.inputs)}
        if layer.steps is not None:
            self.named(kind, ("x", *weights), ("y",), **more)
            return feeds, {"y": 4}
        state = list(layer.carried)
        feeds |= {name: np.zeros((1, 1, layer.hidden), np.float32) for name in state}
        after = tuple(f"{name}_after" for name in state)
        self.named(kind, ("x", *weights, "", *state), ("", *after), **more)
        return feeds, dict.fromkeys(after, 3)
