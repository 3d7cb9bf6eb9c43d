"""Tracing: a Python function over arrays runs once on tracers, and what it asks of NumPy becomes TensorLang.

A `Tracer` stands for an array of which only shape and dtype are known. Operators, NumPy's ufuncs
(`__array_ufunc__`) and its functions (`__array_function__`) on tracers append ops to the `Trace`. What an
operation's dtype is, NumPy itself says: it is run on empty arrays of the operands' dtypes, so promotion is
that of the installed NumPy, Python's numbers being weak where NumPy has them so.

Whatever would need the numbers themselves (`if`, `int`, an index), or would change an array in place, is a
TypeError that names the line of the traced function. Arrays that the function captures are read when it is
traced: up to 16 elements as constants, else as weights of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from neurojit.ir import Builder, Module, TensorType, Value
from neurojit.ir.builder import calling_line

Array = np.ndarray[Any, Any]
Table = Mapping[Any, Callable[..., Any]]
"""What a function or ufunc of NumPy is on tracers: called with the trace, itself, and the arguments."""

ELEMENT_OF: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.int32): "i32",
    np.dtype(np.int8): "i8",
    np.dtype(np.bool_): "i1",
}
MOST_IN_TEXT = 16
"""Elements of a captured array that stands in the text as a constant; larger ones are weights."""
SUPPORTED = ", ".join(dtype.name for dtype in ELEMENT_OF)


def located(message: str) -> TypeError:
    """A TypeError that begins with the line of the traced function."""
    line = calling_line()
    return TypeError(f"{line}: {message}" if line else message)


def element_of(dtype: Any, what: str) -> str:
    """The element type of a dtype. TypeError: TensorLang has none like it."""
    native = np.dtype(dtype).newbyteorder("=")
    if native not in ELEMENT_OF:
        raise located(f"{what}: {native.name}: expected one of {SUPPORTED}; convert with astype")
    return ELEMENT_OF[native]


class Trace:
    """One function in the making. ufuncs, functions: what NumPy's names become."""

    def __init__(self, name: str, ufuncs: Table, functions: Table) -> None:
        self.builder = Builder(name)
        self.ufuncs, self.functions = ufuncs, functions
        self.weights: dict[str, Array] = {}
        self.finished = False
        self._captured: dict[tuple[int, str], tuple[Array, Value]] = {}

    def parameter(self, name: str, shape: tuple[int, ...], dtype: Any) -> Tracer:
        """The next input."""
        return Tracer(self, self.builder.parameter(name, TensorType(shape, element_of(dtype, name))))

    def module(self, outputs: list[Any]) -> Module:
        """What was traced, as a function that returns these. The trace is finished then."""
        values = []
        for number, output in enumerate(outputs):
            like = _probe(output, f"output {number}")
            values.append(self.value(output, np.asarray(like).dtype))
        self.finished = True
        name = self.builder.name
        return Module(name, (self.builder.build(*values),))

    def op(self, name: str, *operands: Value, **attributes: Any) -> Tracer:
        self._check_open()
        return Tracer(self, self.builder.op(name, *operands, **attributes))

    def _check_open(self) -> None:
        if self.finished:
            raise located("a tracer outlived its call: return it from the traced function instead")

    def _own(self, tracer: Tracer) -> Tracer:
        self._check_open()
        if tracer._trace is not self:
            raise located("a tracer of another traced function: pass it as an argument instead")
        return tracer

    def value(self, operand: Any, dtype: Any) -> Value:
        """An operand as a value of this dtype: converted, and captured if it is no tracer."""
        element = element_of(dtype, "operand")
        if isinstance(operand, Tracer):
            value = self._own(operand)._value
            return value if value.type.element == element else self.builder.convert(value, dtype=element)
        array = np.asarray(operand)
        if array.size <= MOST_IN_TEXT:
            return self.builder.constant(np.asarray(operand, np.dtype(dtype).newbyteorder("=")), element)
        known = self._captured.get((id(operand), element))
        if known is None:
            name = f"captured{len(self.weights)}"
            self.weights[name] = array.astype(np.dtype(dtype).newbyteorder("="))
            made = self.builder.weight(name=name, type=TensorType(array.shape, element))
            known = self._captured[id(operand), element] = operand, made  # kept alive: ids are not reused
        return known[1]

    def tracer(self, operand: Any) -> Tracer:
        """An operand as a tracer of its own dtype."""
        if isinstance(operand, Tracer):
            return self._own(operand)
        return Tracer(self, self.value(operand, np.asarray(operand).dtype))

    def promoted(self, function: Callable[..., Any], *operands: Any) -> np.dtype[Any]:
        """The dtype of what NumPy's function gives for these operands. TypeError: it takes none such."""
        name = function.__name__
        try:
            with np.errstate(all="ignore"):
                dtype: np.dtype[Any] = function(*(_probe(operand, name) for operand in operands)).dtype
        except TypeError as error:
            raise located(f"{name}: {error}") from None
        element_of(dtype, name)
        return dtype


