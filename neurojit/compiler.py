"""The compiler: from what a call needs to a published kernel, every stage in order.

    payload   what is to be computed             plan_product: Gemm, Gemv, or blocks
    plan      how: tiles, unrolling, strips      schedule_gemm, schedule_gemv, cut_strips
    codegen   machine code for the target        emit_gemm, emit_gemv
    map       sealed executable memory           Code.map
    validate  bit for bit against the reference  validate_gemm, validate_gemv
    publish   one release store into the slot    SLOTS.publish, publish_blocked

Level O0 publishes the reference itself (reference_code); lower levels than O3 take presets of the plans.

Stages exchange frozen values; nothing is published that did not pass the gate before it. One thread
compiles a key; the others are answered by NumPy until the kernel is there.
"""

from __future__ import annotations

from dataclasses import replace

from neurojit.errors import ExecutableMemoryError, NeurojitError
from neurojit.plan.blocking import (
    MEMBER_WORK,
    ROW_MEMBER_WORK,
    RUN_BYTES,
    UNIT_ROWS,
    Blocking,
    Strips,
    cut_panels,
    cut_row,
    cut_strips,
    one_tile,
    row_member_work,
)
from neurojit.plan.epilogue import NO_EPILOGUE, Epilogue
from neurojit.plan.gemm import ELEMENT_SIZE, Gemm, Matrix
from neurojit.plan.gemv import Gemv, schedule_gemv
from neurojit.plan.level import LEVEL, Key, Level
from neurojit.plan.panels import Panels
from neurojit.plan.product import IN_PLACE_ROWS, Product, plan_product
from neurojit.plan.tiling import schedule_gemm
from neurojit.product_codegen import dump, emit_gemm, emit_gemv, gemm_buffer, gemv_buffer
from neurojit.runtime import SLOTS, Code, Slot, clock_ns, executable_memory, keep_within_cache
from neurojit.runtime._blocked import (
    call_micro_kernel,
    keep_mapped,
    publish_blocked,
    reference_code,
    rounded_code,
    strips_code,
)
from neurojit.target import Target, host_choice, host_target
from neurojit.validation import Array, validate_gemm, validate_gemv

GIL_WORTH_RELEASING = 500_000  # multiply-adds: about 10 us on one core

counts = {"kernels": 0, "blocked": 0, "micro_kernels": 0, "nanoseconds": 0}
"""What was compiled in this process, and the time it took, validation included."""

_refused: dict[Key, str] = {}
_MOST_REFUSALS = 4096
_micro_kernels: dict[tuple[str, Gemm], Code] = {}


def publish_product(
    key: Key, product: Product, epilogue: Epilogue = NO_EPILOGUE, level: Level = LEVEL
) -> str | None:
    """Compile the kernel for a product and publish it in the key's slot; or say why that cannot be.

    Reasons are remembered: what was refused once is refused at once. Never raises for a kernel that
    cannot be made, since NumPy can answer the call; interrupts pass through.
    """
    choice = host_choice()
    if choice.isa.name == "none":
        return f"no ISA: {choice.reason}"
    memory = executable_memory()
    if memory.closed:
        return "no executable memory: " + "; ".join(memory.reasons)
    level = product.level_at(level)
    if level == Level.O0 and epilogue != NO_EPILOGUE:
        return "level O0 computes products alone"
    if key in _refused:
        return _refused[key]
    slot = SLOTS.insert(key)
    start = clock_ns()
    try:
        if not slot.while_claimed(lambda: _compile(slot, product, epilogue, host_target(), level)):
            return "another thread is compiling this kernel"
    except ExecutableMemoryError as error:  # memory may come back, so these are not remembered
        return f"ExecutableMemoryError: {error}"
    except MemoryError as error:
        return f"no memory to compile: {error}"
    except NeurojitError as error:
        if len(_refused) >= _MOST_REFUSALS:
            _refused.clear()
        _refused[key] = f"{type(error).__name__}: {error}"
        return _refused[key]
    finally:
        counts["nanoseconds"] += clock_ns() - start
    return None


def forget_refusals() -> None:
    """Ask again whether what was refused can be compiled: some key has got another meaning."""
    _refused.clear()


