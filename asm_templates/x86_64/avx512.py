"""The vector machine of AVX-512 (F, DQ, BW, VL): 32 registers, masks, broadcast from memory.

Every vector instruction is EVEX-encoded, so that xmm, ymm and zmm all reach 32 registers. A vector of
5 to 7 floats lives in a ymm register and is read and written under a mask; 1 or 2 elements of 4 or 8
bytes go through the scalar moves, which need no mask and are quicker to store.
"""

from __future__ import annotations

from functools import lru_cache

from neurojit.asm_templates.machine import Element, InMemory, Operand, Pointer, Scalar, Vector
from neurojit.asm_templates.segments import SEGMENT
from neurojit.asm_templates.x86_64.avx512_arithmetic import Avx512Arithmetic
from neurojit.asm_templates.x86_64.row_sums import row_sums_avx512
from neurojit.encoder import forms

REGISTER = Avx512Arithmetic.registers
WIDTHS = (128, 256, 512)


class Avx512Forms:
    """Form ids for one element type, by register width."""

    def __init__(self, element: Element) -> None:
        single = element.name == "f32"
        suffix, scalar, bits = ("ps", "ss", 32) if single else ("pd", "sd", 64)
        self.load, self.load_masked, self.store, self.store_masked = {}, {}, {}, {}
        self.broadcast, self.fma, self.fma_memory, self.fma_broadcast = {}, {}, {}, {}
        for width in WIDTHS:
            reg, memory = REGISTER[width], f"m{width}"
            evex = "" if width == 512 else " {evex}"
            count = width // bits
            self.load[width] = forms[f"vmovup{suffix[1]} {reg}, {memory}{evex}"]
            self.load_masked[width] = forms[f"vmovup{suffix[1]} {reg}{{k}}{{z}}, {memory}"]
            self.store[width] = forms[f"vmovup{suffix[1]} {memory}, {reg}{evex}"]
            self.store_masked[width] = forms[f"vmovup{suffix[1]} {memory}{{k}}, {reg}"]
            self.fma[width] = forms[f"vfmadd231{suffix} {reg}, {reg}, {reg}{evex}"]
            self.fma_memory[width] = forms[f"vfmadd231{suffix} {reg}, {reg}, {memory}{evex}"]
            self.fma_broadcast[width] = forms[f"vfmadd231{suffix} {reg}, {reg}, m{bits}{{1to{count}}}"]
            broadcast = (
                f"vbroadcast{scalar} {reg}, m{bits}" if width > 128 or single else "vpbroadcastq xmm, m64"
            )
            self.broadcast[width] = forms[broadcast + evex]
        self.load_scalar = {
            size: forms[f"vmovs{kind} xmm, m{size * 8} {{evex}}"] for kind, size in (("s", 4), ("d", 8))
        }
        self.store_scalar = {
            size: forms[f"vmovs{kind} m{size * 8}, xmm {{evex}}"] for kind, size in (("s", 4), ("d", 8))
        }
        self.zero = forms["vpxord xmm, xmm, xmm"]  # writing xmm clears the whole register
        self.set_mask = forms["kmovw k, r32"]


class Avx512SegmentForms:
    """See X86Segments; the moves of 32-bit lanes serve both element types."""

    def __init__(self, element: Element) -> None:
        kind = "s" if element.name == "f32" else "d"
        self.first = forms["vmovups xmm, m128 {evex}"]
        self.second = forms["vmovups ymm{k}, m256"]
        self.join = forms["vinsertf32x8 zmm, zmm, ymm, imm8"]
        self.repeat = forms["vbroadcastf32x4 zmm, m128"]
        self.repeat_register = forms["vshuff32x4 zmm, zmm, zmm, imm8"]
        self.repeat_where = 0
        self.spread = forms[f"vpermilp{kind} zmm, zmm, imm8"]
        self.extract = forms["vextractf32x4 xmm, zmm, imm8"]
        self.extract_store = forms["vextractf32x4 m128, zmm, imm8"]
        self.insert = forms["vinsertf32x4 zmm, zmm, xmm, imm8"]
        self.broadcast_pair = forms["vbroadcastsd zmm, m64"]
        self.set_mask = forms["kmovw k, r32"]


