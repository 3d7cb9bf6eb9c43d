"""How packed weights lie in memory (`Panels`): columns in panels, each read straight through by a kernel.

A k x n matrix is cut into panels of `width` columns. In a panel the columns of one step of k are adjacent,
and the steps follow each other, so a tile of a product reads one stream, whatever n is: no two rows collide
in a cache, and no page is left before it is used up. A panel, 64-byte aligned, is

    weights   depth x width, in the storage type; the last panel filled up with zeros
    scales    int8 only: `width` float32, one a column; for products of bytes as many int32 behind them

so only stores of C ever need masks. Small storage types are widened to float32 by the kernel. bf16 lies in
pairs of k: a 32-bit lane holds the weight of an even step in its low half and that of the next in its high
half, so that widening is one shift or one mask, and vdpbf16ps finds its operands; an odd depth has a zero
at its end.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from neurojit.target import Isa, Target

LINE = 64
"""Bytes that panels are aligned to."""
SCALE_SIZE = 4


class Storage(NamedTuple):
    """size: bytes of an element. group: steps of k that lie side by side. element: what it is widened to."""

    size: int
    group: int
    element: str


STORAGES = {
    "f32": Storage(4, 1, "f32"),
    "f64": Storage(8, 1, "f64"),
    "bf16": Storage(2, 2, "f32"),
    "int8": Storage(1, 1, "f32"),
    "int8 bytes": Storage(4, 1, "f32"),
    "int8 signed": Storage(4, 1, "f32"),
    "int8 words": Storage(2, 2, "f32"),
    "bf16 pairs": Storage(4, 1, "f32"),
    "bf16 wide": Storage(2, 2, "f32"),
}
"""The last five are for activations that are rounded too. A lane of int8 has four steps of k: bytes, one
step of a kernel by vpdpbusd, or signed ones, by sdot; or words, two by vpmaddwd or its like, of the even
bytes and of the odd ones. A lane of bf16 has two: one step by vdpbf16ps or bfdot; or two by multiply-adds, as
bf16 alone. To a kernel these are its steps: `depth` counts them."""


class Rounded(NamedTuple):
    """Of a storage type for rounded activations: steps of k in a lane, and of a kernel for these."""

    depth: int
    steps: int


ROUNDED = {
    "int8 bytes": Rounded(4, 1),
    "int8 signed": Rounded(4, 1),
    "int8 words": Rounded(4, 2),
    "bf16 pairs": Rounded(2, 1),
    "bf16 wide": Rounded(2, 2),
}
"""In the order of the formats of csrc/round_rows.h."""
DOTS = tuple(storage for storage in ROUNDED if storage != "bf16 wide")
"""Whose steps are several of k: the `dot` of a machine."""

PACKED = -(1 << 31)
"""In a key, and in a Product, packed weights have this + the number of their storage for a column stride, and
the panel's width for a row stride: no array has such strides. Known to _call.pxi too."""