def _compile(slot: Slot, p: Product, epilogue: Epilogue, target: Target, level: Level) -> None:
    """Plan, make and publish the product's kernel."""
    if slot.published:
        return  # another thread was here between this one's miss and its claim
    release_gil = p.work > GIL_WORTH_RELEASING
    plan = plan_product(p, target, epilogue, level)
    if level == Level.O0:
        lanes = plan.lanes if isinstance(plan, Gemv) else 0
        SLOTS.publish(slot, reference_code(tuple(p), lanes, release_gil))
        counts["kernels"] += 1
    elif isinstance(plan, Gemm) and isinstance(plan.b, Panels):
        SLOTS.publish(slot, _compile_packed(p, plan, plan.b, target, release_gil))
        counts["kernels"] += 1
    elif isinstance(plan, Gemm) and level < Level.O3:
        SLOTS.publish(slot, compile_gemm(plan, target, release_gil, level))
        counts["kernels"] += 1
    elif isinstance(plan, (Gemm, Gemv)):
        SLOTS.publish(slot, _compile_in_place(p, plan, target, release_gil, level))
        counts["kernels"] += 1
    else:
        _publish_blocked(slot, p, plan, epilogue, target, release_gil)
        counts["blocked"] += 1
    keep_within_cache()


def _compile_packed(p: Product, g: Gemm, panels: Panels, target: Target, release_gil: bool) -> Code:
    """A product with packed weights; some round the activations before it."""
    # Strips are whole panels, so a column's share of one is as good as where it lies.
    member_work = row_member_work(panels) if p.m == 1 else MEMBER_WORK
    of_column = panels.panel_bytes // panels.width
    product = _compile_strips(g, cut_panels(g), of_column, target, release_gil, member_work)
    if not panels.is_rounded:
        return product
    row, besides = (panels.row_bytes, panels.row_format), g.epilogue.buffers
    shape, strides = (p.m, p.k), (p.a_row, p.a_column)
    return rounded_code(shape, strides, row, besides, product, release_gil)


