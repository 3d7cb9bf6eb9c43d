"""Networks for PyTorch: its own modules with the same weights, in inference mode.

`eager` is the module as it is called; `jit` is traced and frozen; `compile` is torch.compile's, for which a
C++ compiler is needed, and some ten seconds for each network. Steps of recurrent networks are its LSTMCell
and GRUCell.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
import warnings
from typing import Any

from whole_networks import Call, Network

from neurojit import nn
from neurojit.ir.layer import Array, Function

available = importlib.util.find_spec("torch") is not None
has_compiler = shutil.which("c++") is not None
missing = "no PyTorch here (pip install 'neurojit[peers]')"


def version() -> str:
    import torch

    return f"PyTorch {torch.__version__}"


def calls_of(network: Network, compiled: bool, threads: int = 1) -> dict[str, Call]:
    """Name -> a way to call it; none without PyTorch. compiled: torch.compile's among them. All of them have
    as many threads as the last call of this function said."""
    if not available:
        return {}
    import torch

    torch.set_num_threads(threads)
    layer = network.layers[0]
    module, (x, *_) = module_of(network)
    if isinstance(layer, (nn.LSTM, nn.GRU)) and layer.steps is None:
        return calls_of_cell(module, x, layer, compiled)
    result = "y, _ = f(x)" if isinstance(layer, (nn.LSTM, nn.GRU)) else "y = f(x)"
    ways = variants(module, (x,), compiled)
    return {name: Call(result, {"f": f, "x": x}, around=torch.inference_mode) for name, f in ways.items()}


def module_of(network: Network) -> tuple[Any, list[Any]]:
    """The module, and what it is first called with."""
    import torch

    layer = network.layers[0]
    x = torch.from_numpy(network.input)
    if isinstance(layer, (nn.LSTM, nn.GRU)):
        if layer.steps is not None:
            return sequence(layer), [x]
        zeros = [torch.zeros(layer.batch, layer.hidden) for _ in layer.carried]
        return cell(layer), [x, tuple(zeros) if len(zeros) > 1 else zeros[0]]
    return stacked(network.layers), [x[None] if isinstance(layer, nn.Residual) else x]


def compile_ms(before: Network, network: Network, _any_batch: bool) -> float:
    """Milliseconds from a module to the first result of torch.compile, after another."""
    import torch

    def first_result(network: Network) -> float:
        module, inputs = module_of(network)
        start = time.perf_counter()
        with torch.inference_mode():
            torch.compile(module)(*inputs)
        return 1e3 * (time.perf_counter() - start)

    torch.set_num_threads(1)
    first_result(before)
    return first_result(network)


def calls_of_cell(module: Any, x: Any, layer: nn.LSTM | nn.GRU, compiled: bool) -> dict[str, Call]:
    import torch

    class Step(torch.nn.Module):
        """A cell with its state as arguments, which jit and compile want."""

        def __init__(self) -> None:
            super().__init__()
            self.cell = module

        def forward(self, x: Any, *state: Any) -> Any:
            return self.cell(x, state if len(state) > 1 else state[0])

    zeros = [torch.zeros(layer.batch, layer.hidden) for _ in layer.carried]
    ways = variants(Step().eval(), (x, *zeros), compiled)
    ways["eager"] = module
    of_lstm = isinstance(layer, nn.LSTM)
    calls = {}
    for name, f in ways.items():
        if of_lstm:
            arguments = "x, (y, c)" if name == "eager" else "x, y, c"
            call = f"y, c = f({arguments})", "y, c = zeros"
        else:
            call = "y = f(x, y)", "y, = zeros"
        calls[name] = Call(call[0], {"f": f, "x": x, "zeros": zeros}, call[1], around=torch.inference_mode)
    return calls


def variants(module: Any, inputs: tuple[Any, ...], compiled: bool) -> dict[str, Any]:
    """The module as it is, traced, and compiled."""
    import torch

    module = module.eval()
    found = {"eager": module}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that torch.jit is old
        found["jit"] = torch.jit.freeze(torch.jit.trace(module, inputs, check_trace=False))
        if compiled and has_compiler:
            torch.compiler.reset()  # else it gives up after so many networks
            found["compile"] = torch.compile(module)
            for _ in range(3):
                found["compile"](*inputs)
    return found


def tensor(array: Array) -> Any:
    """A copy of an array; neurojit's weights are transposed there."""
    import torch

    return torch.from_numpy(array.T.copy())


def load(module: Any, arrays: dict[str, Array]) -> Any:
    """The module with these weights."""
    module.load_state_dict({name: tensor(array) for name, array in arrays.items()})
    return module.eval()


def recurrent_weights(layer: nn.LSTM | nn.GRU, suffix: str = "") -> dict[str, Array]:
    arrays = layer.input_weight, layer.state_weight, layer.input_bias, layer.state_bias
    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    return {name + suffix: array for name, array in zip(names, arrays, strict=True)}


def cell(layer: nn.LSTM | nn.GRU) -> Any:
    import torch

    kind = torch.nn.LSTMCell if isinstance(layer, nn.LSTM) else torch.nn.GRUCell
    return load(kind(layer.inputs, layer.hidden), recurrent_weights(layer))


def sequence(layer: nn.LSTM | nn.GRU) -> Any:
    import torch

    kind = torch.nn.LSTM if isinstance(layer, nn.LSTM) else torch.nn.GRU
    return load(kind(layer.inputs, layer.hidden), recurrent_weights(layer, "_l0"))


def attention(layer: nn.MultiHeadAttention) -> Any:
    import torch

    made = torch.nn.MultiheadAttention(layer.width, layer.heads, batch_first=True)
    return load(made, attention_weights(layer))


def attention_weights(layer: nn.MultiHeadAttention, prefix: str = "") -> dict[str, Array]:
    names = {
        "in_proj_weight": "weight",
        "in_proj_bias": "bias",
        "out_proj.weight": "out_weight",
        "out_proj.bias": "out_bias",
    }
    return {prefix + name: layer.arrays[ours] for name, ours in names.items()}


def stacked(layers: list[Any]) -> Any:
    """Layers one after the other; four that are an encoder's block as one TransformerEncoderLayer."""
    import torch

    modules: list[Any] = []
    rest = list(layers)
    while rest:
        if isinstance(rest[0], nn.Residual):
            modules.append(encoder_block(*rest[:4]))
            del rest[:4]
        else:
            modules.append(simple(rest.pop(0)))
    return torch.nn.Sequential(*modules).eval() if len(modules) > 1 else modules[0]


def simple(layer: Any) -> Any:
    """TypeError: one that stands in no network here."""
    import torch

    if isinstance(layer, nn.Sequential):
        return stacked(layer.layers)
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        made = torch.nn.Linear(layer.inputs, layer.outputs)
        return load(made, {"weight": layer.weight, "bias": layer.bias})
    if isinstance(layer, Function):
        return {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[layer.name]()
    raise TypeError(f"torch_peer: {layer!r}: expected a layer that this file translates")


def encoder_block(mix: nn.Residual, norm: nn.LayerNorm, dense: nn.Residual, last: nn.LayerNorm) -> Any:
    import torch

    first, _, second = dense.layers
    layer = mix.layers[0]
    made = torch.nn.TransformerEncoderLayer(layer.width, layer.heads, first.outputs, batch_first=True)
    arrays = attention_weights(layer, "self_attn.")
    for name, part in (("norm1", norm), ("norm2", last), ("linear1", first), ("linear2", second)):
        arrays |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    return load(made, arrays)
