"""The compiler: from what a call needs to a published kernel, every stage in order.

    payload   what is to be computed             Gemm
    plan      how: tiles, unrolling, blocks      schedule_gemm, block_gemm
    codegen   machine code for the target        emit_gemm
    map       sealed executable memory           Code.map
    validate  bit for bit against the reference  validate_gemm
    publish   one release store into the slot    SLOTS.publish, publish_blocked

Stages exchange frozen values; nothing is published that did not pass the gate before it. One thread
compiles a key; the others are answered by NumPy until the kernel is there.
"""

from __future__ import annotations

from typing import NamedTuple

from neurojit.codegen import emit_gemm
from neurojit.config import CONFIG
from neurojit.errors import ExecutableMemoryError, NeurojitError
from neurojit.plan.blocking import Blocking, block_gemm
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, Matrix, Output, schedule_gemm
from neurojit.runtime import SLOTS, Code, Slot, clock_ns, executable_memory
from neurojit.runtime._blocked import call_micro_kernel, publish_blocked
from neurojit.target import Target, host_choice, host_target
from neurojit.validation import Array, validate_gemm


class Product(NamedTuple):
    """One matrix product as a call sees it. Strides in elements, element_size in bytes."""

    m: int
    n: int
    k: int
    a_row: int
    a_column: int
    b_row: int
    b_column: int
    c_row: int
    element_size: int

    @property
    def dtype(self) -> str:
        return "f32" if self.element_size == 4 else "f64"

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.m * self.n * self.k

    def __str__(self) -> str:
        return (
            f"{self.dtype} {self.m}x{self.n}x{self.k}, strides A ({self.a_row}, {self.a_column}) "
            f"B ({self.b_row}, {self.b_column}) C ({self.c_row}, 1)"
        )


Key = tuple[int, int, int, int]

GIL_WORTH_RELEASING = 500_000  # multiply-adds: about 10 us on one core
IN_PLACE_WORK = 1 << 25  # multiply-adds up to which a kernel of its own is worth its validation
IN_PLACE_ROWS = 16  # so few rows read B only once or twice: packing would cost more than it saves
REACH = 1 << 31  # bytes a 32-bit displacement spans

counts = {"kernels": 0, "blocked": 0, "micro_kernels": 0, "nanoseconds": 0}
"""What was compiled in this process, and the time it took, validation included."""

_refused: dict[Key, str] = {}
_MOST_REFUSALS = 4096
_micro_kernels: dict[tuple[str, Gemm], Code] = {}


def publish_product(key: Key, product: Product) -> str | None:
    """Compile the kernel for a product and publish it in the key's slot; or say why that cannot be.

    Reasons are remembered: what was refused once is refused at once. Never raises for a kernel that
    cannot be made, since NumPy can answer the call; MemoryError and interrupts pass through.
    """
    choice = host_choice()
    if choice.isa.name == "none":
        return f"no ISA: {choice.reason}"
    memory = executable_memory()
    if memory.strategy == "none":
        return "no executable memory: " + "; ".join(memory.reasons)
    if key in _refused:
        return _refused[key]
    slot = SLOTS.insert(key)
    if not slot.claim():
        return "another thread is compiling this kernel"
    start = clock_ns()
    try:
        if not slot.published:
            _compile(slot, product, host_target())
            _keep_within_cache()
    except NeurojitError as error:
        if len(_refused) >= _MOST_REFUSALS:
            _refused.clear()
        reason = f"{type(error).__name__}: {error}"
        if not isinstance(error, ExecutableMemoryError):  # memory may come back
            _refused[key] = reason
        return reason
    finally:
        slot.unclaim()
        counts["nanoseconds"] += clock_ns() - start
    return None


