"""The planner: from a function of TensorLang to the plan of one native function (plan/program.py)."""

from neurojit.planner.network import plan_program

__all__ = ["plan_program"]
