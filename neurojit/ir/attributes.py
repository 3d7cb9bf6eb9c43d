"""Reading attributes: `{axis = 1, epsilon = 1.0e-05, value = dense<[1.0, 2.0]> : tensor<2xf32>}`."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurojit.ir import literals
from neurojit.ir.cursor import Cursor
from neurojit.ir.lexer import Token
from neurojit.ir.rules import MOST_CONSTANT
from neurojit.ir.structure import Attribute, Dense
from neurojit.ir.types import ELEMENTS, MOST_RANK, Array, TensorType

Given = dict[str, tuple[Any, Token]]
"""name -> (value, the token where the value begins)."""

INTEGERS, FLOATS = ("i64", "i32", "index"), ("f64", "f32")


def plain(given: Given) -> dict[str, Any]:
    return {name: value for name, (value, _) in given.items()}


class AttributeCursor(Cursor):
    """A cursor that reads attributes."""

    def attributes(self) -> Given:
        self.expect("{")
        given: Given = {}

        def pair() -> None:
            key = self.take("word", "an attribute such as axis = 1")
            self.expect("=")
            token = self.peek()
            value = self._attribute()
            if key.text in given:
                self.fail(key, f"attribute {key.text!r} is given twice")
            given[key.text] = value, token

        self.listed("}", pair)
        return given

    def _attribute(self) -> Attribute:
        token = self.peek()
        if token.kind == "number":
            return self._number()
        if token.text == "dense":
            return self._dense()
        if token.text in ("true", "false"):
            return self.advance().text == "true"
        if token.kind == "string":
            return self._string()
        if self.accept("["):
            return tuple(self.listed("]", self._integer))
        self.fail(token, "syntax", "a number, a string, true, false, [integers] or dense<...>", self.seen())

    def _string(self) -> str:
        token = self.advance()
        try:
            return literals.read_string(token.text)
        except ValueError as error:
            self.fail(token, "string", 'UTF-8 and escapes \\n \\t \\" \\\\ \\41', str(error))

    def _number(self) -> int | float:
        token = self.advance()
        stated = self.take("word", "a type such as i64").text if self.accept(":") else ""
        hexadecimal = token.text.lstrip("-")[:2] in ("0x", "0X")
        is_float = stated in FLOATS if hexadecimal else "." in token.text
        if stated not in ("", *(FLOATS if is_float else INTEGERS)):
            among = " or ".join(FLOATS if is_float else INTEGERS)
            self.fail(self.before(), "type of a number", among, stated)
        try:
            if is_float:
                return float(literals.element_of(token.text, stated or "f64"))
        except ValueError as error:
            self.fail(token, "number", str(error), token.text)
        return self._checked_integer(token)

    def _integer(self) -> int:
        return self._checked_integer(self.take("number", "an integer"))

    def _checked_integer(self, token: Token) -> int:
        digits = token.text.lstrip("-")
        if "." in digits or len(digits) > 20 or (digits[0] == "0" and digits[1:].isdigit()):
            self.fail(token, "number", "an integer of 64 bits", token.text)
        value = int(token.text, 0)
        if not -(1 << 63) <= value < 1 << 63:
            self.fail(token, "number", "an integer of 64 bits", token.text)
        return value

    # ---- dense values -------------------------------------------------------------------------------

    def _dense(self) -> Dense:
        head = self.advance()
        self.expect("<")
        flat: list[Token] = []
        shape: tuple[int, ...] | None = None
        if not self.at(">"):
            shape = self._nested(flat, 0)
        self.expect(">")
        self.expect(":")
        type_, token = self.type()
        if type_ is None:
            self.fail(head._replace(kind="error"), "")  # the type has been reported
        if type_.is_dynamic or type_.count(0) > MOST_CONSTANT:
            expected = f"static, at most {MOST_CONSTANT} elements"
            self.fail(token, "type of a constant", expected, str(type_), "larger ones are weights")
        return Dense(type_, _read_only(self._elements(head, flat, shape, type_)))

    def _nested(self, flat: list[Token], depth: int) -> tuple[int, ...]:
        """The shape of what follows; its elements go to `flat`."""
        token = self.peek()
        if not self.accept("["):
            if token.kind not in ("number", "string") and token.text not in ("true", "false"):
                self.fail(token, "syntax", "an element or [elements]", self.seen())
            flat.append(self.advance())
            return ()
        if depth >= MOST_RANK:
            self.fail(token, "nesting of a dense value", f"at most {MOST_RANK}")
        shapes = self.listed("]", lambda: self._nested(flat, depth + 1))
        if any(shape != shapes[0] for shape in shapes):
            self.fail(token, "rows of a dense value differ in shape")
        return (len(shapes), *(shapes[0] if shapes else ()))

    def _elements(
        self, head: Token, flat: list[Token], shape: tuple[int, ...] | None, type_: TensorType
    ) -> Array:
        wanted = type_.static_shape(0)
        dtype: Any = ELEMENTS[type_.element].dtype
        if shape is None or not flat:
            if type_.count(0):
                self.fail(head, "elements of a dense value", str(type_.count(0)), "none")
            return np.zeros(wanted, dtype)
        try:
            if flat[0].kind == "string" and shape == ():
                head = flat[0]
                return literals.raw_elements(flat[0].text, type_)
            if shape not in ((), wanted):
                got = "x".join(map(str, shape))
                self.fail(head, "shape of a dense value", f"that of {type_}", got)
            values = np.empty(len(flat), dtype)
            for number, token in enumerate(flat):
                head = token
                values[number] = literals.element_of(token.text, type_.element)
        except ValueError as error:
            got = head.text if len(head.text) <= 40 else head.text[:37] + "..."
            self.fail(head, "element of a dense value", str(error), got)
        return values.reshape(wanted) if shape else np.full(wanted, values[0], dtype)


def _read_only(array: Array) -> Array:
    kept: Array = np.ascontiguousarray(array).reshape(array.shape)
    kept.flags.writeable = False
    return kept