avx512_forms = lru_cache(maxsize=2)(Avx512Forms)
avx512_segment_forms = lru_cache(maxsize=2)(Avx512SegmentForms)


class Avx512Machine(Avx512Arithmetic):
    """See the module's head."""

    vector_registers = 32
    widths = (128, 256, 512)

    p: Avx512SegmentForms
    _second: int = 0
    """The register with the mask of the second segment; 0 where none is needed."""

    def expect(self, lanes: frozenset[int]) -> None:
        self.f = self.moves = avx512_forms(self.element)
        self._masks = {}
        for count in sorted(lanes):
            if self.is_partial(count):
                bits = self.constant((1 << count) - 1)
                register = self.masks.take()
                self.buffer.regs(self.f.set_mask, register, bits)
                self.release(bits)
                self._masks[count] = register

    def forget(self) -> None:
        for register in self._masks.values():
            self.masks.give(register)
        if self._second:
            self.masks.give(self._second)
        self._masks, self._second = {}, 0
        self.forget_storage()

    def expect_segments(self, most: int) -> None:
        self.p = avx512_segment_forms(self.element)
        if most > 1:
            bits = self.constant(0xF0)  # the second segment, in lanes of 32 bits
            self._second = self.masks.take()
            self.buffer.regs(self.p.set_mask, self._second, bits)
            self.release(bits)

    def load_segments(self, into: Vector, count: int, pointer: Pointer, offset: int, step: int) -> None:
        # Every second segment falls into place under a mask, beside which nothing is touched: 256 bits cross
        # a cache line half as often as 512 would, and one shuffle for two holds up no multiply-adds.
        self._load_two(into.register, count, pointer, offset, step)
        if count > 2:
            upper = self.vectors.take()
            self._load_two(upper, count - 2, pointer, offset + 2 * step, step)
            self.buffer.imm(self.p.join, 1, into.register, into.register, upper)
            self.vectors.give(upper)

    def _load_two(self, register: int, count: int, pointer: Pointer, offset: int, step: int) -> None:
        self.buffer.mem(self.p.first, pointer, offset, register)
        if count > 1:
            self.buffer.mem(self.p.second, pointer, offset + step - SEGMENT, register, self._second)

    def broadcast_form(self, width: int) -> int:
        return self.f.broadcast[width]

    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        lanes = vector.lanes
        size = lanes * self.element.size
        if size in (4, 8):
            self.buffer.mem(self.f.store_scalar[size], pointer, offset, vector.register)
        elif lanes in self._masks:
            self.buffer.mem(
                self.f.store_masked[vector.width], pointer, offset, self._masks[lanes], vector.register
            )
        else:
            self.buffer.mem(self.f.store[vector.width], pointer, offset, vector.register)

    def scalar(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Scalar:
        if uses <= MOST_EMBEDDED_USES or self.vectors.free < 2:  # the last one is for what it multiplies
            return InMemory(pointer, offset)
        return self.broadcast(lanes, pointer, offset)

    def fma(self, accumulator: Vector, scalar: Scalar, vector: Operand) -> None:
        width = accumulator.width
        if type(vector) is Vector:
            if type(scalar) is not InMemory:
                self.buffer.regs(self.f.fma[width], accumulator.register, scalar.register, vector.register)
            else:
                self.buffer.mem(
                    self.f.fma_broadcast[width],
                    scalar.pointer,
                    scalar.offset,
                    accumulator.register,
                    vector.register,
                )
            return
        spread = (
            self.broadcast(accumulator.lanes, scalar.pointer, scalar.offset)
            if type(scalar) is InMemory
            else scalar
        )
        self.buffer.mem(
            self.f.fma_memory[width], vector.pointer, vector.offset, accumulator.register, spread.register
        )
        if spread is not scalar:
            self.drop(spread)

    def row_sums(self, rows: list[Vector]) -> Vector:
        return row_sums_avx512(self, self.buffer, rows)


MOST_EMBEDDED_USES = 3
"""A scalar used by no more vectors than this is broadcast by each multiply-add, from L1."""
