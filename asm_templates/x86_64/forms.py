"""The x86-64 instruction forms that the templates use, as data: what `make encodings` looks up.

Names are Intel's, operand kinds in Intel order (see neurojit.emit.form_name). To add an instruction, add
its form here and run `make encodings`; what PeachPy does not know goes into supplement.txt.
"""

from __future__ import annotations

from collections.abc import Iterator

VEX = (("xmm", 128, ""), ("ymm", 256, ""))
EVEX = (("xmm", 128, " {evex}"), ("ymm", 256, " {evex}"), ("zmm", 512, ""))
ELEMENT = {"ps": 32, "pd": 64, "ss": 32, "sd": 64}

ARITHMETIC = ("vadd", "vsub", "vmul", "vdiv", "vmin", "vmax", "vfmadd231", "vfmadd213", "vfnmadd231", "vfnmadd213")
BITWISE = ("vand", "vandn", "vor", "vxor")
CONDITIONS = ("e", "ne", "l", "le", "g", "ge", "b", "be", "a", "ae", "s", "ns")


def moves() -> Iterator[str]:
    for mnemonic in ("vmovups", "vmovupd", "vmovaps", "vmovapd"):
        for v, bits, mark in (*VEX, *EVEX):
            yield from (f"{mnemonic} {v}, {v}{mark}", f"{mnemonic} {v}, m{bits}{mark}", f"{mnemonic} m{bits}, {v}{mark}")
        for v, bits, _ in EVEX:
            yield from (f"{mnemonic} {v}{{k}}{{z}}, {v}", f"{mnemonic} {v}{{k}}, {v}")
            yield from (f"{mnemonic} {v}{{k}}{{z}}, m{bits}", f"{mnemonic} {v}{{k}}, m{bits}", f"{mnemonic} m{bits}{{k}}, {v}")
    for mnemonic, bits in (("vmovss", 32), ("vmovsd", 64)):
        for mark in ("", " {evex}"):
            yield from (f"{mnemonic} xmm, m{bits}{mark}", f"{mnemonic} m{bits}, xmm{mark}", f"{mnemonic} xmm, xmm, xmm{mark}")
        yield from (f"{mnemonic} xmm{{k}}{{z}}, m{bits}", f"{mnemonic} m{bits}{{k}}, xmm")
    for mnemonic in ("vmaskmovps", "vmaskmovpd"):
        for v, bits, _ in VEX:
            yield from (f"{mnemonic} {v}, {v}, m{bits}", f"{mnemonic} m{bits}, {v}, {v}")
    for v, bits, mark in (VEX[0], VEX[1], EVEX[2]):
        yield from (f"vmovntps m{bits}, {v}{mark}", f"vmovntpd m{bits}, {v}{mark}")
    yield from ("vmovd xmm, r32", "vmovd r32, xmm", "vmovq xmm, r64", "vmovq r64, xmm")
    yield from ("vmovq xmm, m64", "vmovq m64, xmm", "vmovd xmm, m32", "vmovd m32, xmm")
    for v, bits in (("xmm", 128), ("ymm", 256)):
        yield from (f"vmovdqu {v}, m{bits}", f"vmovdqu m{bits}, {v}")
    for mnemonic in ("vmovdqu32", "vmovdqu64"):
        yield from (f"{mnemonic} zmm, m512", f"{mnemonic} m512, zmm", f"{mnemonic} zmm{{k}}{{z}}, m512", f"{mnemonic} m512{{k}}, zmm")


