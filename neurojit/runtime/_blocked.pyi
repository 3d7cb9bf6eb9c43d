from typing import Any

from neurojit.runtime._runtime import Code, Slot

def publish_blocked(
    slot: Slot,
    fields: tuple[int, ...],
    blocks: tuple[Any, ...],
    micro: tuple[Code | int | None, ...],
    release_gil: bool,
    last: tuple[Code | int | None, ...] = (),
    besides: tuple[tuple[int, int], ...] = (),
    keeps_c: bool = False,
) -> None: ...
def strips_code(
    strips: tuple[tuple[int, ...], tuple[int, ...]],
    steps: tuple[tuple[int, int], ...],
    kernels: tuple[Code | None, ...],
    work: int,
    member_work: int,
    whole: Code | None = None,
) -> Code: ...
def rounded_code(
    shape: tuple[int, int],
    strides: tuple[int, int],
    row: tuple[int, int],
    besides: int,
    inner: Code,
    release_gil: bool,
) -> Code: ...
def round_row(to: int, source: int, k: int, stride: int, format: int) -> None: ...
def reference_code(fields: tuple[int, ...], lanes: int, release_gil: bool) -> Code: ...
def call_micro_kernel(
    address: int, a: int, b: int, c: int, k: int, row_stride: int, beside: tuple[int, ...] = ()
) -> int: ...
def keep_mapped(code: Code) -> None: ...
def inject_scratch_failure(count: int) -> None: ...
def set_thread_limit(threads: int) -> None: ...
def thread_limit() -> int: ...
def workers() -> int: ...
def inject_thread_failure(count: int) -> None: ...
def packer() -> str: ...
def pack_panel(
    portable: bool,
    element_size: int,
    to: int,
    source: int,
    lanes: int,
    steps: int,
    lane_stride: int,
    step_stride: int,
) -> None: ...