class Panels(NamedTuple):
    """The layout of packed weights of `depth` steps of k. storage: a name of STORAGES."""

    storage: str
    depth: int
    width: int

    @classmethod
    def of_strides(cls, row_stride: int, column_stride: int, depth: int) -> Panels | None:
        """From the strides in a key; None where they are those of an array."""
        number = column_stride - PACKED
        return cls.of(list(STORAGES)[number], depth, row_stride) if 0 <= number < len(STORAGES) else None

    @classmethod
    def of(cls, storage: str, k: int, width: int) -> Panels:
        """For weights of k rows."""
        lane = ROUNDED.get(storage, Rounded(1, 1))
        return cls(storage, -(-k // lane.depth) * lane.steps, width)

    @property
    def strides(self) -> tuple[int, int]:
        """(row, column) as they stand in a key."""
        return self.width, PACKED + list(STORAGES).index(self.storage)

    @property
    def group(self) -> int:
        return STORAGES[self.storage].group

    @property
    def is_widened(self) -> bool:
        """Whether elements are stored in another type than they are multiplied in."""
        whole = STORAGES[self.storage].element == self.storage
        return not whole and self.storage not in ("int8 bytes", "int8 signed", "bf16 pairs")

    @property
    def is_scaled(self) -> bool:
        return self.storage.startswith("int8")

    @property
    def is_rounded(self) -> bool:
        """Whether activations are rounded to the type of the weights."""
        return self.storage in ROUNDED

    @property
    def is_dot(self) -> bool:
        """Whether small numbers are multiplied as they are."""
        return self.storage in DOTS

    @property
    def row_format(self) -> int:
        """Of rounded activations: one of csrc/round_rows.h."""
        return list(ROUNDED).index(self.storage)

    @property
    def row_bytes(self) -> int:
        """Of a row of rounded activations: its numbers and any scale, in lines of their own, and not in the
        sets of L1 that the next rows are in."""
        size = -(-(self.depth + self.is_scaled) * SCALE_SIZE // LINE) * LINE
        return size + LINE if size % 1024 == 0 else size

    @property
    def row_stride(self) -> int:
        """Elements from one step of k to the next, as in a Matrix."""
        return self.width

    @property
    def group_bytes(self) -> int:
        """From one group of steps of k to the next."""
        return STORAGES[self.storage].size * self.group * self.width

    @property
    def scales_at(self) -> int:
        """Where a panel's scales begin."""
        return -(-self.steps_bytes(-(-self.depth // self.group) * self.group) // LINE) * LINE

    @property
    def panel_bytes(self) -> int:
        return self.corrections_at + (self.scales_bytes if self.storage == "int8 bytes" else 0)

    @property
    def scales_bytes(self) -> int:
        return -(-self.width * SCALE_SIZE // LINE) * LINE if self.is_scaled else 0

    @property
    def corrections_at(self) -> int:
        """Where the integers begin that take off what makes activations unsigned bytes."""
        return self.scales_at + self.scales_bytes

    @property
    def lane_steps(self) -> int:
        """Steps of k, as the weights have them, that lie side by side."""
        return ROUNDED[self.storage].depth if self.is_rounded else self.group

    @property
    def groups(self) -> int:
        """How many times as many steps a panel has."""
        return -(-self.depth // self.group)

    def panels(self, n: int) -> int:
        """How many hold n columns."""
        return -(-n // self.width)

    def steps_bytes(self, steps: int) -> int:
        """From one step of k to the `steps`-th after it: whole groups."""
        return steps // self.group * self.group_bytes

    def column_bytes(self, column: int) -> int:
        """From the first column to another, in the first group."""
        panel, rest = divmod(column, self.width)
        return panel * self.panel_bytes + rest * STORAGES[self.storage].size * self.group

    def scale_bytes(self, column: int) -> int:
        """From the first column's first weight to another column's scale."""
        panel, rest = divmod(column, self.width)
        return panel * self.panel_bytes + self.scales_at + rest * SCALE_SIZE


def rounded_storage(activations: str, isa: Isa, features: Collection[str]) -> str:
    """How weights lie for activations rounded to int8 or bf16: for the instruction that multiplies them where
    the CPU has it in all widths."""
    for storage, isa_name, feature in NATIVE[activations]:
        if isa.name == isa_name and feature in features:
            return storage
    return "bf16 wide" if activations == "bf16" else "int8 words"


NATIVE = {
    "int8": (("int8 bytes", "x86_64-avx512", "avx512_vnni"), ("int8 signed", "aarch64-neon", "asimddp")),
    "bf16": (("bf16 pairs", "x86_64-avx512", "avx512_bf16"), ("bf16 pairs", "aarch64-neon", "bf16")),
}
"""Storage types for an instruction: (storage, ISA, feature)."""


def suits_panels(dtype: str, k: int, n: int, target: Target) -> bool:
    """Whether the weights that several rows of a program meet are quicker in panels than row after row.

    A tile goes down the rows of its columns. From L2 that is as many streams as rows, where panels are one.
    Measured on Zen 5, 1 to 1000 rows: 1.06 to 1.36 times as quick in panels of four vectors, which 16
    registers have no tall tile for: there they pay from L2 alone, where 4 rows win and lose most."""
    size = k * n * STORAGES[dtype].size
    near = target.caches.l1d.size if target.isa.vector_registers >= 32 else target.caches.l2.size
    return size > near // 2


def panel_width(dtype: str, isa: Isa) -> int:
    """Columns of a panel: the width of the tile that large products are cut into."""
    lanes = max(isa.widest, 128) // 8 // STORAGES[dtype].size  # without an ISA nothing reads them
    return (4 if isa.vector_registers == 32 else 2) * lanes