def _probe(operand: Any, what: str) -> Any:
    """What has the operand's dtype, and is as weak, but holds next to nothing."""
    if isinstance(operand, (bool, int, float, np.generic)):
        return operand
    if isinstance(operand, Tracer):
        return np.zeros((0,) if operand.shape else (), operand.dtype)
    array = np.asarray(operand)
    if array.dtype.newbyteorder("=") not in ELEMENT_OF and array.dtype.kind not in "iu":
        kind = type(operand).__name__
        raise located(f"{what}: {kind} of {array.dtype}: expected an array or number of {SUPPORTED}")
    return np.zeros((0,) if array.ndim else (), array.dtype)


class Tracer:
    """An array of a traced function: shape and dtype are known, the numbers are not."""

    __slots__ = ("_trace", "_value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: Trace, value: Value) -> None:
        self._trace, self._value = trace, value

    def __repr__(self) -> str:
        return f"<traced array {self._value}: {self.dtype}{list(self.shape)}>"

    # What is known ------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.type.static_shape(0)

    @property
    def dtype(self) -> np.dtype[Any]:
        return next(dtype for dtype, name in ELEMENT_OF.items() if name == self._value.type.element)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self._value.type.count(0)

    def __len__(self) -> int:
        if not self.shape:
            raise located("len() of a traced array without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    # NumPy's protocols --------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **keywords: Any) -> Any:
        name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        if keywords.get("out") is not None:
            raise located(f"{name}: out: a traced function changes no array; use what {name} returns")
        build = self._trace.ufuncs.get(ufunc) if method == "__call__" else None
        if build is None:
            raise located(f"{name}: not known to nj.jit; it knows {_names(self._trace.ufuncs)}")
        if keywords:
            raise located(f"{name}: keyword {', '.join(keywords)}: expected none in a traced function")
        return build(self._trace, ufunc, *operands)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        name = f"numpy.{function.__name__}"
        build = self._trace.functions.get(function)
        if build is None:
            raise located(f"{name}: not known to nj.jit; it knows {_names(self._trace.functions)}")
        if keywords.get("out") is not None:
            raise located(f"{name}: out: a traced function changes no array; use what {name} returns")
        try:
            return build(self._trace, *arguments, **keywords)
        except TypeError as error:
            if str(error).startswith(f"{build.__name__}()"):  # the arguments are not those it takes
                raise located(f"{name}: {error}; in a traced function it takes no more") from None
            raise

    def _call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        return self.__array_function__(function, (), (self, *arguments), keywords)

    # What needs the numbers ---------------------------------------------------------------------------

    def _unknown(self, what: str, next_: str) -> NoReturn:
        raise located(f"{what} of {self!r}: its numbers are not known while it is traced; {next_}")

    def __bool__(self) -> bool:
        self._unknown("truth value", "choose with numpy.where(condition, x, y)")

    def __int__(self) -> int:
        self._unknown("int()", "keep it an array, with astype(np.int32)")

    def __float__(self) -> float:
        self._unknown("float()", "keep it an array")

    def __complex__(self) -> complex:
        self._unknown("complex()", "keep it an array")

    def __index__(self) -> int:
        self._unknown("index", "pick with numpy.take(x, indices, axis, mode='clip')")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        self._unknown(
            "an array",
            "use NumPy's functions on it; to pick from an array by it, pass that array "
            "as an argument too: "
            "numpy.take(array, indices, axis, mode='clip')",
        )

    def __contains__(self, item: Any) -> bool:
        self._unknown("`in`", "compare and use numpy.any")

    # What would change an array -----------------------------------------------------------------------

    def _in_place(self, *_: Any) -> NoReturn:
        raise located(
            "in-place assignment: a traced function changes no array; write x = x + y, or build the array "
            "with numpy.where or numpy.concatenate"
        )

    __setitem__ = __delitem__ = _in_place
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __imatmul__ = __ipow__ = _in_place
    __iand__ = __ior__ = __ixor__ = __ifloordiv__ = __imod__ = _in_place

    # Operators ----------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return np.add(self, other)

    def __radd__(self, other: Any) -> Any:
        return np.add(other, self)

    def __sub__(self, other: Any) -> Any:
        return np.subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        return np.subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        return np.multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        return np.multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        return np.true_divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return np.true_divide(other, self)

    def __matmul__(self, other: Any) -> Any:
        return np.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return np.matmul(other, self)

    def __pow__(self, other: Any) -> Any:
        return np.power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return np.power(other, self)

    def __and__(self, other: Any) -> Any:
        return np.bitwise_and(self, other)

    def __rand__(self, other: Any) -> Any:
        return np.bitwise_and(other, self)

    def __or__(self, other: Any) -> Any:
        return np.bitwise_or(self, other)

    def __ror__(self, other: Any) -> Any:
        return np.bitwise_or(other, self)

    def __neg__(self) -> Any:
        return np.negative(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return np.absolute(self)

    def __invert__(self) -> Any:
        return np.invert(self)

    def __lt__(self, other: Any) -> Any:
        return np.less(self, other)

    def __le__(self, other: Any) -> Any:
        return np.less_equal(self, other)

    def __gt__(self, other: Any) -> Any:
        return np.greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return np.greater_equal(self, other)

    def __eq__(self, other: Any) -> Any:
        return np.equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return np.not_equal(self, other)

    def __getitem__(self, index: Any) -> Any:
        return self._trace.functions["getitem"](self._trace, self, index)

    # Methods ------------------------------------------------------------------------------------------

    @property
    def T(self) -> Any:  # noqa: N802  NumPy's name
        return self._call(np.transpose)

    def transpose(self, *axes: Any) -> Any:
        return self._call(np.transpose, axes[0] if len(axes) == 1 else axes or None)

    def reshape(self, *shape: Any) -> Any:
        return self._call(np.reshape, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Any:
        return self._call(np.reshape, -1)

    flatten = ravel

    def astype(self, dtype: Any) -> Any:
        return Tracer(self._trace, self._trace.value(self, dtype))

    def copy(self) -> Any:
        return self

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        return self._call(np.sum, axis, dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._call(np.mean, axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._call(np.max, axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._call(np.min, axis, keepdims=keepdims)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._call(np.argmax, axis, keepdims=keepdims)

    def cumsum(self, axis: Any = None, dtype: Any = None) -> Any:
        return self._call(np.cumsum, axis, dtype)

    def clip(self, min: Any = None, max: Any = None) -> Any:
        return self._call(np.clip, min, max)

    def dot(self, other: Any) -> Any:
        return self._call(np.dot, other)

    def squeeze(self, axis: Any = None) -> Any:
        return self._call(np.squeeze, axis)

    def take(self, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
        return self._call(np.take, indices, axis, mode=mode)


def shaped(x: Tracer, shape: tuple[int, ...]) -> Tracer:
    return x if x.shape == shape else x._trace.op("reshape", x._value, shape=shape)


def _names(table: Table) -> str:
    return ", ".join(sorted({known.__name__ for known in table if not isinstance(known, str)}))
