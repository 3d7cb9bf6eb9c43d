"""What a schedule says of fusion: which ops one kernel computes, and which ops a kernel begins with.

The language has checked that fused ops use each other and that nothing between them must be computed
elsewhere (ir/schedule.py). Here stands which of them some kernel computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from neurojit.errors import TensorLangError
from neurojit.ir.rules import MisfitError
from neurojit.ir.schedule import diagnostic_of, fused_together
from neurojit.ir.structure import Block, Op, Step
from neurojit.ir.table import OPS


def refuse(
    step: Step, message: str, expected: str = "", got: str = "", hint: str = "", at: str | None = None
) -> NoReturn:
    """TensorLangError at a step that cannot be obeyed, or at one of its parameters."""
    raise TensorLangError([diagnostic_of(step, MisfitError(message, expected, got, hint, at))])


@dataclass(frozen=True)
class Together:
    """Ops of one kernel, in the order of the text. steps: for each op's name one that says so."""

    ops: tuple[Op, ...]
    steps: Mapping[str, Step]

    @property
    def is_product(self) -> bool:
        return self.ops[0].name == "matmul"


@dataclass(frozen=True)
class Fusing:
    """together: ops of one kernel by name, each with a step that says so. alone: the names of ops that a
    kernel begins with."""

    together: tuple[Mapping[str, Step], ...] = ()
    alone: frozenset[str] = frozenset()
    named: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Fusing:
        """TensorLangError: an op that is fused with another and alone."""
        steps = list(steps)
        together = tuple(fused_together(steps))
        alone = {step.op: step for step in steps if step.kind == "unfuse"}
        for step in steps:
            if step.kind == "fuse" and step.op in alone:
                refuse(
                    alone[step.op], f"%{step.op} is fused into %{step.parameters['into']}", "one of the two"
                )
        named = frozenset(alone).union(*together)
        return cls(together, frozenset(alone), named)

    def is_free(self, op: Op) -> bool:
        """Whether the schedule leaves the op to the planner."""
        return not self.named or all(value.name not in self.named for value in op.results)

    def in_block(self, block: Block) -> dict[int, Together]:
        """id of an op of the block -> the ops of its kernel, where the schedule says. TensorLangError: of
        kinds that no kernel has together."""
        found: dict[int, Together] = {}
        for steps in self.together:
            ops = tuple(op for op in block.body if op.results and op.results[0].name in steps)
            if not ops:
                continue
            for op in ops:
                kind = OPS[op.name].lowering
                if op.name == "matmul" and op is ops[0]:
                    continue
                step = steps[op.result.name]
                if kind == "gemm":
                    first = steps[ops[0].result.name]
                    refuse(
                        first, f"no kernel of {op} computes what comes before it", "ops that use its result"
                    )
                if kind != "map":
                    refuse(
                        step,
                        f"no kernel of {op} computes other ops",
                        "a product, or elementwise ops",
                        op.name,
                    )
            found.update((id(op), made) for made in [Together(ops, steps)] for op in ops)
        return found


FREELY = Fusing()