def broadcasts() -> Iterator[str]:
    yield from ("vmovddup xmm, m64", "vmovddup xmm, xmm")
    for mark in ("", " {evex}"):
        for v in ("xmm", "ymm", "zmm")[: 2 if mark == "" else 3]:
            end = "" if v == "zmm" else mark
            if v + end != "xmm {evex}":  # PeachPy does not know it: supplement.txt
                yield from (f"vbroadcastss {v}, m32{end}", f"vbroadcastss {v}, xmm{end}")
            if v != "xmm":
                yield from (f"vbroadcastsd {v}, m64{end}", f"vbroadcastsd {v}, xmm{end}")
            yield from (f"vpbroadcastd {v}, m32{end}", f"vpbroadcastd {v}, xmm{end}")
            yield from (f"vpbroadcastq {v}, m64{end}", f"vpbroadcastq {v}, xmm{end}")
    for v, _, mark in EVEX:
        yield from (f"vpbroadcastd {v}, r32{mark}", f"vpbroadcastq {v}, r64{mark}")
    yield from ("vbroadcastf128 ymm, m128", "vbroadcastf32x4 zmm, m128", "vbroadcastf64x4 zmm, m256")


def binary(mnemonic: str, suffix: str, vex: bool = True) -> Iterator[str]:
    """Three-operand vector arithmetic: registers, memory, embedded broadcast, write masks."""
    element = ELEMENT[suffix]
    for v, bits, mark in (*(VEX if vex else ()), *EVEX):
        yield from (f"{mnemonic}{suffix} {v}, {v}, {v}{mark}", f"{mnemonic}{suffix} {v}, {v}, m{bits}{mark}")
    for v, bits, _ in EVEX:
        yield f"{mnemonic}{suffix} {v}, {v}, m{element}{{1to{bits // element}}}"
        yield f"{mnemonic}{suffix} {v}{{k}}, {v}, {v}"
        yield f"{mnemonic}{suffix} {v}{{k}}{{z}}, {v}, {v}"


def arithmetic() -> Iterator[str]:
    for mnemonic in ARITHMETIC:
        for suffix in ("ps", "pd"):
            yield from binary(mnemonic, suffix)
        for suffix in ("ss", "sd"):
            for mark in ("", " {evex}"):
                yield from (f"{mnemonic}{suffix} xmm, xmm, xmm{mark}", f"{mnemonic}{suffix} xmm, xmm, m{ELEMENT[suffix]}{mark}")
    for mnemonic in BITWISE:
        for suffix in ("ps", "pd"):
            yield from binary(mnemonic, suffix)
    for suffix in ("ps", "pd"):
        yield from binary("vscalef", suffix, vex=False)
        element = ELEMENT[suffix]
        for v, bits, mark in (*VEX, *EVEX):
            yield from (f"vsqrt{suffix} {v}, {v}{mark}", f"vsqrt{suffix} {v}, m{bits}{mark}")
        for v, bits, _ in EVEX if suffix == "ps" else EVEX[2:]:  # PeachPy knows no more: supplement.txt
            yield f"vsqrt{suffix} {v}, m{element}{{1to{bits // element}}}"
        for v, _, _ in VEX:
            yield f"vround{suffix} {v}, {v}, imm8"
        for v, _, mark in EVEX:
            yield from (f"vrndscale{suffix} {v}, {v}, imm8{mark}", f"vgetexp{suffix} {v}, {v}{mark}")
    for suffix in ("ss", "sd"):
        yield from (f"vsqrt{suffix} xmm, xmm, xmm", f"vsqrt{suffix} xmm, xmm, m{ELEMENT[suffix]}")
        yield f"vround{suffix} xmm, xmm, xmm, imm8"


