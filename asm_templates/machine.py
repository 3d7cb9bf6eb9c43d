"""The vector machine: the few steps a kernel template is written in.

A template says *what* happens to vectors, pointers and loops; a machine says which instructions that
takes on one ISA. The machine owns the registers: a template that needs more than there are gets an
error naming the template and the budget, never a silent spill.

A *vector* is a count of lanes, from 1 to the widest register of the ISA. Any count is allowed: the
machine picks the narrowest register that holds it and reads and writes exactly that many elements.
A *scalar* is one element spread over all lanes. Where the ISA can take a scalar or a vector straight
from memory inside the multiply-add, the machine may hand out the address instead of a register: the
template states how often it will be used, the machine decides. The steps that functions are written in
stand in `arithmetic`, those that cross lanes in `lanes`, those on parts of a register in `segments`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NoReturn

from neurojit.asm_templates.arithmetic import (
    Arithmetic,
    InMemory,
    Lane,
    Mask,
    Operand,
    Pointer,
    Scalar,
    ScalarRegister,
    Source,
    Vector,
)
from neurojit.asm_templates.segments import Segments
from neurojit.asm_templates.tiles import LaneTile, Tile
from neurojit.encoder import CodeBuffer
from neurojit.errors import RegisterPressureError, StorageError, UnknownIsaError

__all__ = [
    "ELEMENTS", "F32", "F64", "ONCE", "CountedLoop", "Element", "InMemory", "Lane", "Machine", "Mask",
    "Operand", "Pointer", "RegisterPool", "Scalar", "ScalarRegister", "Source", "Tile", "Vector",
]  # fmt: skip


@dataclass(frozen=True)
class Element:
    """An element type of vectors: its name and its size in bytes."""

    name: str
    size: int


F32 = Element("f32", 4)
F64 = Element("f64", 8)
ELEMENTS = {element.name: element for element in (F32, F64)}


class RegisterPool:
    """The registers of one kind that a template may use."""

    def __init__(self, kind: str, registers: tuple[int, ...], template: str) -> None:
        self.kind = kind
        self.budget = len(registers)
        self.template = template
        self._free = list(reversed(registers))

    @property
    def free(self) -> int:
        """How many are left."""
        return len(self._free)

    def take(self) -> int:
        if not self._free:
            self._refuse()
        return self._free.pop()

    def _refuse(self) -> NoReturn:
        raise RegisterPressureError(
            f"template {self.template}: needs more than the {self.budget} {self.kind} registers; "
            "choose a smaller tile"
        )

    def take_neighbours(self) -> tuple[int, int]:
        """Two registers, the second one's number following the first's."""
        first = next((r for r in reversed(self._free) if r + 1 in self._free), None)
        if first is None:
            self._refuse()
        return self.claim(first), self.claim(first + 1)

    def take_in_order(self, count: int) -> list[int]:
        """So many registers, lowest first."""
        self._free.sort(reverse=True)
        return self._take_last(count)

    def _take_last(self, count: int) -> list[int]:
        if count > len(self._free):
            self._refuse()
        taken = self._free[: -count - 1 : -1]
        del self._free[-count:]
        return taken

    def extend(self, registers: tuple[int, ...]) -> None:
        """Add registers, to be taken after all others."""
        self.budget += len(registers)
        self._free[:0] = reversed(registers)

    def give(self, register: int) -> None:
        self._free.append(register)

    def give_back(self, registers: list[int]) -> None:
        self._free.extend(reversed(registers))

    def claim(self, register: int) -> int:
        """Take this very register, where the calling convention has put a value."""
        self._free.remove(register)
        return register


ONCE: AbstractContextManager[None] = nullcontext()
"""The loop that runs its body once, straight through."""


class CountedLoop(AbstractContextManager[None]):
    """A loop with a counter of its own. (Classes, not generators: a compile enters many of these.)"""

    __slots__ = ("counter", "loop", "machine")

    def __init__(self, machine: Machine, count: int) -> None:
        self.machine = machine
        self.counter = machine.constant(count)
        self.loop = machine.while_positive(self.counter, 1)

    def __enter__(self) -> None:
        self.loop.__enter__()

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.loop.__exit__(None, None, None)
            self.machine.release(self.counter)


class Machine(Arithmetic, Segments):
    """One ISA's answer to the steps of a template. Offsets and strides are in bytes."""

    buffer: CodeBuffer
    element: Element
    vectors: RegisterPool
    pointers: RegisterPool

    @abstractmethod
    def __init__(self, buffer: CodeBuffer, element: Element, template: str, *, micro: bool = False) -> None:
        """Begin a kernel in an empty buffer that `new_buffer` made. micro: a micro-kernel, with arguments of
        its own."""

    @staticmethod
    @abstractmethod
    def new_buffer(encoder: str) -> CodeBuffer:
        """A code buffer for this ISA. encoder: as in NEUROJIT_ENCODER, where there is a choice."""

    # Arguments, pointers, control -----------------------------------------------------------------

    @abstractmethod
    def operands(self, count: int) -> tuple[Pointer, ...]:
        """Addresses of the kernel's first `count` buffers after the arena. Called once, first. Three of a
        micro-kernel's are arguments of their own; the block its sixth argument points at has the others."""

    @abstractmethod
    def extent(self) -> Pointer:
        """The dynamic extent `n` the kernel was called with. Called before `operands`."""

    @abstractmethod
    def row_stride(self) -> Pointer:
        """The dynamic row stride in bytes (micro-kernels only). Called before `operands`."""

    def save_pointers(self, count: int) -> None:
        """Make `count` more general registers available than the calling convention gives away; `leave`
        restores them. Called first of all."""
        if count:
            raise RegisterPressureError(f"needs {count} more general registers than this machine can save")

    @abstractmethod
    def copy(self, pointer: Pointer) -> Pointer:
        """A fresh register with the same value."""

    @abstractmethod
    def advance(self, pointer: Pointer, offset: int) -> None:
        """pointer += offset."""

    @abstractmethod
    def advance_by(self, pointer: Pointer, stride: Pointer) -> None:
        """pointer += stride."""

    @abstractmethod
    def multiply(self, pointer: Pointer, factor: int) -> None:
        """pointer *= factor."""

    @abstractmethod
    def prefetch_to_write(self, pointer: Pointer, offset: int) -> None:
        """Ask for the cache line of an address that will be written. Any address will do: it cannot fault."""

    @abstractmethod
    def prefetch_to_read(self, pointer: Pointer, offset: int) -> None:
        """The same of one that will be read."""

    def release(self, pointer: Pointer) -> None:
        self.pointers.give(pointer)

    def loop(self, count: int) -> AbstractContextManager[None]:
        """Run the body `count` >= 1 times. A count of one costs nothing."""
        return ONCE if count == 1 else CountedLoop(self, count)

    @abstractmethod
    def constant(self, value: int) -> Pointer:
        """A fresh general register holding `value`."""

    @abstractmethod
    def while_positive(self, counter: Pointer, step: int) -> AbstractContextManager[None]:
        """Run the body, subtract `step`, repeat while counter > 0. The counter starts positive."""

    @abstractmethod
    def skip_unless_at_least(self, counter: Pointer, bound: int) -> AbstractContextManager[None]:
        """Run the body only if counter >= bound."""

    @abstractmethod
    def repeat(self, times: int, steps: dict[Pointer, int]) -> AbstractContextManager[None]:
        """Unroll the body `times` >= 1 times; the n-th time, each pointer's offsets are n steps further.

        The body, which must not branch, runs once in Python: the repetitions are made from what it
        emitted, so unrolling costs next to nothing at compile time.
        """

    @abstractmethod
    def leave(self, result: Pointer | None = None) -> None:
        """Return from the kernel, with 0 or what is in a register. Called once, at the end."""

    # Whole programs ---------------------------------------------------------------------------------
    # Around several bodies in one function. A machine that has none of these runs single kernels only.

    def buffers(self) -> Pointer:
        """The address of the array of buffers, the arena first. Called once, instead of `operands`."""
        raise self._runs_no_programs()

    def load_pointer(self, pointer: Pointer, offset: int) -> Pointer:
        """A fresh general register, read from memory: 8 bytes."""
        raise self._runs_no_programs()

    def store_pointer(self, value: Pointer, pointer: Pointer, offset: int) -> None:
        """Write a general register to memory: 8 bytes."""
        raise self._runs_no_programs()

    def while_positive_in_memory(
        self, pointer: Pointer, offset: int, step: int
    ) -> AbstractContextManager[None]:
        """As `while_positive`, with the counter in memory: no register is held in the body."""
        raise self._runs_no_programs()

    def begin_body(self) -> None:
        """What follows may be copied: let it rely on nothing from before but what the registers hold."""

    def copy_code(self, first: int, last: int) -> None:
        """Emit what lies between two marks of the buffer once more; `begin_body` stands at the first, and no
        register is taken from one to the other. Nothing is known of what the copy leaves behind."""
        self.buffer.copy(first, last)
        self.begin_body()

    def _runs_no_programs(self) -> UnknownIsaError:
        return UnknownIsaError(
            f"{type(self).__name__} has no steps for whole programs; compile for another ISA"
        )

    # Vectors --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def widest_lanes(self) -> int:
        """Lanes of the widest register."""

    @abstractmethod
    def expect(self, lanes: frozenset[int]) -> None:
        """Prepare masks for every count of lanes the kernel will load or store. Called before loops."""

    def forget(self) -> None:
        """Give back what `expect` took, so that another body may follow in the same function."""

    @abstractmethod
    def zero(self, lanes: int) -> Vector:
        """A fresh vector of zeros."""

    # Tiles of accumulators: rows of vectors. Machines with a quicker way to emit equal rows override these.

    def zero_tile(self, height: int, columns: tuple[int, ...], beside: int = 0) -> Tile:
        """Fresh vectors of zeros: `height` rows of as many lanes each as `columns` says; then, in each row,
        `beside` more of the widest registers, which hold anything."""
        columns += (self.widest_lanes,) * beside
        return [[self.zero(lanes) for lanes in columns] for _ in range(height)]

    def rows(self, tile: Tile, steps: dict[Pointer, int]) -> Iterator[tuple[int, list[Vector]]]:
        """(row, its vectors), for a loop whose body emits the same for every row.

        steps: by how many bytes a row's offsets from a pointer lie further than those of the row above. As
        with `repeat`, the body may run once in Python for all rows, and must not branch.
        """
        return iter(enumerate(tile))

    def products(self, tile: Tile, across: int, scalars: Sequence[Scalar]) -> Iterator[tuple[Vector, Scalar]]:
        """(accumulator, scalar) of each row, for a loop whose body emits the same for every row, as with
        `rows`. The accumulators are those that stand `across` vectors from their row's first."""
        return zip([row[across] for row in tile], scalars, strict=True)

    def drop_tile(self, tile: Tile) -> None:
        """Give back the registers of a tile."""
        for row in tile:
            self.drop(*row)

    @abstractmethod
    def load(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """A fresh vector read from memory: exactly `lanes` elements are touched."""

    def whole_lanes(self, lanes: int) -> int:
        """Lanes that the register of a vector of `lanes` holds, where reading them all is cheaper."""
        return lanes

    def expect_storage(self, storage: str) -> None:
        """Prepare `load_as` for a storage type. Called before loops."""
        raise StorageError(f"this machine does not widen {storage} weights; keep them in {self.element.name}")

    def load_as(self, storage: str, part: int, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """A fresh vector of `lanes` elements widened from a storage type of neurojit.plan.panels: of the
        group of steps at this address, the one numbered `part`. `lanes` fill a register."""
        raise StorageError(f"this machine does not widen {storage} weights; keep them in {self.element.name}")

    def dot(self, storage: str, accumulator: Vector, scalar: Scalar, vector: Vector) -> None:
        """accumulator += scalar * vector, of small numbers in 32-bit lanes: see neurojit.plan.panels.

        Of integers exactly; of bf16 rounded as the CPU does. The scalar is a vector, or a lane
        where there are `scalars`."""
        raise StorageError(f"this machine does not multiply {storage}; give nj.pack no activations")

    @abstractmethod
    def broadcast(self, lanes: int, pointer: Pointer, offset: int) -> Vector:
        """A fresh vector with one element of memory in every lane."""

    def view(self, vector: Vector, lanes: int) -> Vector:
        """The first `lanes` of a vector, in its own register: one of the two is dropped, not both."""
        return Vector(vector.register, lanes, vector.width)

    @abstractmethod
    def store(self, vector: Vector, pointer: Pointer, offset: int) -> None:
        """Write the vector's lanes to memory and nothing beside them."""

    @abstractmethod
    def vector(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Operand:
        """A vector operand of multiply-adds that will use it `uses` times in all."""

    @abstractmethod
    def scalar(self, lanes: int, pointer: Pointer, offset: int, uses: int) -> Scalar:
        """One element, spread over up to `lanes` lanes, for `uses` multiply-adds."""

    @property
    def scalars_at_once(self) -> int:
        """How many adjacent scalars one load brings for multiply-adds: more than 1 where those can take any
        lane of a register, which a template may use to load fewer."""
        return 1

    def scalars(self, count: int, pointer: Pointer, offset: int) -> list[Scalar]:
        """`count` adjacent elements, each an operand of `fma`; to be dropped all at once. Only where
        `scalars_at_once` is more than 1."""
        raise NotImplementedError(f"{type(self).__name__} multiplies by whole vectors alone")

    def lane_tile(self, height: int, count: int, pointer: Pointer, offset: int, down: int) -> LaneTile:
        """The same of `height` rows that are `down` bytes apart; `count` is at most `scalars_at_once`."""
        raise NotImplementedError(f"{type(self).__name__} multiplies by whole vectors alone")

    def lanes_of(self, tile: LaneTile, times: int, lanes: int, steps: dict[Pointer, int]) -> Iterator[int]:
        """0 to times - 1, for a loop whose body takes `lanes` lanes of the tile each time: those after the
        ones before. steps: by how many bytes each pointer's offsets are further. As with `repeat`, the body
        may run once in Python for all, and must not branch."""
        raise NotImplementedError(f"{type(self).__name__} multiplies by whole vectors alone")

    def drop_lanes(self, tile: LaneTile) -> None:
        """Give back the registers of `lane_tile`."""
        self.vectors.give_back(tile.registers)

    @abstractmethod
    def fma(self, accumulator: Vector, scalar: Scalar, vector: Operand) -> None:
        """accumulator += scalar * vector, rounded once. At most one of the two is in memory."""

    @abstractmethod
    def row_sums(self, rows: list[Vector]) -> Vector:
        """The sum of each row's lanes, side by side in a fresh vector; the rows are given back.

        Rows are whole registers of the widest kind. Lane l is added to lane l + half, until one is left.
        """

    def drop(self, *operands: Scalar) -> None:
        """Give back the registers of operands that are no longer needed; of lanes, all that were loaded."""
        lanes = set()
        for operand in operands:
            if type(operand) is Vector:
                self.vectors.give(operand.register)
            elif type(operand) is Lane:
                lanes.add(operand.register)
        for register in sorted(lanes):
            self.vectors.give(register)
