"""The op table: an op is one row, and everything that depends on the op reads its row.

A row states what the op takes, the rule for the types of its results (ir/rules.py), its meaning in NumPy,
how it lowers and its gradient. `infer` applies the rule after the checks that are the same for every op.

    operands    names; "x" takes the element types in `elements` and all of them must agree; "condition:i1"
                takes that element type; a last "*xs" takes one or more, "*xs?" none or more
    meaning     a function of the operands' arrays and the attributes by name, None where the interpreter
                itself knows (sources, state, scan, ends). An attribute `shape` comes without -1
    wide        the arguments are widened to the next higher precision, and the result is rounded once;
                otherwise each step of the meaning is rounded to the element type as in NumPy
    lowering    the kind of code it becomes; see LOWERINGS
    gradient    not yet
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, cast

import numpy as np

from neurojit.ir import meaning, random, rules
from neurojit.ir.functions import MEANING
from neurojit.ir.rules import MisfitError, Signature, Types
from neurojit.ir.structure import Attribute, Block, Dense
from neurojit.ir.types import ANY, FLOATS, NUMBERS, TensorType

LOWERINGS = {
    "source": "names data that is there before the call",
    "gemm": "a matrix product",
    "map": "an expression of one element at a time, fused with its neighbours",
    "reduce": "runs over one axis or more, with expressions before and after",
    "view": "the same bytes in another shape: no code",
    "move": "copies elements elsewhere",
    "random": "threefry on counters",
    "scan": "a loop",
    "state": "a buffer that persists",
    "assert": "a branch to the end",
    "end": "hands values out",
}
REQUIRED: Final = "required"


@dataclass(frozen=True)
class Attr:
    """An attribute of an op. kind: its type. default: what it is where the text leaves it out."""

    name: str
    kind: Literal["bool", "int", "float", "string", "ints", "dense"]
    default: Attribute = REQUIRED
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """See the module's head."""

    name: str
    operands: tuple[str, ...]
    attributes: tuple[Attr, ...]
    elements: tuple[str, ...]
    rule: Callable[[Signature], Types]
    meaning: Callable[..., Any] | None
    lowering: str
    wide: bool = False
    regions: int = 0
    gradient: None = None

    def element_of(self, operand: int) -> str:
        """The element type that operand number `operand` must have, "" where it follows the others."""
        own = self.own_elements
        return own[operand] if operand < len(own) else own[-1]

    @cached_property
    def own_elements(self) -> tuple[str, ...]:
        """What `element_of` says of each operand named in the row."""
        return tuple(name.partition(":")[2] for name in self.operands or ("",))

    @cached_property
    def is_pure(self) -> bool:
        """Whether the op does nothing but define its results."""
        return self.lowering not in ("assert", "end") and self.name != "state_write"


def _function(name: str, *parameters: str, wide: bool = False) -> Row:
    """A row whose meaning stands in ir/functions.py, with its float parameters."""
    attributes = tuple(Attr(parameter, "float") for parameter in parameters)
    return Row(name, ("x",), attributes, FLOATS, rules.elementwise, MEANING[name], "map", wide)


def _arithmetic(name: str, function: Callable[..., Any], elements: tuple[str, ...] = NUMBERS) -> Row:
    return Row(name, ("x", "y"), (), elements, rules.elementwise, function, "map")


def _reduction(name: str, elements: tuple[str, ...], function: Callable[..., Any], wide: bool = False) -> Row:
    return Row(name, ("x",), (AXES, KEEPDIMS), elements, rules.reduce, function, "reduce", wide)


AXIS, AXES, KEEPDIMS = Attr("axis", "int"), Attr("axes", "ints"), Attr("keepdims", "bool", False)
NAME, SHAPE, EPSILON = Attr("name", "string"), Attr("shape", "ints"), Attr("epsilon", "float", 1e-5)
DTYPE, PERMUTATION = Attr("dtype", "string"), Attr("permutation", "ints")
COUNTED, RANDOM = ("key:i32", "counter:i32"), (SHAPE, Attr("dtype", "string", "f32"))
SUMMED, AFFINE = (*FLOATS, "i32"), ("x", "weight", "bias")
TRANSPOSED = (Attr("transpose_a", "bool", False), Attr("transpose_b", "bool", False))
PREDICATE = Attr("predicate", "string", REQUIRED, tuple(meaning.PREDICATES))
RANGE = (AXIS, Attr("start", "int", 0), Attr("end", "int"), Attr("step", "int", 1))
WIDTHS = (Attr("low", "ints"), Attr("high", "ints"), Attr("value", "float", 0.0))
LOOP = (Attr("carried", "int"), Attr("length", "int", -1), Attr("reverse", "bool", False))