def integers() -> Iterator[str]:
    for mnemonic in ("vpaddd", "vpsubd", "vpaddq", "vpsubq", "vpmulld", "vpmaxsd", "vpminsd"):
        for v, bits, mark in (*VEX, *EVEX):
            yield from (f"{mnemonic} {v}, {v}, {v}{mark}", f"{mnemonic} {v}, {v}, m{bits}{mark}")
    for mnemonic in ("vpslld", "vpsrld", "vpsrad", "vpsllq", "vpsrlq"):
        yield from (f"{mnemonic} {v}, {v}, imm8{mark}" for v, _, mark in (*VEX, *EVEX))
    for mnemonic in ("vpand", "vpandn", "vpor", "vpxor", "vpcmpeqd", "vpcmpgtd"):
        yield from (f"{mnemonic} {v}, {v}, {v}" for v, _, _ in VEX)
    for mnemonic in ("vpandd", "vpandq", "vpord", "vporq", "vpxord", "vpxorq"):
        yield from (f"{mnemonic} {v}, {v}, {v}" for v, _, _ in EVEX)  # these have EVEX alone
    yield from (f"vpternlogd {v}, {v}, {v}, imm8" for v, _, _ in EVEX)


def conversions() -> Iterator[str]:
    for mnemonic in ("vcvtps2dq", "vcvttps2dq", "vcvtdq2ps"):
        for v, bits, mark in (*VEX, *EVEX):
            yield from (f"{mnemonic} {v}, {v}{mark}", f"{mnemonic} {v}, m{bits}{mark}")
    for wide, half in (("ymm", "xmm"), ("zmm", "ymm")):
        marks = ("", " {evex}") if wide == "ymm" else ("",)
        for mark in marks:
            yield from (f"vcvtps2pd {wide}, {half}{mark}", f"vcvtpd2ps {half}, {wide}{mark}")
            yield from (f"vcvtdq2pd {wide}, {half}{mark}", f"vcvtpd2dq {half}, {wide}{mark}")
    yield from ("vcvtps2pd xmm, xmm", "vcvtpd2ps xmm, xmm", "vcvtps2pd ymm, m128", "vcvtps2pd zmm, m256")
    yield from ("vcvtss2sd xmm, xmm, xmm", "vcvtsd2ss xmm, xmm, xmm", "vcvtss2sd xmm, xmm, m32")
    yield from ("vcvtsi2ss xmm, xmm, r64", "vcvtsi2sd xmm, xmm, r64", "vcvttss2si r64, xmm", "vcvttsd2si r64, xmm")
    yield from ("vcvtph2ps ymm, xmm", "vcvtph2ps ymm, m128", "vcvtps2ph xmm, ymm, imm8", "vcvtps2ph m128, ymm, imm8")
    yield from ("vcvtph2ps zmm, ymm", "vcvtph2ps zmm, m256", "vcvtps2ph ymm, zmm, imm8", "vcvtps2ph m256, zmm, imm8")
    yield from ("vpmovsxbd ymm, m64", "vpmovsxbd zmm, m128", "vpmovzxbd ymm, m64", "vpmovzxbd zmm, m128")
    yield from ("vpmovzxwd ymm, m128", "vpmovzxwd zmm, m256", "vpmovzxwd ymm, xmm", "vpmovzxwd zmm, ymm")


def comparisons() -> Iterator[str]:
    for suffix in ("ps", "pd"):
        for v, bits, _ in VEX:
            yield from (f"vcmp{suffix} {v}, {v}, {v}, imm8", f"vcmp{suffix} {v}, {v}, m{bits}, imm8")
            yield f"vblendv{suffix} {v}, {v}, {v}, {v}"
            yield f"vmovmsk{suffix} r32, {v}"
        for v, bits, _ in EVEX:
            yield from (f"vcmp{suffix} k, {v}, {v}, imm8", f"vcmp{suffix} k, {v}, m{bits}, imm8")
            yield from (f"vcmp{suffix} k{{k}}, {v}, {v}, imm8", f"vblendm{suffix} {v}{{k}}, {v}, {v}")
    yield from ("vucomiss xmm, xmm", "vucomisd xmm, xmm")


