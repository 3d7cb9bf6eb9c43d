"""The vector machine of RISC-V V 1.0, made for one vector length.

A vector lives in a group of 1, 2, 4 or 8 registers, as many as its lanes need: so 16 floats are one operand
of one instruction on every machine, four registers of 128 bits or one of 512. Every instruction works on as
many lanes as vsetvli last said; the machine keeps track, and says it again only where that changes. A tail is
a shorter vector, not a mask. Scalars stay in scalar registers: the multiply-add takes them from there.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import (
    Element,
    InMemory,
    Mask,
    Operand,
    Pointer,
    RegisterPool,
    Scalar,
    ScalarRegister,
    Vector,
)
from neurojit.asm_templates.riscv64.core import X0, Config, RiscvMachine
from neurojit.encoder import CodeBuffer

# RISC-V psABI, chapter 1: ft0-ft7, fa0-fa7, ft8-ft11 need not be preserved; all vector registers need not.
CALLER_SAVED_FLOATS = (*range(8), *range(10, 18), *range(28, 32))


class GroupPool(RegisterPool):
    """The 32 vector registers, given out in aligned groups, from the top: v0, where masks go, comes last."""

    def __init__(self, template: str) -> None:
        super().__init__("vector", tuple(range(32)), template)
        self._free.clear()  # in its place: bit r is set where register r is free
        self._bits = 0xFFFF_FFFF

    @property
    def free(self) -> int:
        """Without v0: a comparison may need it."""
        return (self._bits >> 1).bit_count()

    def take(self, group: int = 1) -> int:
        firsts = self._bits & FIRST_OF_GROUP[group]
        for i in range(1, group):
            firsts &= self._bits >> i
        if not firsts:
            self._refuse()
        first = firsts.bit_length() - 1
        self._bits ^= _bits_of(first, group)
        return first

    def claim(self, register: int) -> int:
        if not self._bits >> register & 1:
            self._refuse()
        self._bits ^= 1 << register
        return register

    def give(self, register: int, group: int = 1) -> None:
        self._bits |= _bits_of(register, group)


FIRST_OF_GROUP = {1: 0xFFFF_FFFF, 2: 0x5555_5555, 4: 0x1111_1111, 8: 0x0101_0101}
"""Registers that a group of so many may begin with: V 1.0, section 3.4.2."""


def _bits_of(register: int, group: int) -> int:
    return ((1 << group) - 1) << register


class RotatingPool(RegisterPool):
    """Gives out the register that was given back longest ago: on a core that does not rename registers a load
    then need not wait for the multiply-add before it."""

    def give(self, register: int) -> None:
        self._free.insert(0, register)


class FirstLanes(Mask):
    """The first lanes, their count in the general register `register`."""


class RvvMoves(RiscvMachine):
    """Registers, loads, stores, the multiply-add; `rvv_arithmetic` adds what functions are written in."""

    def __init__(
        self, buffer: CodeBuffer, element: Element, template: str, *, vector_bits: int, micro: bool = False
    ) -> None:
        super().__init__(buffer, element, template, micro=micro)
        self.vector_bits = vector_bits
        self.vectors: GroupPool = GroupPool(template)
        self.floats = RotatingPool("floating-point", CALLER_SAVED_FLOATS, template)

    # The element may change from one body of a program to the next.

    @property
    def bits_of_element(self) -> int:
        return 8 * self.element.size

    @property
    def _load(self) -> str:
        return "vle32.v v, (x)" if self.element.size == 4 else "vle64.v v, (x)"

    @property
    def _store(self) -> str:
        return "vse32.v v, (x)" if self.element.size == 4 else "vse64.v v, (x)"

    @property
    def _load_scalar(self) -> str:
        return "flw f, i(x)" if self.element.size == 4 else "fld f, i(x)"

    @property
    def widest_lanes(self) -> int:
        return self.vector_bits // self.bits_of_element

    def expect(self, lanes: frozenset[int]) -> None:
        """Nothing: every count of lanes is a vector length."""

    def forget(self) -> None:
        """Nothing, likewise."""

    def group_of(self, lanes: int) -> int:
        group = 1
        while group * self.vector_bits < lanes * self.bits_of_element:
            group *= 2
        return group

    def fresh(self, lanes: int) -> Vector:
        group = self.group_of(lanes)
        return Vector(self.vectors.take(group), lanes, group * self.vector_bits)

    def on(self, lanes: int, undisturbed: bool = False) -> None:
        """The next instructions work on so many lanes."""
        self.configure(Config(self.bits_of_element, self.group_of(lanes), lanes, undisturbed))

    def drop(self, *operands: Scalar) -> None:
        for operand in operands:
            if type(operand) is Vector:
                self.vectors.give(operand.register, operand.width // self.vector_bits)
            elif type(operand) is ScalarRegister:
                self.floats.give(operand.register)

    # Memory ---------------------------------------------------------------------------------------

    def zero(self, lanes: int) -> Vector:
        vector = self.fresh(lanes)
        self.on(lanes)
        self.op("vmv.v.i v, i", vector.register, 0)
        return vector

    def load(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        vector = self.fresh(lanes)
        self.on(lanes)
        self.op(self._load, vector.register, self.exact_address(pointer, offset))
        return vector

    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        self.on(vector.lanes)
        self.op(self._store, vector.register, self.exact_address(pointer, offset))

    def vector(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Operand:
        return self.load(lanes, pointer, offset)

    def scalar(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> ScalarRegister:
        register = self.floats.take()
        base, displacement = self.near_address(pointer, offset)
        self.op(self._load_scalar, register, displacement, base)
        return ScalarRegister(register)

    def broadcast(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        scalar = self.scalar(lanes, pointer, offset, 1)
        vector = self.fresh(lanes)
        self.on(lanes)
        self.op("vfmv.v.f v, f", vector.register, scalar.register)
        self.drop(scalar)
        return vector

    # Multiply-add, sums ---------------------------------------------------------------------------

    def fma(self, accumulator: Vector, scalar: Scalar, vector: Operand) -> None:
        """Of a vector with fewer lanes than the accumulator the others are zeros: they add nothing."""
        assert type(vector) is Vector and type(scalar) is not InMemory
        lanes = min(accumulator.lanes, vector.lanes)
        if type(scalar) is Vector:
            lanes, form = min(lanes, scalar.lanes), "vfmacc.vv v, v, v"
        else:
            form = "vfmacc.vf v, f, v"
        self.on(lanes, undisturbed=lanes < accumulator.lanes)
        self.op(form, accumulator.register, scalar.register, vector.register)

    def row_sums(self, rows: list[Vector]) -> Vector:
        """Each row by halves, then its sum shifted in at the end of those before."""
        sums = self.fresh(len(rows))
        for row in rows:
            lanes = row.lanes
            upper = self.fresh(lanes)
            while lanes > 1:
                self.on(row.lanes)
                lanes //= 2
                self.slide_down(upper, row, lanes)
                self.on(lanes)
                self.op("vfadd.vv v, v, v", row.register, row.register, upper.register)
            self.drop(upper)
            total = self.floats.take()
            self.op("vfmv.f.s f, v", total, row.register)
            self.on(len(rows))
            self.op("vfslide1down.vf v, v, f", sums.register, sums.register, total)
            self.floats.give(total)
            self.drop(row)
        return sums

    def slide_down(self, target: Vector, source: Vector, lanes: int) -> None:
        """target[i] = source[i + lanes]."""
        self.op("vslidedown.vi v, v, i", target.register, source.register, lanes)

    # Lanes known at the call ----------------------------------------------------------------------

    def first(self, lanes: int, count: Pointer) -> Mask:
        return FirstLanes(self.copy(count))

    def load_where(self, mask: Mask, lanes: int, pointer: Pointer, offset: int) -> Vector:
        vector = self.zero(lanes)
        address = self.exact_address(pointer, offset)
        self._only(mask, lanes)
        self.op(self._load, vector.register, address)
        return vector

    def store_where(self, mask: Mask, vector: Vector, pointer: Pointer, offset: int) -> None:
        address = self.exact_address(pointer, offset)
        self._only(mask, vector.lanes)
        self.op(self._store, vector.register, address)

    def _only(self, mask: Mask, lanes: int) -> None:
        """The next instruction works on the mask's lanes, and leaves the others as they are."""
        assert isinstance(mask, FirstLanes)
        length = Config(self.bits_of_element, self.group_of(lanes), 0, True)
        self.op("vsetvli x, x, i", X0, mask.register, length.vtype)
        self.config = None