# fmt: off
_ROWS = (
    Row("constant", (), (Attr("value", "dense"),), ANY, rules.constant, None, "source"),
    Row("weight", (), (NAME,), ANY, rules.stated, None, "source"),
    Row("state_read", (), (NAME, Attr("initial", "float", 0.0)), ANY, rules.stated, None, "state"),
    Row("state_write", ("x",), (NAME,), ANY, rules.state_write, None, "state"),
    Row("random_uniform", COUNTED, RANDOM, ANY, rules.random, random.uniform, "random"),
    Row("random_normal", COUNTED, RANDOM, ANY, rules.random, random.normal, "random"),

    Row("matmul", ("a", "b"), TRANSPOSED, NUMBERS, rules.matmul, meaning.matmul, "gemm", wide=True),
    Row("outer", ("x", "y"), (), FLOATS, rules.outer, meaning.outer, "gemm"),

    _arithmetic("add", np.add),
    _arithmetic("sub", np.subtract),
    _arithmetic("mul", np.multiply),
    _arithmetic("div", np.divide, FLOATS),
    _arithmetic("maximum", np.maximum),
    _arithmetic("minimum", np.minimum),
    _arithmetic("and", np.logical_and, ("i1",)),
    _arithmetic("or", np.logical_or, ("i1",)),
    Row("not", ("x",), (), ("i1",), rules.elementwise, np.logical_not, "map"),
    Row("neg", ("x",), (), NUMBERS, rules.elementwise, np.negative, "map"),
    Row("abs", ("x",), (), NUMBERS, rules.elementwise, np.abs, "map"),
    Row("compare", ("x", "y"), (PREDICATE,), ANY, rules.to_i1, meaning.compare, "map"),
    Row("select", ("condition:i1", "x", "y"), (), ANY, rules.elementwise, np.where, "map"),
    Row("convert", ("x",), (DTYPE,), ANY, rules.convert, lambda x, dtype: x, "map"),
    Row("sqrt", ("x",), (), FLOATS, rules.elementwise, np.sqrt, "map"),
    Row("rsqrt", ("x",), (), FLOATS, rules.elementwise, lambda x: 1 / np.sqrt(x), "map", wide=True),
    _function("exp", wide=True), _function("log", wide=True), _function("tanh", wide=True),
    _function("sigmoid", wide=True), _function("erf", wide=True), _function("silu", wide=True),
    _function("gelu", wide=True), _function("gelu_tanh", wide=True), _function("elu", "alpha", wide=True),
    _function("relu"), _function("leaky_relu", "alpha"), _function("clamp", "low", "high"),

    _reduction("sum", SUMMED, meaning.sum_, wide=True),
    _reduction("mean", FLOATS, meaning.mean, wide=True),
    _reduction("max", NUMBERS, meaning.max_),
    _reduction("min", NUMBERS, meaning.min_),
    Row("argmax", ("x",), (AXIS, KEEPDIMS), NUMBERS, rules.argmax, meaning.argmax, "reduce"),
    Row("logsumexp", ("x",), (AXIS, KEEPDIMS), FLOATS, rules.reduce_axis, meaning.logsumexp, "reduce", True),
    Row("softmax", ("x",), (AXIS,), FLOATS, rules.along_axis, meaning.softmax, "reduce", wide=True),
    Row("cumsum", ("x",), (AXIS,), SUMMED, rules.along_axis, meaning.cumsum, "reduce", wide=True),
    Row("layer_norm", AFFINE, (EPSILON,), FLOATS, rules.norm, meaning.layer_norm, "reduce", wide=True),
    Row("rms_norm", ("x", "weight"), (EPSILON,), FLOATS, rules.norm, meaning.rms_norm, "reduce", wide=True),

    Row("reshape", ("x",), (SHAPE,), ANY, rules.reshape, np.reshape, "view"),
    Row("transpose", ("x",), (PERMUTATION,), ANY, rules.transpose, meaning.transpose, "move"),
    Row("broadcast", ("x",), (SHAPE,), ANY, rules.broadcast, np.broadcast_to, "move"),
    Row("slice", ("x",), RANGE, ANY, rules.slice_, meaning.slice_, "move"),
    Row("concat", ("*xs",), (AXIS,), ANY, rules.concat, meaning.concat, "move"),
    Row("pad", ("x",), WIDTHS, NUMBERS, rules.pad, meaning.pad, "move"),
    Row("gather", ("x", "indices:i32"), (AXIS,), ANY, rules.gather, meaning.gather, "move"),

    Row("scan", ("*xs?",), LOOP, ANY, rules.scan, None, "scan", regions=1),
    Row("assert", ("condition:i1",), (Attr("text", "string"),), ANY, rules.nothing, None, "assert"),
    Row("yield", ("*xs?",), (), ANY, rules.nothing, None, "end"),
    Row("return", ("*xs?",), (), ANY, rules.nothing, None, "end"),
)
# fmt: on