def shuffles() -> Iterator[str]:
    for v, bits, mark in (*VEX, *EVEX):
        for suffix in ("ps", "pd"):
            yield from (f"vpermil{suffix} {v}, {v}, imm8{mark}", f"vshuf{suffix} {v}, {v}, {v}, imm8{mark}")
            yield from (f"vunpckl{suffix} {v}, {v}, {v}{mark}", f"vunpckh{suffix} {v}, {v}, {v}{mark}")
        yield from (f"vmovshdup {v}, {v}{mark}", f"vmovsldup {v}, {v}{mark}")
    yield from ("vmovhlps xmm, xmm, xmm", "vmovlhps xmm, xmm, xmm")
    yield from ("vperm2f128 ymm, ymm, ymm, imm8", "vperm2f128 ymm, ymm, m256, imm8")
    yield from ("vextractf128 xmm, ymm, imm8", "vextractf128 m128, ymm, imm8")
    yield from ("vinsertf128 ymm, ymm, xmm, imm8", "vinsertf128 ymm, ymm, m128, imm8")
    yield from ("vpermps ymm, ymm, ymm", "vpermps ymm, ymm, m256", "vpermpd ymm, ymm, imm8")
    yield from ("vpermps zmm, zmm, zmm", "vpermpd zmm, zmm, zmm", "vpermt2ps zmm, zmm, zmm", "vpermt2pd zmm, zmm, zmm")
    for shape, v in (("32x4", "zmm"), ("32x4", "ymm"), ("64x2", "zmm"), ("32x8", "zmm"), ("64x4", "zmm")):
        half, bits = ("ymm", 256) if shape in ("32x8", "64x4") else ("xmm", 128)
        yield from (f"vextractf{shape} {half}, {v}, imm8", f"vextractf{shape} m{bits}, {v}, imm8")
        yield f"vinsertf{shape} {v}, {v}, {half}, imm8"
    yield from ("vshuff32x4 zmm, zmm, zmm, imm8", "vshuff64x2 zmm, zmm, zmm, imm8", "valignd zmm, zmm, zmm, imm8")
    yield from ("vinsertps xmm, xmm, xmm, imm8", "vinsertps xmm, xmm, m32, imm8", "vpshufb ymm, ymm, ymm")


def masks() -> Iterator[str]:
    for width in "bwdq":
        register = "r64" if width == "q" else "r32"
        yield from (f"kmov{width} k, {register}", f"kmov{width} {register}, k", f"kmov{width} k, k")
        yield from (f"kortest{width} k, k", f"kand{width} k, k, k", f"kor{width} k, k, k", f"kxnor{width} k, k, k")


def general() -> Iterator[str]:
    """Always 64 bits wide (REX.W), so that there is one form of each; jumps always have 32 bits."""
    yield from ("mov r64, r64", "mov r64, m64", "mov m64, r64", "mov r64, imm32", "mov r64, imm64", "mov r32, imm32")
    yield from ("mov r32, m32", "mov m32, r32", "mov m64, imm32", "movsxd r64, m32", "lea r64, m")
    for mnemonic in ("add", "sub", "cmp", "and", "or", "xor"):
        yield from (f"{mnemonic} r64, r64", f"{mnemonic} r64, m64", f"{mnemonic} r64, imm8", f"{mnemonic} r64, imm32")
    yield from ("test r64, r64", "imul r64, r64", "imul r64, m64", "imul r64, r64, imm32")
    yield from ("shl r64, imm8", "shr r64, imm8", "sar r64, imm8", "neg r64", "not r64", "inc r64", "dec r64")
    yield from (f"cmov{condition} r64, r64" for condition in CONDITIONS)
    yield from ("jmp rel32", *(f"j{condition} rel32" for condition in CONDITIONS))
    yield from ("push r64", "pop r64", "ret", "ud2", "vzeroupper", "sfence", "rdtsc")
    yield from ("prefetcht0 m8", "prefetcht1 m8", "prefetcht2 m8", "prefetchnta m8", "prefetchw m8")


GROUPS = (moves, broadcasts, arithmetic, integers, conversions, comparisons, shuffles, masks, general)
FORMS = tuple(name for group in GROUPS for name in group())
