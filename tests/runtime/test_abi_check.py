"""The ABI check on x86-64: kernels that keep the ABI pass; each way to break it is reported, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_code import RETURNS_FIRST_OF_CONTEXT, RETURNS_N, returns

from neurojit.runtime import Code

pytestmark = pytest.mark.x86_64("its kernels are x86-64 machine code")

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = set(CPUINFO.read_text().split()) if CPUINFO.exists() else set()
STACK_OFFSETS = (0, 16, 32, 48)
UNUSUAL_MXCSR = 0xBF80  # flush to zero, round down

GOOD = {
    "little": returns(42),
    # Uses all it may: saves and restores what is the caller's, a stack frame, the red zone, vzeroupper.
    # push rbx; push rbp; push r12 .. r15; sub rsp, 264; xor ebx, ebx; xor ebp, ebp; xor r12d, r12d ..;
    # vpcmpeqd ymm0, ymm0, ymm0; vpcmpeqd ymm15, ymm15, ymm15; vmovups [rsp+32], ymm15; mov [rsp-128], rax;
    # vzeroupper; add rsp, 264; pop r15 .. r12; pop rbp; pop rbx; mov eax, 42; ret
    "much": bytes.fromhex(
        "535541544155415641574881ec0801000031db31ed4531e44531ed4531f64531ffc5fd76c0c4410576ffc57c117c2420"
        "4889442480c5f8774881c408010000415f415e415d415c5d5bb82a000000c3"
    ),
    # Raises the inexact flag of MXCSR and sets the carry, as any arithmetic does:
    # mov eax, 1; cvtsi2ss xmm0, eax; mov eax, 3; cvtsi2ss xmm1, eax; divss xmm0, xmm1; stc; mov eax, 42; ret
    "arithmetic": bytes.fromhex("b801000000f30f2ac0b803000000f30f2ac8f30f5ec1f9b82a000000c3"),
}

BAD = {
    "rbx": "31dbc3",  # xor ebx, ebx; ret
    "rbp": "31edc3",  # xor ebp, ebp; ret
    "r12": "49ffc4c3",  # inc r12; ret
    "r13": "49ffc5c3",  # inc r13; ret
    "r14": "49ffc6c3",  # inc r14; ret
    "r15": "49ffc7c3",  # inc r15; ret
    "rsp": "c20800",  # ret 8
    "caller's frame": "4889642408c3",  # mov [rsp+8], rsp; ret
    "direction flag": "fdc3",  # std; ret
    # mov dword [rsp-4], 0x9fc0; ldmxcsr [rsp-4]; ret
    "mxcsr control": "c74424fcc09f00000fae5424fcc3",
    # mov word [rsp-4], 0x27f; fldcw [rsp-4]; ret
    "x87 control": "66c74424fc7f02d96c24fcc3",
    "x87 stack": "d9e8c3",  # fld1; ret
}

BAD_AVX = {
    "vector upper halves": "c5c576ffc3",  # vpcmpeqd ymm7, ymm7, ymm7; ret
    # Loads zeroes into a ymm register and leaves it so:
    # sub rsp, 40; vpxor xmm0, xmm0, xmm0; vmovups [rsp], xmm0; vmovups [rsp+16], xmm0; vmovups ymm0, [rsp];
    # add rsp, 40; ret
    "vzeroupper": "4883ec28c5f9efc0c5f8110424c5f811442410c5fc1004244883c428c3",
}


def check(text: bytes | str, **how: int) -> tuple[int, tuple[str, ...]]:
    report = Code.map(text if isinstance(text, bytes) else bytes.fromhex(text)).call_checked((), **how)
    assert report is not None
    return report["result"], report["violations"]


@pytest.mark.parametrize("stack_offset", STACK_OFFSETS)
@pytest.mark.parametrize("kernel", GOOD)
def test_good_kernels(kernel: str, stack_offset: int) -> None:
    if kernel == "much" and "avx2" not in CPU_FLAGS:
        pytest.skip("this CPU has no AVX2")
    assert check(GOOD[kernel], stack_offset=stack_offset) == (42, ())


@pytest.mark.parametrize("violation", BAD)
def test_each_violation(violation: str) -> None:
    assert check(BAD[violation])[1] == (violation,)
    assert check(returns(42)) == (42, ())  # and nothing of it stays


@pytest.mark.skipif("avx2" not in CPU_FLAGS, reason="this CPU has no AVX2")
@pytest.mark.parametrize("violation", BAD_AVX)
def test_upper_halves(violation: str) -> None:
    if violation == "vzeroupper" and "xsaves" not in CPU_FLAGS:
        pytest.skip("this CPU does not tell which vector state is in use")
    assert check(BAD_AVX[violation])[1] == (violation,)
    assert check(returns(42)) == (42, ())


@pytest.mark.skipif("avx2" not in CPU_FLAGS, reason="this CPU has no AVX2")
@pytest.mark.parametrize("register", range(16))
def test_every_vector_register_is_looked_at(register: int) -> None:
    # vpcmpeqd ymmR, ymmR, ymmR; ret
    first = (~register & 8) << 4 | 0x61
    text = bytes([0xC4, first, (~register & 15) << 3 | 5, 0x76, 0xC0 | (register & 7) * 9, 0xC3])
    assert check(text)[1] == ("vector upper halves",)


@pytest.mark.skipif("avx512f" not in CPU_FLAGS, reason="this CPU has no AVX-512")
def test_zmm() -> None:
    # Bits 256-511 only:
    # vpcmpeqd xmm4, xmm4, xmm4; vpxor xmm3, xmm3, xmm3; vinserti32x4 zmm3, zmm3, xmm4, 2; ret
    assert check("c5d976e4c5e1efdb62f3654838dc02c3")[1] == ("vector upper halves",)
    # Registers 16 and up and masks are free: vpternlogd zmm16, zmm16, zmm16, 255; kxnorw k1, k1, k1; ret
    assert check("62a37d4025c0ffc5f446c9c3")[1] == ()


def test_all_at_once() -> None:
    # xor ebx, ebx; std; mov dword [rsp-4], 0x9fc0; ldmxcsr [rsp-4]; fld1; mov [rsp+8], rsp;
    # pop rdx; pop rcx; jmp rdx
    text = "31dbfdc74424fcc09f00000fae5424fcd9e848896424085a59ffe2"
    expected = ("caller's frame", "rbx", "rsp", "direction flag", "mxcsr control", "x87 stack")
    assert check(text)[1] == expected


def test_the_callers_mxcsr_is_kept_whatever_it_is() -> None:
    # stmxcsr [rsp-4]; mov eax, [rsp-4]; ret
    assert check("0fae5c24fc8b4424fcc3", float_control=UNUSUAL_MXCSR) == (UNUSUAL_MXCSR, ())
    # A kernel that "restores" the default: mov dword [rsp-4], 0x1f80; ldmxcsr [rsp-4]; ret
    assert check("c74424fc801f00000fae5424fcc3")[1] == ()
    assert check("c74424fc801f00000fae5424fcc3", float_control=UNUSUAL_MXCSR)[1] == ("mxcsr control",)
    assert 1.0 / 3.0 * 3.0 == 1.0  # this thread rounds to nearest as before


def test_stack_alignment_is_as_asked() -> None:
    # lea rax, [rsp+8]; and eax, 63; ret: where the caller's stack pointer was, from a multiple of 64 up
    for offset in STACK_OFFSETS:
        assert check("488d44240883e03fc3", stack_offset=offset) == (-offset % 64, ())
    for offset in (8, 64, 1):
        with pytest.raises(ValueError, match="stack_offset"):
            check(returns(1), stack_offset=offset)


def test_arguments_arrive() -> None:
    report = Code.map(RETURNS_N).call_checked((), -(2**63))
    assert report == {"result": -(2**63), "violations": ()}
    report = Code.map(RETURNS_FIRST_OF_CONTEXT, context=b"\x05" + bytes(7)).call_checked(())
    assert report == {"result": 5, "violations": ()}
