"""The vector machine of AVX2 and FMA: 16 registers, no masks but those held in a vector.

Partial vectors are read with vmaskmov (or the scalar moves) and written in pieces: a masked store of
AVX2 is microcoded on AMD cores, while an extract and two plain stores are quick everywhere.
"""

from __future__ import annotations

from functools import lru_cache

from neurojit.asm_templates.machine import Element, Operand, Pointer, Scalar, Vector
from neurojit.asm_templates.x86_64.avx2_arithmetic import Avx2Arithmetic
from neurojit.asm_templates.x86_64.row_sums import row_sums_avx2
from neurojit.encoder import forms

REGISTER = Avx2Arithmetic.registers


class Avx2Forms:
    """Form ids for one element type, by register width."""

    def __init__(self, element: Element) -> None:
        single = element.name == "f32"
        s, bits = ("s", 32) if single else ("d", 64)
        self.load, self.load_masked, self.store = {}, {}, {}
        self.broadcast, self.fma, self.fma_memory = {}, {}, {}
        for width, reg in REGISTER.items():
            memory = f"m{width}"
            self.load[width] = forms[f"vmovup{s} {reg}, {memory}"]
            self.load_masked[width] = forms[f"vmaskmovp{s} {reg}, {reg}, {memory}"]
            self.store[width] = forms[f"vmovup{s} {memory}, {reg}"]
            self.fma[width] = forms[f"vfmadd231p{s} {reg}, {reg}, {reg}"]
            self.fma_memory[width] = forms[f"vfmadd231p{s} {reg}, {reg}, {memory}"]
            broadcast = f"vbroadcasts{s} {reg}, m{bits}" if width > 128 or single else "vmovddup xmm, m64"
            self.broadcast[width] = forms[broadcast]
        self.zero = forms["vxorps xmm, xmm, xmm"]
        self.load_scalar = {4: forms["vmovss xmm, m32"], 8: forms["vmovsd xmm, m64"]}
        self.store_scalar = {4: forms["vmovss m32, xmm"], 8: forms["vmovsd m64, xmm"]}
        self.upper_pair = forms["vmovhlps xmm, xmm, xmm"]
        self.upper_half = forms["vextractf128 xmm, ymm, imm8"]
        self.load_constant = {128: forms["vmovups xmm, m128"], 256: forms["vmovups ymm, m256"]}


class Avx2SegmentForms:
    """See X86Segments."""

    def __init__(self, element: Element) -> None:
        kind = "s" if element.name == "f32" else "d"
        self.first = forms["vmovups xmm, m128"]
        self.merge = forms["vinsertf128 ymm, ymm, m128, imm8"]
        self.repeat = forms["vbroadcastf128 ymm, m128"]
        self.insert = self.repeat_register = forms["vinsertf128 ymm, ymm, xmm, imm8"]
        self.repeat_where = 1
        self.spread = forms[f"vpermilp{kind} ymm, ymm, imm8"]
        self.extract = forms["vextractf128 xmm, ymm, imm8"]
        self.extract_store = forms["vextractf128 m128, ymm, imm8"]
        self.broadcast_pair = forms["vbroadcastsd ymm, m64"]


avx2_forms = lru_cache(maxsize=2)(Avx2Forms)
avx2_segment_forms = lru_cache(maxsize=2)(Avx2SegmentForms)


class Avx2Machine(Avx2Arithmetic):
    """See the module's head."""

    vector_registers = 16
    p: Avx2SegmentForms
    widths = (128, 256)

    def expect(self, lanes: frozenset[int]) -> None:
        self.f = self.moves = avx2_forms(self.element)
        self._masks = {}
        for count in sorted(lanes):
            if self.is_partial(count):
                size = count * self.element.size
                width = self.width_of(count)
                label = self.data_label((b"\xff" * size).ljust(width // 8, b"\0"))
                register = self.vectors.take()
                self.buffer.rip(self.f.load_constant[width], label, register)
                self._masks[count] = register

    def forget(self) -> None:
        for register in self._masks.values():
            self.vectors.give(register)
        self._masks = {}
        self.forget_storage()

    def expect_segments(self, most: int) -> None:
        self.p = avx2_segment_forms(self.element)

    def load_segments(self, into: Vector, count: int, pointer: Pointer, offset: int, step: int) -> None:
        register = into.register
        self.buffer.mem(self.p.first, pointer, offset, register)
        if count > 1:
            self.buffer.mem_imm(self.p.merge, pointer, offset + step, 1, register, register)

    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        size = vector.lanes * self.element.size
        if size > 16 and size != 32:
            self.buffer.mem(self.f.store[128], pointer, offset, vector.register)
            upper = self.vectors.take()
            self.buffer.imm(self.f.upper_half, 1, upper, vector.register)
            self._store_within_xmm(upper, pointer, offset + 16, size - 16)
            self.vectors.give(upper)
        elif size == 32:
            self.buffer.mem(self.f.store[256], pointer, offset, vector.register)
        else:
            self._store_within_xmm(vector.register, pointer, offset, size)

    def _store_within_xmm(self, register: int, pointer: Pointer, offset: int, size: int) -> None:
        if size == 16:
            self.buffer.mem(self.f.store[128], pointer, offset, register)
        elif size == 12:
            self.buffer.mem(self.f.store_scalar[8], pointer, offset, register)
            third = self.vectors.take()
            self.buffer.regs(self.f.upper_pair, third, register, register)
            self.buffer.mem(self.f.store_scalar[4], pointer, offset + 8, third)
            self.vectors.give(third)
        else:
            self.buffer.mem(self.f.store_scalar[size], pointer, offset, register)

    def scalar(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Scalar:
        return self.broadcast(lanes, pointer, offset)

    def fma(self, accumulator: Vector, scalar: Scalar, vector: Operand) -> None:
        assert type(scalar) is Vector
        width = accumulator.width
        if type(vector) is Vector:
            self.buffer.regs(self.f.fma[width], accumulator.register, scalar.register, vector.register)
        else:
            self.buffer.mem(
                self.f.fma_memory[width], vector.pointer, vector.offset, accumulator.register, scalar.register
            )

    def row_sums(self, rows: list[Vector]) -> Vector:
        return row_sums_avx2(self, self.buffer, rows)
