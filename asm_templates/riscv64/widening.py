"""Loads of small storage types as float32, and products of words: see neurojit.plan.panels.

A load of bytes while elements have 32 bits takes as many of them, in a quarter of the registers; so int8 is
extended in one step, then converted, exactly. bf16 is the upper half of a float32: the second of a pair is
there but for what lies below it, which two shifts remove. Products of integers take the even bytes of a lane,
or the odd ones, as words, and multiply the low and the high ones apart.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Pointer, Scalar, Vector
from neurojit.asm_templates.riscv64.core import Config
from neurojit.asm_templates.riscv64.lanes import RvvLanes

HALF = 16  # bits of a word, or of bf16, in a lane


class RvvWidening(RvvLanes):
    """See the module's head."""

    def expect_storage(self, storage: str) -> None:
        """Nothing: no step needs a constant."""

    def load_as(self, storage: str, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        if storage == "int8":
            return self._load_int8(lanes, pointer, offset)
        target = self.load(lanes, pointer, offset)
        register = target.register
        if storage == "int8 words":
            words = Config(HALF, self.group_of(lanes), 2 * lanes, False)
            self.configure(words)
            for shift in ("vsll", "vsra")[part:]:
                self.op(f"{shift}.vi v, v, i", register, register, 8)
        else:
            for shift in ("vsrl", "vsll")[1 - part :]:
                self.op(f"{shift}.vi v, v, i", register, register, HALF)
        return target

    def dot(self, storage: str, accumulator: Vector, scalar: Scalar, vector: Vector) -> None:
        """Of words alone. The halves of each product have their signs, so shifts take them out."""
        assert type(scalar) is Vector
        assert storage == "int8 words", storage
        lanes = accumulator.lanes
        a, b = self.fresh(lanes), self.fresh(lanes)
        self.on(lanes)
        for shifts in (("vsll", "vsra"), ("vsra",)):
            for half, whole in ((a, scalar), (b, vector)):
                source = whole.register
                for shift in shifts:
                    self.op(f"{shift}.vi v, v, i", half.register, source, HALF)
                    source = half.register
            self.op("vmacc.vv v, v, v", accumulator.register, a.register, b.register)
        self.drop(a, b)

    def _load_int8(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        target, bytes_ = self.fresh(lanes), self.fresh(-(-lanes // 4))
        self.on(lanes)
        self.op("vle8.v v, (x)", bytes_.register, self.exact_address(pointer, offset))
        self.op("vsext.vf4 v, v", target.register, bytes_.register)
        self.op("vfcvt.f.x.v v, v", target.register, target.register)
        self.drop(bytes_)
        return target
