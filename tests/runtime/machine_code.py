"""Kernels of a few bytes, by hand: x86-64, each with its assembly."""

from __future__ import annotations

import struct


def returns(value: int) -> bytes:
    """endbr64; mov eax, value; ret"""
    return b"\xf3\x0f\x1e\xfa\xb8" + struct.pack("<i", value) + b"\xc3"


# mov rax, rsi; ret
RETURNS_N = b"\x48\x89\xf0\xc3"

# mov rax, [rdi]; mov rax, [rax]; ret
RETURNS_FIRST_OF_CONTEXT = b"\x48\x8b\x07\x48\x8b\x00\xc3"

# mov rax, [rdi]; ret
RETURNS_ADDRESS_OF_CONTEXT = b"\x48\x8b\x07\xc3"

# Counts itself in at buffers[1][0], then waits until buffers[1][1] is set (32-bit words); returns 7.
# mov rax, [rdi+8]; lock inc dword [rax]; again: pause; cmp dword [rax+4], 0; je again; mov eax, 7; ret
WAITS = b"\x48\x8b\x47\x08\xf0\xff\x00\xf3\x90\x83\x78\x04\x00\x74\xf8\xb8\x07\x00\x00\x00\xc3"

# Counts itself in at buffers[1][0] and never returns.
# mov rax, [rdi+8]; lock inc dword [rax]; again: jmp again
NEVER_RETURNS = b"\x48\x8b\x47\x08\xf0\xff\x00\xeb\xfe"

# ud2
ILLEGAL = b"\x0f\x0b"

# xor eax, eax; mov rax, [rax]; ret
READS_NULL = b"\x31\xc0\x48\x8b\x00\xc3"
