"""Layers: plain objects that hold weights and build TensorLang. `nj.compile` takes one, or a list of them.

    policy = nj.compile([nn.Linear(16, 32), "tanh", nn.Linear(32, 8)])
    memory = nj.compile(nn.LSTM(64, 64))                    a step a call; h and c persist in `memory.state`

Weights are NumPy arrays, in the layouts that the classes state; without any they are drawn as PyTorch draws
them, from the generator given. `weights` of a layer names them all.
"""

from neurojit.ir.layer import Function, Layer, Scope, module_of
from neurojit.nn.attention import MultiHeadAttention
from neurojit.nn.combine import Residual, Sequential
from neurojit.nn.dense import MLP, Embedding, LayerNorm, Linear, RMSNorm
from neurojit.nn.recurrent import GRU, LSTM

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "Embedding",
    "Function",
    "Layer",
    "LayerNorm",
    "Linear",
    "MultiHeadAttention",
    "RMSNorm",
    "Residual",
    "Scope",
    "Sequential",
    "module_of",
]
