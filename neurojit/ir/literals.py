"""Attributes as text and back: numbers whose every bit survives, strings, arrays, dense values.

Floats are decimal where that reads back to the same bits, else the bits in hexadecimal. Dense values of more
than a few elements are the raw little-endian bytes in hexadecimal.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from neurojit.ir.structure import Attribute, Dense
from neurojit.ir.types import ELEMENTS, Array, TensorType, round_bf16

MOST_LISTED = 64
"""Elements a dense value may have to be printed one by one."""
_STORED: dict[str, Any] = {"f32": "<u4", "f64": "<u8", "bf16": "<u2", "i32": "<i4", "i8": "<i1"}


def to_bits(value: Array, element: str) -> Array:
    """The stored representation: unsigned integers for floats, the numbers themselves for integers."""
    if element == "bf16":
        value = (np.ascontiguousarray(value, np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    elif ELEMENTS[element].kind == "float":
        value = np.ascontiguousarray(value).view(np.dtype(_STORED[element]).newbyteorder("="))
    return value


def from_bits(bits: Array, element: str) -> Array:
    """The other way round, as the interpreter holds them."""
    if element == "bf16":
        bits = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif ELEMENTS[element].kind == "float":
        bits = bits.view(ELEMENTS[element].dtype)
    return bits


def spell_float(value: float, element: str = "f64") -> str:
    """A literal that parses to exactly this number of the element type."""
    if math.isfinite(value):
        short: tuple[str, ...] = () if element == "f64" else (str(np.float32(value)),)
        for text in (*short, repr(float(value))):
            mantissa, e, exponent = text.partition("e")
            text = (mantissa if "." in mantissa else mantissa + ".0") + e + exponent
            if _same(read_float(text, element), value):
                return text
    bits = to_bits(np.array([value], ELEMENTS[element].dtype), element)
    return f"0x{int(bits[0]):0{2 * ELEMENTS[element].size}X}"


def _same(a: float, b: float) -> bool:
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def read_float(text: str, element: str) -> float:
    """The number a decimal literal stands for, rounded to the element type; inf where it is too large."""
    value = float(text)
    if element == "f64":
        return value
    with np.errstate(over="ignore"):
        return float(round_bf16(np.array(value)) if element == "bf16" else np.float32(value))


def spell_string(text: str) -> str:
    r"""In quotes; what is not printable ASCII as \XX, two hexadecimal digits for each byte of UTF-8."""
    parts = []
    for byte in text.encode():
        plain = 32 <= byte < 127 and byte not in b'"\\'
        parts.append(chr(byte) if plain else f"\\{byte:02X}")
    return '"' + "".join(parts) + '"'


_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_SHORT = {b"n": b"\n", b"t": b"\t", b'"': b'"', b"\\": b"\\"}


def read_string(token: str) -> str:
    """What stands between the quotes. ValueError: an escape that is none, or bytes that are no UTF-8."""

    def unescaped(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code in _SHORT:
            return _SHORT[code]
        if len(code) == 1:
            raise ValueError(f"no such escape: \\{code.decode(errors='replace')}")
        return bytes([int(code, 16)])

    return _ESCAPE.sub(unescaped, token[1:-1].encode()).decode()


def spell(value: Attribute) -> str:
    """An attribute as the text has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return spell_float(value) + ("" if math.isfinite(value) else " : f64")
    if isinstance(value, str):
        return spell_string(value)
    if isinstance(value, Dense):
        return f"dense<{_spell_elements(value)}> : {value.type}"
    return "[" + ", ".join(map(str, value)) + "]"


def _spell_elements(value: Dense) -> str:
    array, element = value.array, value.type.element
    if array.size == 0:
        return ""
    flat = array.ravel()
    bits = to_bits(flat, element)
    if (bits == bits[0]).all():
        return _spell_element(flat[0], element)
    if array.size > MOST_LISTED and element != "i1":
        return '"0x' + bits.astype(_STORED[element]).tobytes().hex().upper() + '"'
    return _spell_list(array, element)


def _spell_list(array: Array, element: str) -> str:
    if array.ndim == 0:
        return _spell_element(array[()], element)
    return "[" + ", ".join(_spell_list(item, element) for item in array) + "]"


def _spell_element(value: Any, element: str) -> str:
    kind = ELEMENTS[element].kind
    if kind == "bool":
        return "true" if value else "false"
    return str(int(value)) if kind == "int" else spell_float(float(value), element)


def element_of(token: str, element: str) -> Any:
    """One element of a dense value, from its token. ValueError: not one of this type."""
    kind = ELEMENTS[element].kind
    if kind == "bool":
        if token not in ("true", "false"):
            raise ValueError("true or false")
        return token == "true"
    if kind == "int":
        info = np.iinfo(ELEMENTS[element].dtype)
        value = int(token, 0) if re.fullmatch(r"-?(0[xX][0-9A-Fa-f]+|0|[1-9][0-9]*)", token) else None
        if value is None or not info.min <= value <= info.max:
            raise ValueError(f"an integer from {info.min} to {info.max}")
        return value
    if token[:2] in ("0x", "0X"):
        size = ELEMENTS[element].size
        if len(token) != 2 + 2 * size:
            raise ValueError(f"{2 * size} hexadecimal digits")
        bits = np.array([int(token, 16)], _STORED[element])
        return from_bits(bits.astype(bits.dtype.newbyteorder("=")), element)[0]
    if "." not in token:
        raise ValueError(f"a number of type {element}, with a point")
    value_read = read_float(token, element)
    if not math.isfinite(value_read):
        raise ValueError(f"a number in the range of {element}")
    return value_read


def raw_elements(token: str, type_: TensorType) -> Array:
    """The elements of a dense value given as a string of bytes. ValueError: not that many, or not bytes."""
    element = type_.element
    if element == "i1":
        raise ValueError("a list of true and false")
    digits = token[3:-1] if token[1:3] == "0x" else ""
    expected = type_.count(0) * ELEMENTS[element].size
    if not re.fullmatch(r"[0-9A-Fa-f]*", digits) or len(digits) != 2 * expected:
        raise ValueError(f"0x and {2 * expected} hexadecimal digits")
    stored = np.frombuffer(bytes.fromhex(digits), _STORED[element])
    bits = stored.astype(stored.dtype.newbyteorder("="))
    return from_bits(bits, element).reshape(type_.static_shape(0))
