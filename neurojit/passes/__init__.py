"""Passes over TensorLang: valid IR in, valid IR out, the same results.

A pass is one file, one line in PIPELINE, and one text test. `run` verifies a module before the first pass and
after each one that changed it, and repeats the pipeline until nothing changes. A function with a schedule is
left as it is written: the schedule names its ops.
"""

from neurojit.passes.infer_shapes import InferShapes
from neurojit.passes.pipeline import PIPELINE, run
from neurojit.passes.rewrite import Pass

__all__ = ["PIPELINE", "InferShapes", "Pass", "run"]
