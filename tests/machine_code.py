"""Kernels of a few bytes, by hand, each with its assembly: for every architecture, under the same names."""

from __future__ import annotations

import platform
import struct

MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
KNOWN = ("x86_64", "aarch64", "riscv64")


def words(*text: str) -> bytes:
    """Instructions of 32 bits, as listings print them."""
    return b"".join(struct.pack("<I", int(word, 16)) for line in text for word in line.split())


def returns(value: int) -> bytes:
    """A kernel whose result is `value` as 32 unsigned bits."""
    if MACHINE == "x86_64":  # endbr64; mov eax, value; ret
        return b"\xf3\x0f\x1e\xfa\xb8" + struct.pack("<i", value) + b"\xc3"
    if MACHINE == "riscv64":  # lui a0, upper; addiw a0, a0, rest; slli a0, a0, 32; srli a0, a0, 32; ret
        upper = (value & 0xFFFFFFFF) + 0x800 >> 12 & 0xFFFFF
        rest = f"{(value & 0xFFF) << 20 | 0x5051B:x}"
        return words(f"{upper << 12 | 0x537:x}", rest, "02051513 02055513 00008067")
    low, high = value & 0xFFFF, value >> 16 & 0xFFFF
    # bti c; mov w0, low; movk w0, high, lsl 16; ret
    return words("d503245f", f"{0x52800000 | low << 5:x}", f"{0x72A00000 | high << 5:x}", "d65f03c0")


X86_64 = {
    "RETURNS_N": b"\x48\x89\xf0\xc3",  # mov rax, rsi; ret
    "RETURNS_FIRST_OF_CONTEXT": b"\x48\x8b\x07\x48\x8b\x00\xc3",  # mov rax, [rdi]; mov rax, [rax]; ret
    "RETURNS_ADDRESS_OF_CONTEXT": b"\x48\x8b\x07\xc3",  # mov rax, [rdi]; ret
    # mov rax, [rdi+8]; lock inc dword [rax]; again: pause; cmp dword [rax+4], 0; je again; mov eax, 7; ret
    "WAITS": b"\x48\x8b\x47\x08\xf0\xff\x00\xf3\x90\x83\x78\x04\x00\x74\xf8\xb8\x07\x00\x00\x00\xc3",
    # mov rax, [rdi+8]; lock inc dword [rax]; again: jmp again
    "NEVER_RETURNS": b"\x48\x8b\x47\x08\xf0\xff\x00\xeb\xfe",
    "ILLEGAL": b"\x0f\x0b",  # ud2
    "READS_NULL": b"\x31\xc0\x48\x8b\x00\xc3",  # xor eax, eax; mov rax, [rax]; ret
    "TRAP": b"\xcc",  # int3
    "NOP": b"\x90",
    "RETURN": b"\xc3",
    "ENTRY": b"\xf3\x0f\x1e\xfa",  # endbr64
    # mov rax, [rdi+24]; mov dword [rax+60], 1.0
    "STORES_BEHIND_C": b"\x48\x8b\x47\x18\xc7\x40\x3c\x00\x00\x80\x3f",
    "STORES_TO_A": b"\x48\x8b\x47\x08\xc7\x00\x00\x00\x80\x3f",  # mov rax, [rdi+8]; mov dword [rax], 1.0
    "SPOILS": b"\xbb\x07\x00\x00\x00",  # mov ebx, 7
    # mov r8, [rdi+40]; mov rcx, [rdi+32]; mov rdx, [rdi+24]; mov rsi, [rdi+16]; mov rdi, [rdi+8]; nop to 32
    "FROM_BUFFERS": bytes.fromhex("4c8b4728 488b4f20 488b5718 488b7710 488b7f08").ljust(32, b"\x90"),
}
AARCH64 = {
    "RETURNS_N": words("aa0103e0 d65f03c0"),  # mov x0, x1; ret
    "RETURNS_FIRST_OF_CONTEXT": words("f9400000 f9400000 d65f03c0"),  # ldr x0, [x0]; ldr x0, [x0]; ret
    "RETURNS_ADDRESS_OF_CONTEXT": words("f9400000 d65f03c0"),  # ldr x0, [x0]; ret
    # ldr x2, [x0, 8]; once: ldaxr w3, [x2]; add w3, w3, 1; stlxr w4, w3, [x2]; cbnz w4, once;
    # add x2, x2, 4; again: yield; ldar w3, [x2]; cbz w3, again; mov x0, 7; ret
    "WAITS": words(
        "f9400402 885ffc43 11000463 8804fc43 35ffffa4 91001042 d503203f 88dffc43 34ffffc3 d28000e0 d65f03c0"
    ),
    # ldr x2, [x0, 8]; once: ldaxr w3, [x2]; add w3, w3, 1; stlxr w4, w3, [x2]; cbnz w4, once; again: b again
    "NEVER_RETURNS": words("f9400402 885ffc43 11000463 8804fc43 35ffffa4 14000000"),
    "ILLEGAL": words("00000000"),  # udf 0
    "READS_NULL": words("d2800000 f9400000 d65f03c0"),  # mov x0, 0; ldr x0, [x0]; ret
    "TRAP": b"\x00",  # four of them are udf 0
    "NOP": words("d503201f"),
    "RETURN": words("d65f03c0"),
    "ENTRY": words("d503245f"),  # bti c
    # ldr x9, [x0, 24]; mov w10, 1.0; str w10, [x9, 60]
    "STORES_BEHIND_C": words("f9400c09 52a7f00a b9003d2a"),
    "STORES_TO_A": words("f9400409 52a7f00a b900012a"),  # ldr x9, [x0, 8]; mov w10, 1.0; str w10, [x9]
    "SPOILS": words("528000f3"),  # mov w19, 7
    # ldr x4, [x0, 40]; ldr x3, [x0, 32]; ldr x2, [x0, 24]; ldr x1, [x0, 16]; ldr x0, [x0, 8]; nop to 32 bytes
    "FROM_BUFFERS": words("f9401404 f9401003 f9400c02 f9400801 f9400400 d503201f d503201f d503201f"),
}
RISCV64 = {
    "RETURNS_N": words("00058513 00008067"),  # mv a0, a1; ret
    "RETURNS_FIRST_OF_CONTEXT": words("00053503 00053503 00008067"),  # ld a0, 0(a0); ld a0, 0(a0); ret
    "RETURNS_ADDRESS_OF_CONTEXT": words("00053503 00008067"),  # ld a0, 0(a0); ret
    # ld a2, 8(a0); li a3, 1; amoadd.w.aqrl zero, a3, (a2); again: lw a3, 4(a2); fence rw, rw; beqz a3, again;
    # li a0, 7; ret
    "WAITS": words("00853603 00100693 06d6202f 00462683 0330000f fe068ce3 00700513 00008067"),
    # ld a2, 8(a0); li a3, 1; amoadd.w.aqrl zero, a3, (a2); again: j again
    "NEVER_RETURNS": words("00853603 00100693 06d6202f 0000006f"),
    "ILLEGAL": words("00000000"),  # by definition
    "READS_NULL": words("00003503 00008067"),  # ld a0, 0(zero); ret
    "TRAP": b"\x00",
    "NOP": words("00000013"),
    "RETURN": words("00008067"),
    "STORES_BEHIND_C": words("01853283 3f800337 0262ae23"),  # ld t0, 24(a0); lui t1, 1.0; sw t1, 60(t0)
    "STORES_TO_A": words("00853283 3f800337 0062a023"),  # ld t0, 8(a0); lui t1, 1.0; sw t1, 0(t0)
    "SPOILS": words("00700493"),  # li s1, 7
    # ld a4, 40(a0); ld a3, 32(a0); ld a2, 24(a0); ld a1, 16(a0); ld a0, 8(a0); nop to 32 bytes
    "FROM_BUFFERS": words("02853703 02053683 01853603 01053583 00853503 00000013 00000013 00000013"),
}
KERNELS = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}.get(MACHINE, X86_64)

