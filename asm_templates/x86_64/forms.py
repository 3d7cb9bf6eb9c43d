"""The x86-64 instruction forms that the templates use, as data: what `make encodings` looks up.

Names are Intel's, operand kinds in Intel order (see neurojit.encoder.form_name). To add an instruction, add
its form here and run `make encodings`; what PeachPy does not know goes into supplement.txt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Width = tuple[str, int, str]  # vector register, bits of memory, mark of the encoding

VEX: tuple[Width, ...] = (("xmm", 128, ""), ("ymm", 256, ""))
VL: tuple[Width, ...] = (("xmm", 128, " {evex}"), ("ymm", 256, " {evex}"))  # AVX-512 VL
ZMM: tuple[Width, ...] = (("zmm", 512, ""),)
EVEX, ALL = VL + ZMM, VEX + VL + ZMM
EVEX_ONLY: tuple[Width, ...] = (("xmm", 128, ""), ("ymm", 256, ""), ("zmm", 512, ""))  # no VEX encoding
SS: tuple[Width, ...] = (("xmm", 32, ""), ("xmm", 32, " {evex}"))
SD: tuple[Width, ...] = (("xmm", 64, ""), ("xmm", 64, " {evex}"))

ARITHMETIC = ("vadd", "vsub", "vmul", "vdiv", "vmin", "vmax")
FMA = ("vfmadd231", "vfmadd213", "vfnmadd231", "vfnmadd213")
BITWISE = ("vand", "vandn", "vor", "vxor")
CONDITIONS = ("e", "ne", "l", "le", "g", "ge", "b", "be", "a", "ae", "s", "ns")


def over(mnemonics: str, shapes: str, widths: Sequence[Width] = ZMM) -> Iterator[str]:
    """Every mnemonic with every shape (between `|`) over every width.

    In a shape V is the vector register, M memory as wide, B an element broadcast (of 32 bits, or 64 for
    mnemonics in pd). Masks and broadcasts need no mark to be EVEX."""
    for mnemonic in mnemonics.split():
        element = 64 if mnemonic.endswith("pd") else 32
        for v, bits, mark in widths:
            for shape in shapes.split(" | "):
                operands = shape.replace("V", v).replace("M", f"m{bits}")
                operands = operands.replace("B", f"m{element}{{1to{bits // element}}}")
                yield f"{mnemonic} {operands}{'' if '{' in operands else mark}"


def suffixed(stems: Sequence[str], *suffixes: str) -> str:
    return " ".join(stem + suffix for suffix in suffixes for stem in stems)


MOVES = (
    *over("vmovups vmovupd vmovaps vmovapd", "V, V | V, M | M, V", ALL),
    *over("vmovups vmovupd vmovaps vmovapd", "V{k}{z}, V | V{k}, V | V{k}{z}, M | V{k}, M | M{k}, V", EVEX),
    *over("vmovss", "V, M | M, V | V, V, V", SS),
    *over("vmovsd", "V, M | M, V | V, V, V", SD),
    *over("vmovss", "V{k}{z}, M | M{k}, V", SS[:1]),
    *over("vmovsd", "V{k}{z}, M | M{k}, V", SD[:1]),
    *over("vmaskmovps vmaskmovpd", "V, V, M | M, V, V", VEX),
    *over("vmovntps vmovntpd", "M, V", VEX + ZMM),
    *over("vmovdqu", "V, M | M, V", VEX),
    *over("vmovdqu32 vmovdqu64", "V, M | M, V | V{k}{z}, M | M{k}, V"),
    *over("vmovd", "xmm, r32 | r32, xmm | xmm, m32 | m32, xmm"),
    *over("vmovq", "xmm, r64 | r64, xmm | xmm, m64 | m64, xmm"),
)

BROADCASTS = (
    *over("vmovddup", "xmm, m64 | xmm, xmm"),
    *over("vbroadcastss", "V, m32 | V, xmm", VEX + EVEX[1:]),  # xmm {evex}: supplement.txt
    *over("vbroadcastsd", "V, m64 | V, xmm", VEX[1:] + EVEX[1:]),
    *over("vpbroadcastd", "V, m32 | V, xmm", ALL),
    *over("vpbroadcastq", "V, m64 | V, xmm", ALL),
    *over("vpbroadcastd", "V, r32", EVEX),
    *over("vpbroadcastq", "V, r64", EVEX),
    *over("vpbroadcastb", "xmm, m8"),
    *over("vpbroadcastw", "xmm, m16"),
    *over("vpextrb", "m8, xmm, imm8"),
    *over("vpextrw", "m16, xmm, imm8"),
    *over("vbroadcastf128", "ymm, m128"),
    *over("vbroadcastf32x4", "V, m128"),
    *over("vbroadcastf64x4", "V, m256"),
)

FLOATS = (
    *over(suffixed(ARITHMETIC + FMA + BITWISE, "ps", "pd"), "V, V, V | V, V, M", ALL),
    *over(suffixed(ARITHMETIC + FMA + BITWISE, "ps", "pd"), "V, V, B | V{k}, V, V | V{k}{z}, V, V", EVEX),
    *over(suffixed(ARITHMETIC + FMA, "ss"), "V, V, V | V, V, M", SS),
    *over(suffixed(ARITHMETIC + FMA, "sd"), "V, V, V | V, V, M", SD),
    *over("vscalefps vscalefpd", "V, V, V | V, V, M", EVEX),
    *over("vscalefps vscalefpd", "V, V, B | V{k}, V, V | V{k}{z}, V, V", EVEX),
    *over("vsqrtps vsqrtpd", "V, V | V, M", ALL),
    *over("vsqrtps", "V, B", EVEX),
    *over("vsqrtpd", "V, B"),  # narrower: supplement.txt
    *over("vsqrtss", "V, V, V | V, V, M", SS[:1]),
    *over("vsqrtsd", "V, V, V | V, V, M", SD[:1]),
    *over("vroundps vroundpd", "V, V, imm8", VEX),
    *over("vroundss vroundsd", "xmm, xmm, xmm, imm8"),
    *over("vrndscaleps vrndscalepd", "V, V, imm8", EVEX),
    *over("vgetexpps vgetexppd", "V, V", EVEX),
    *over("vgetmantps vgetmantpd", "V, V, imm8", EVEX),
)

INTEGERS = (
    *over("vpaddd vpsubd vpaddq vpsubq vpmulld vpmaxsd vpminsd", "V, V, V | V, V, M", ALL),
    *over("vpslld vpsrld vpsrad vpsllq vpsrlq", "V, V, imm8", ALL),
    *over("vpslld", "V, M, imm8", EVEX),
    *over("vpsllw vpsraw", "V, V, imm8", ALL),
    *over("vpmaddwd", "V, V, V", ALL),
    *over("vprold", "V, V, imm8", EVEX),
    *over("vpand vpandn vpor vpxor vpcmpeqd vpcmpgtd", "V, V, V", VEX),
    *over("vpcmpeqd vpcmpgtd", "k, V, V", EVEX_ONLY),
    *over("vpackssdw vpacksswb vpackusdw", "V, V, V", VEX[:1]),
    *over("vpandd vpandq vpord vporq vpxord vpxorq", "V, V, V", EVEX_ONLY),
    *over("vpternlogd", "V, V, V, imm8", EVEX_ONLY),
)

CONVERSIONS = (
    *over("vcvtps2dq vcvttps2dq vcvtdq2ps", "V, V | V, M", ALL),
    *over("vcvtps2pd vcvtdq2pd", "ymm, xmm", (VEX[1], VL[1])),
    *over("vcvtpd2ps vcvtpd2dq", "xmm, ymm", (VEX[1], VL[1])),
    *over("vcvttpd2dq", "xmm, ymm", VEX[1:]),
    *over("vcvttpd2dq", "ymm, zmm"),
    *over("vcvtps2pd vcvtdq2pd", "zmm, ymm"),
    *over("vcvtpd2ps vcvtpd2dq", "ymm, zmm"),
    *over("vcvtps2pd", "xmm, xmm | ymm, m128 | zmm, m256"),
    *over("vcvtpd2ps", "xmm, xmm"),
    *over("vcvtss2sd", "xmm, xmm, xmm | xmm, xmm, m32"),
    *over("vcvtsd2ss", "xmm, xmm, xmm"),
    *over("vcvtsi2ss vcvtsi2sd", "xmm, xmm, r64"),
    *over("vcvttss2si vcvttsd2si", "r64, xmm"),
    *over("vcvtph2ps", "ymm, xmm | ymm, m128 | zmm, ymm | zmm, m256"),
    *over("vcvtps2ph", "xmm, ymm, imm8 | m128, ymm, imm8 | ymm, zmm, imm8 | m256, zmm, imm8"),
    *over("vpmovsxbd vpmovzxbd", "ymm, m64 | zmm, m128"),
    *over("vpmovsxbd", "xmm, m32 | xmm, m32 {evex} | ymm, m64 {evex}"),
    *over("vpmovdb", "m128, zmm"),
    *over("vpmovdw", "m256, zmm"),
    *over("vpmovzxwd", "ymm, m128 | zmm, m256 | ymm, xmm | zmm, ymm"),
)

COMPARISONS = (
    *over("vcmpps vcmppd", "V, V, V, imm8 | V, V, M, imm8", VEX),
    *over("vcmpps vcmppd", "k, V, V, imm8 | k, V, M, imm8 | k{k}, V, V, imm8", EVEX_ONLY),
    *over("vblendvps vblendvpd", "V, V, V, V", VEX),
    *over("vblendmps vblendmpd", "V{k}, V, V", EVEX),
    *over("vmovmskps vmovmskpd", "r32, V", VEX),
    *over("vucomiss vucomisd", "xmm, xmm"),
)

SHUFFLES = (
    *over("vpermilps vpermilpd", "V, V, imm8", ALL),
    *over("vshufps vshufpd", "V, V, V, imm8", ALL),
    *over("vunpcklps vunpckhps vunpcklpd vunpckhpd", "V, V, V", ALL),
    *over("vmovshdup vmovsldup", "V, V", ALL),
    *over("vmovhlps vmovlhps", "xmm, xmm, xmm"),
    *over("vperm2f128", "ymm, ymm, ymm, imm8 | ymm, ymm, m256, imm8"),
    *over("vextractf128", "xmm, ymm, imm8 | m128, ymm, imm8"),
    *over("vinsertf128", "ymm, ymm, xmm, imm8 | ymm, ymm, m128, imm8"),
    *over(
        "vpermps", "ymm, ymm, ymm | ymm, ymm, m256 | ymm, ymm, m256 {evex} | zmm, zmm, zmm | zmm, zmm, m512"
    ),
    *over("vpermpd", "ymm, ymm, imm8 | zmm, zmm, zmm"),
    *over("vpermt2ps vpermt2pd", "zmm, zmm, zmm"),
    *over("vextractf32x4", "xmm, ymm, imm8 | m128, ymm, imm8"),
    *over("vextractf32x4 vextractf64x2", "xmm, zmm, imm8 | m128, zmm, imm8"),
    *over("vextractf32x8 vextractf64x4", "ymm, zmm, imm8 | m256, zmm, imm8"),
    *over("vinsertf32x4", "ymm, ymm, xmm, imm8"),
    *over("vinsertf32x4 vinsertf64x2", "zmm, zmm, xmm, imm8"),
    *over("vinsertf32x8 vinsertf64x4", "zmm, zmm, ymm, imm8"),
    *over("vshuff32x4 vshuff64x2 valignd", "zmm, zmm, zmm, imm8"),
    *over("vshuff32x4", "ymm, ymm, ymm, imm8"),
    *over("vinsertps", "xmm, xmm, xmm, imm8 | xmm, xmm, m32, imm8"),
    *over("vpshufb", "ymm, ymm, ymm"),
)

MASKS = (
    *over("kmovb kmovw kmovd", "k, r32 | r32, k"),
    *over("kmovq", "k, r64 | r64, k"),
    *over("kmovb kmovw kmovd kmovq kortestb kortestw kortestd kortestq", "k, k"),
    *over("kandb kandw kandd kandq korb korw kord korq kxnorb kxnorw kxnord kxnorq", "k, k, k"),
)

# Integers are 64 bits wide (REX.W) wherever possible, so that there is one form; jumps always have 32 bits.
GENERAL = (
    *over("mov", "r64, r64 | r64, m64 | m64, r64 | r64, imm32 | r64, imm64 | m64, imm32"),
    *over("mov", "r32, imm32 | r32, m32 | m32, r32"),
    *over("movsxd", "r64, m32"),
    *over("lea", "r64, m"),
    *over("add sub cmp and or xor", "r64, r64 | r64, m64 | r64, imm8 | r64, imm32"),
    *over("test", "r64, r64"),
    *over("imul", "r64, r64 | r64, m64 | r64, r64, imm32"),
    *over("shl shr sar", "r64, imm8"),
    *over("neg not inc dec push pop", "r64"),
    *over(" ".join(f"cmov{condition}" for condition in CONDITIONS), "r64, r64"),
    *over(" ".join(["jmp", *(f"j{condition}" for condition in CONDITIONS)]), "rel32"),
    *over("prefetcht0 prefetcht1 prefetcht2 prefetchnta prefetchw", "m8"),
    *("ret", "ud2", "vzeroupper", "sfence", "rdtsc"),
)

FORMS = MOVES + BROADCASTS + FLOATS + INTEGERS + CONVERSIONS + COMPARISONS + SHUFFLES + MASKS + GENERAL