def _compile_in_place(p: Product, g: Gemm | Gemv, target: Target, release_gil: bool, level: Level) -> Code:
    """A product that reads its operands where they lie, in strips where threads are to share it."""
    size, of_row = p.element_size, p.work >= 2 * ROW_MEMBER_WORK and level == Level.O3
    if isinstance(g, Gemv):
        strips = cut_row(g.m, g.k * size, UNIT_ROWS) if of_row else None
        return _compile_gemv_strips(g, strips, target, release_gil, level)
    assert g.k is not None
    if g.m > 1:
        return _compile_strips(g, cut_strips(p.dtype, p.m, p.n, p.work), size, target, release_gil)
    strips = cut_row(g.n, g.k * size, RUN_BYTES // size) if of_row else None
    return _compile_strips(g, strips, size, target, release_gil, ROW_MEMBER_WORK)


def _compile_strips(
    g: Gemm,
    strips: Strips | None,
    of_column: int,
    target: Target,
    release_gil: bool,
    member_work: int = MEMBER_WORK,
) -> Code:
    """A product read in place: one kernel, or strips that threads share and a kernel for each size of them.
    of_column: bytes from one column of B to the next. member_work: multiply-adds worth one more thread."""
    if strips is None:
        return compile_gemm(g, target, release_gil)
    size = ELEMENT_SIZE[g.dtype]
    assert g.c.row_stride is not None
    assert g.k is not None
    a, b = (g.a.row_stride * size, 0), (0, of_column)
    operands = (b, a) if g.swapped else (a, b)
    steps = (*operands, (g.c.row_stride * size, size), *g.epilogue.steps(size))
    kernels = tuple(
        compile_gemm(replace(g, m=height, n=width), target) if height and width else None
        for height in strips.rows.sizes
        for width in strips.columns.sizes
    )
    whole = compile_gemm(g, target) if g.m <= IN_PLACE_ROWS and isinstance(g.b, Matrix) else None
    return strips_code(strips, steps, kernels, g.m * g.n * g.k, member_work, whole)


def _compile_gemv_strips(
    g: Gemv, strips: Strips | None, target: Target, release_gil: bool, level: Level
) -> Code:
    """The same where the matrix is read along its rows, of which a strip has some."""
    if strips is None:
        return compile_gemv(g, target, release_gil, level)
    size = ELEMENT_SIZE[g.dtype]
    a, x = (0, g.a_row_stride * size), (0, 0)
    steps = (*((x, a) if g.swapped else (a, x)), (0, size), *g.epilogue.steps(size))
    kernels = [
        compile_gemv(replace(g, m=height), target) if height else None for height in strips.columns.sizes
    ]
    return strips_code(strips, steps, (*kernels, None, None), g.m * g.k, ROW_MEMBER_WORK)


def _publish_blocked(
    slot: Slot, p: Product, blocks: Blocking, epilogue: Epilogue, target: Target, release_gil: bool
) -> None:
    """A product by the blocked driver; its epilogue by micro-kernels of its own for the last block of k."""
    micro = _micro_kernels_of(p, blocks, target, epilogue)
    if epilogue == NO_EPILOGUE:
        publish_blocked(slot, tuple(p), tuple(blocks), micro, release_gil)
        return
    several = p.k > blocks.kc
    keeps_c = epilogue.beta != 0
    last = tuple(
        compile_micro_kernel(
            Gemm.micro_kernel(
                *(p.dtype, height, width, (height, width), several),
                epilogue,
                partial=p.n if several and keeps_c else None,
                a_row=p.a_row if blocks.a_in_place else None,
            ),
            target,
        )
        if height and width
        else None
        for height in blocks.rows.sizes
        for width in blocks.columns.sizes
    )
    steps = epilogue.steps(p.element_size)
    publish_blocked(slot, tuple(p), tuple(blocks), micro, release_gil, last, steps, keeps_c)


def compile_gemm(g: Gemm, target: Target, release_gil: bool = False, level: Level = Level.O3) -> Code:
    """A validated kernel, not yet published. Raises ExecutableMemoryError or ValidationError."""
    schedule = schedule_gemm(g, target, level)
    dump(g, lambda: gemm_buffer(g, schedule, target.isa))
    kernel = Code.map(emit_gemm(g, schedule, target.isa), release_gil=release_gil)
    assert g.k is not None and g.c.row_stride is not None

    def run(a: Array, b: Array, c: Array, *others: Array) -> int:
        return kernel.call((*_buffers(g.swapped, a, b, c), *(other.ctypes.data for other in others)))

    validate_gemm(g, g.k, g.c.row_stride, run, f"gemm {g.dtype} {g.m}x{g.n}x{g.k} on {target.isa.name}")
    return kernel


def compile_gemv(g: Gemv, target: Target, release_gil: bool = False, level: Level = Level.O3) -> Code:
    """A validated kernel, not yet published. Raises ExecutableMemoryError or ValidationError."""
    schedule = schedule_gemv(g, target, level)
    dump(g, lambda: gemv_buffer(g, schedule, target.isa))
    kernel = Code.map(emit_gemv(g, schedule, target.isa), release_gil=release_gil)

    def run(a: Array, x: Array, y: Array, *others: Array) -> int:
        return kernel.call((*_buffers(g.swapped, a, x, y), *(other.ctypes.data for other in others)))

    validate_gemv(g, run, f"gemv {g.dtype} {g.m}x{g.k} on {target.isa.name}")
    return kernel


def _buffers(swapped: bool, a: Array, b: Array, c: Array) -> tuple[int, int, int]:
    """The operands in the order of the call that the kernel was made for."""
    first, second = (b, a) if swapped else (a, b)
    return first.ctypes.data, second.ctypes.data, c.ctypes.data


def micro_kernel(g: Gemm, target: Target) -> Code:
    """A validated micro-kernel. Kept for good: there are few, and the plans that share them are many."""
    cached = _micro_kernels.get((target.isa.name, g))
    if cached is not None:
        return cached
    kernel = compile_micro_kernel(g, target)
    keep_mapped(kernel)
    return _micro_kernels.setdefault((target.isa.name, g), kernel)


def compile_micro_kernel(g: Gemm, target: Target) -> Code:
    """A validated micro-kernel, the caller's. Raises ExecutableMemoryError or ValidationError."""
    tile = one_tile(g, target)
    dump(g, lambda: gemm_buffer(g, tile, target.isa))
    kernel = Code.map(emit_gemm(g, tile, target.isa))
    item = ELEMENT_SIZE[g.dtype]
    for depth in (1, 7, 24):  # below, between and at multiples of the unrolling
        c_row_stride = g.n + 3

        def run(*operands: Array, depth: int = depth, stride: int = c_row_stride * item) -> int:
            a, b, c, *beside = (operand.ctypes.data for operand in operands)
            return call_micro_kernel(kernel.address, a, b, c, depth, stride, tuple(beside))

        what = f"gemm micro-kernel {g.dtype} {g.m}x{g.n}, k={depth} on {target.isa.name}"
        validate_gemm(g, depth, c_row_stride, run, what)
    counts["micro_kernels"] += 1
    return kernel


def _micro_kernels_of(
    p: Product, blocks: Blocking, target: Target, epilogue: Epilogue
) -> tuple[Code | int | None, ...]:
    """The eight micro-kernels [accumulates][rows][columns]; None for those the shape never calls. With an
    epilogue the last block of k, which is the first if there is but one, has others.

    Those of packed panels are shared, those of rows of A as they lie belong to the plan."""
    blocks_of_k = -(-p.k // blocks.kc) - (epilogue != NO_EPILOGUE)
    kernels: list[Code | int | None] = []
    for accumulate in (False, True):
        for height in blocks.rows.sizes:
            for width in blocks.columns.sizes:
                if not (height and width and blocks_of_k > accumulate):
                    kernels.append(None)
                    continue
                a_row = p.a_row if blocks.a_in_place else None
                g = Gemm.micro_kernel(p.dtype, height, width, (height, width), accumulate, a_row=a_row)
                shared = a_row is None
                kernels.append(micro_kernel(g, target).address if shared else compile_micro_kernel(g, target))
    return tuple(kernels)
