"""The ABI check on AArch64: kernels that keep the ABI pass; each way to break it is reported, by its name."""

from __future__ import annotations

import pytest
from machine_code import RETURNS_FIRST_OF_CONTEXT, RETURNS_N, returns, words

from neurojit.runtime import Code

pytestmark = pytest.mark.aarch64("its kernels are AArch64 machine code")

STACK_OFFSETS = (0, 16, 32, 48)
FLUSH_TO_ZERO, ROUND_DOWN = 1 << 24, 2 << 22  # bits of FPCR
RET = "d65f03c0"

GOOD = {
    "little": returns(42),
    # Uses all it may: stp x29, x30 .. x27, x28, d8, d9 .. d14, d15 in a frame of 176 bytes; mov x19, 0;
    # mov x20, 0; mov x28, 0; mov x29, 0; mov x30, 0; movi v8.16b, 3; movi v15.16b, 3; movi v16.16b, 3;
    # all back; mov w0, 42; ret
    "much": words(
        "a9b57bfd a90153f3 a9025bf5 a90363f7 a9046bf9 a90573fb 6d0627e8 6d072fea 6d0837ec 6d093fee",
        "d2800013 d2800014 d280001c d280001d d280001e 4f00e468 4f00e46f 4f00e470",
        "6d493fee 6d4837ec 6d472fea 6d4627e8 a94573fb a9446bf9 a94363f7 a9425bf5 a94153f3 a8cb7bfd",
        "52800540 d65f03c0",
    ),
    # Raises the inexact flag of FPSR and sets the carry, as any arithmetic does:
    # mov w0, 3; scvtf s0, w0; fmov s1, 1.0; fdiv s0, s1, s0; cmp w0, 7; mov w0, 42; ret
    "arithmetic": words("52800060 1e220000 1e2e1001 1e201820 71001c1f 52800540 d65f03c0"),
    # The upper halves of v8 and v15 are free: mov x9, -1; mov v8.d[1], x9; mov v15.d[1], x9; mov w0, 42; ret
    "upper halves": words("92800009 4e181d28 4e181d2f 52800540 d65f03c0"),
}

BAD = {
    **{f"x{n}": words(f"{0xD2800000 | n:x}", RET) for n in range(18, 30)},  # mov xN, 0
    "sp": words("910043ff", RET),  # add sp, sp, 16
    "caller's frame": words("f90007fe", RET),  # str x30, [sp, 8]
    **{f"d{n}": words(f"{0x9E6703E0 | n:x}", RET) for n in range(8, 16)},  # fmov dN, xzr
    "fpcr": words("52a02009 d51b4409", RET),  # mov w9, 1 << 24; msr fpcr, x9
}


def check(text: bytes, **how: int) -> tuple[int, tuple[str, ...]]:
    report = Code.map(text).call_checked((), **how)
    assert report is not None
    return report["result"], report["violations"]


@pytest.mark.parametrize("stack_offset", STACK_OFFSETS)
@pytest.mark.parametrize("kernel", GOOD)
def test_good_kernels(kernel: str, stack_offset: int) -> None:
    assert check(GOOD[kernel], stack_offset=stack_offset) == (42, ())


@pytest.mark.parametrize("violation", BAD)
def test_each_violation(violation: str) -> None:
    assert check(BAD[violation])[1] == (violation,)
    assert check(returns(42)) == (42, ())  # and nothing of it stays


def test_all_at_once() -> None:
    # mov x18, 0; mov x20, 0; fmov d10, xzr; str x30, [sp, 8]; mov w9, 1 << 24; msr fpcr, x9;
    # sub sp, sp, 32; ret
    text = words("d2800012 d2800014 9e6703ea f90007fe 52a02009 d51b4409 d10083ff d65f03c0")
    assert check(text)[1] == ("caller's frame", "x18", "x20", "sp", "d10", "fpcr")


def test_the_callers_fpcr_is_kept_whatever_it_is() -> None:
    unusual = FLUSH_TO_ZERO | ROUND_DOWN
    assert check(words("d53b4400", RET), float_control=unusual) == (unusual, ())  # mrs x0, fpcr
    reset = words("d51b441f", RET)  # msr fpcr, xzr
    assert check(reset)[1] == ()
    assert check(reset, float_control=unusual)[1] == ("fpcr",)
    assert 1.0 / 3.0 * 3.0 == 1.0  # this thread rounds to nearest as before


def test_stack_alignment_is_as_asked() -> None:
    # mov x9, sp; and x0, x9, 63; ret: where the caller's stack pointer was, from a multiple of 64 up
    for offset in STACK_OFFSETS:
        assert check(words("910003e9 92401520", RET), stack_offset=offset) == (-offset % 64, ())


def test_arguments_arrive() -> None:
    report = Code.map(RETURNS_N).call_checked((), -(2**63))
    assert report == {"result": -(2**63), "violations": ()}
    report = Code.map(RETURNS_FIRST_OF_CONTEXT, context=b"\x05" + bytes(7)).call_checked(())
    assert report == {"result": 5, "violations": ()}