def _compile(slot: Slot, p: Product, target: Target) -> None:
    """One kernel for the shape where operands can be read in place, else the blocked driver."""
    release_gil = p.work > GIL_WORTH_RELEASING
    if reads_in_place(p, target):
        SLOTS.publish(slot, compile_gemm(in_place_gemm(p), target, release_gil))
        counts["kernels"] += 1
    else:
        blocks = block_gemm(p.dtype, p.m, p.n, p.k, target)
        publish_blocked(slot, tuple(p), tuple(blocks), _micro_addresses(p, blocks, target), release_gil)
        counts["blocked"] += 1


def in_place_gemm(p: Product) -> Gemm:
    return Gemm(p.dtype, p.m, p.n, p.k, Matrix(p.a_row, p.a_column), Matrix(p.b_row), Output(p.c_row))


def reads_in_place(p: Product, target: Target) -> bool:
    """Whether a kernel specialised to these strides serves: B in cache and within reach."""
    if p.b_column != 1 or p.work > IN_PLACE_WORK:
        return False
    if p.k * p.n * p.element_size > target.caches.l2.size // 2 and p.m > IN_PLACE_ROWS:
        return False
    steps = 32  # more than the rows of any tile or the steps of any unrolling
    farthest = max(abs(p.a_row) + abs(p.a_column), abs(p.b_row) + p.n, abs(p.c_row) + p.n)
    return farthest * steps * p.element_size < REACH


def compile_gemm(g: Gemm, target: Target, release_gil: bool = False) -> Code:
    """A validated kernel, not yet published. Raises ExecutableMemoryError or ValidationError."""
    schedule = schedule_gemm(g, target)
    kernel = Code.map(emit_gemm(g, schedule, target.isa), release_gil=release_gil)
    assert g.k is not None and g.c.row_stride is not None

    def run(*operands: Array) -> int:
        return kernel.call(tuple(operand.ctypes.data for operand in operands))

    validate_gemm(g, g.k, g.c.row_stride, run, f"gemm {g.dtype} {g.m}x{g.n}x{g.k} on {target.isa.name}")
    return kernel


def micro_kernel(g: Gemm, target: Target) -> Code:
    """A validated micro-kernel. Kept for good: there are few, and the plans that share them are many."""
    cached = _micro_kernels.get((target.isa.name, g))
    if cached is not None:
        return cached
    kernel = Code.map(emit_gemm(g, schedule_gemm(g, target), target.isa))
    item = ELEMENT_SIZE[g.dtype]
    for depth in (1, 7, 24):  # below, between and at multiples of the unrolling
        c_row_stride = g.n + 3

        def run(a: Array, b: Array, c: Array, depth: int = depth, stride: int = c_row_stride * item) -> int:
            return call_micro_kernel(kernel.address, a.ctypes.data, b.ctypes.data, c.ctypes.data, depth, stride)

        what = f"gemm micro-kernel {g.dtype} {g.m}x{g.n}, k={depth} on {target.isa.name}"
        validate_gemm(g, depth, c_row_stride, run, what)
    counts["micro_kernels"] += 1
    return _micro_kernels.setdefault((target.isa.name, g), kernel)


def _micro_addresses(p: Product, blocks: Blocking, target: Target) -> tuple[int, ...]:
    """The eight micro-kernels [accumulates][last rows][last columns]; 0 for those the shape never calls."""
    heights, widths = _tile_extents(p.m, blocks.mr), _tile_extents(p.n, blocks.nr)
    addresses = []
    for accumulate in (False, True):
        for height in heights:
            for width in widths:
                used = height and width and (not accumulate or p.k > blocks.kc)
                g = Gemm.micro_kernel(p.dtype, height, width, (blocks.mr, blocks.nr), accumulate)
                addresses.append(micro_kernel(g, target).address if used else 0)
    return tuple(addresses)


def _tile_extents(extent: int, tile: int) -> tuple[int, int]:
    """(full tile if there is one, what is left over if anything)."""
    return (tile if extent >= tile else 0), extent % tile


def _keep_within_cache() -> None:
    """Evict what was not called lately once the published code outgrows its budget."""
    excess = SLOTS.stats()["live_bytes"] - CONFIG.code_cache_bytes
    if excess > 0:
        SLOTS.evict_bytes(excess)