OPS = {row.name: row for row in _ROWS}
MIXED = frozenset({"scan", "yield", "return"})
"""Ops whose operands need not share an element type."""


def row_named(name: str) -> Row:
    """MisfitError: no op of that name; the hint has the nearest."""
    row = OPS.get(name)
    if row is None:
        raise MisfitError("no such op", got=repr(name), hint=did_you_mean(name, OPS))
    return row


MOST_COMPARED = 500


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint with the nearest of the known names, or none. prefix: what the hint puts before it."""
    import difflib  # only where something is misspelt

    near = difflib.get_close_matches(name[:64], list(known)[:MOST_COMPARED], 1)
    return f"did you mean {prefix + near[0]!r}?" if near else ""


def complete(row: Row, given: Mapping[str, Any]) -> dict[str, Attribute]:
    """The attributes of an op in the row's order, defaults filled in. MisfitError: not those of the row."""
    return complete_attributes(row.attributes, given)


def complete_attributes(known: tuple[Attr, ...], given: Mapping[str, Any]) -> dict[str, Attribute]:
    """The attributes in the order of `known`, each of its kind, defaults filled in. MisfitError otherwise."""
    if not known and not given:
        return {}
    names = [attribute.name for attribute in known]
    for name in given:
        if name not in names:
            expected, hint = ", ".join(names) or "none", did_you_mean(name, names)
            raise MisfitError(f"no attribute {name[:64]!r}", expected, hint=hint, at=name)
    attributes: dict[str, Attribute] = {}
    for attribute in known:
        value = given.get(attribute.name, attribute.default)
        if value is REQUIRED:
            message = f"the attribute {attribute.name!r} is missing"
            raise MisfitError(message, f"one of kind {attribute.kind}")
        attributes[attribute.name] = _of_kind(attribute, value)
    return attributes


def _of_kind(attribute: Attr, value: Any) -> Attribute:
    kind = attribute.kind
    if kind == "ints" and isinstance(value, (tuple, list)) and all(_is_int(item) for item in value):
        return tuple(int(item) for item in value)
    if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind == "int" and _is_int(value):
        return int(value)
    fits = {"bool": bool, "string": str, "dense": Dense}.get(kind)
    if fits is not None and isinstance(value, fits):
        if attribute.choices and value not in attribute.choices:
            expected = f"one of {', '.join(attribute.choices)}"
            raise MisfitError(f"attribute {attribute.name}", expected, repr(value), at=attribute.name)
        return cast(Attribute, value)
    raise MisfitError(f"attribute {attribute.name}", f"one of kind {kind}", _spell(value), at=attribute.name)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(int(value)) < 1 << 63


def _spell(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def infer(
    row: Row,
    operands: Types,
    attributes: Mapping[str, Attribute],
    regions: tuple[Block, ...] = (),
    declared: tuple[TensorType, ...] | None = None,
) -> Types:
    """The types of the results. attributes: as `complete` gives them. MisfitError: it does not fit."""
    _check_count(row, len(operands))
    if len(regions) != row.regions:
        raise MisfitError(f"regions of {row.name}", str(row.regions), str(len(regions)))
    if row.name not in MIXED:
        _check_elements(row, operands)
    return row.rule(Signature(operands, attributes, regions, declared))


def _check_count(row: Row, count: int) -> None:
    last = row.operands[-1] if row.operands else ""
    fixed = len(row.operands) - last.startswith("*")
    least = fixed + (last.startswith("*") and not last.endswith("?"))
    if count < least or (count > fixed and not last.startswith("*")):
        expected = f"{least} or more" if last.startswith("*") else f"{fixed}"
        raise MisfitError(f"operands of {row.name}", expected, str(count))


def _check_elements(row: Row, operands: Types) -> None:
    common: str | None = None
    for number, operand in enumerate(operands):
        own = row.element_of(number)
        allowed = (own,) if own else row.elements if common is None else (common,)
        if operand.element not in allowed:
            hint = "convert it" if own or common is not None else ""
            raise MisfitError(
                f"element type of operand {number + 1}",
                " or ".join(allowed),
                operand.element,
                hint,
                at=number,
            )
        if not own:
            common = operand.element