RETURNS_N = KERNELS["RETURNS_N"]
RETURNS_FIRST_OF_CONTEXT = KERNELS["RETURNS_FIRST_OF_CONTEXT"]
RETURNS_ADDRESS_OF_CONTEXT = KERNELS["RETURNS_ADDRESS_OF_CONTEXT"]

# Counts itself in at buffers[1][0], then waits until buffers[1][1] is set (32-bit words); returns 7.
WAITS = KERNELS["WAITS"]

# Counts itself in at buffers[1][0] and never returns.
NEVER_RETURNS = KERNELS["NEVER_RETURNS"]

ILLEGAL = KERNELS["ILLEGAL"]
READS_NULL = KERNELS["READS_NULL"]

# What fills the rest of a page.
TRAP = KERNELS["TRAP"]

# One instruction each.
NOP = KERNELS["NOP"]
RETURN = KERNELS["RETURN"]

# What every kernel opens with and ends in, by architecture. RISC-V's open with a jump.
ENTRY = {"x86_64": X86_64["ENTRY"], "aarch64": AARCH64["ENTRY"]}
LAST = {"x86_64": X86_64["RETURN"], "aarch64": AARCH64["RETURN"], "riscv64": RISCV64["RETURN"]}

# In front of a kernel: a store of 1.0 at byte 60 of buffers[3]; at buffers[1]; to a register of the caller's.
STORES_BEHIND_C = KERNELS["STORES_BEHIND_C"]
STORES_TO_A = KERNELS["STORES_TO_A"]
SPOILS = KERNELS["SPOILS"]
SPOILED = {"x86_64": "rbx", "aarch64": "x19", "riscv64": "s1"}.get(MACHINE, "")

# In front of a micro-kernel: buffers[1] to [5] are its arguments.
FROM_BUFFERS = KERNELS["FROM_BUFFERS"]

# Control words of floating-point arithmetic that a kernel may be called with; 0: this thread's own.
FLUSH_TO_ZERO = {"x86_64": 0x9FC0, "aarch64": 1 << 24}  # RISC-V has no such mode
ROUND_UP = {"x86_64": 0x5F80, "aarch64": 1 << 22, "riscv64": 3 << 5}
FLOAT_CONTROL = {
    "this thread's": 0,
    **({"flush to zero": FLUSH_TO_ZERO[MACHINE]} if MACHINE in FLUSH_TO_ZERO else {}),
    **({"round up": ROUND_UP[MACHINE]} if MACHINE in ROUND_UP else {}),
}
