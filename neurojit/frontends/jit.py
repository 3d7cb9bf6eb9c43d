"""`nj.jit`: a Python function over arrays, compiled for the shapes and dtypes it is called with.

    key        type, shape and dtype of each array; any other argument by its value
    trace      the function runs once on tracers                     trace, ufuncs, functions, indexing
    compile    nj.compile                                            program
    keep       key -> program; the oldest of more than MOST_KEPT go

A call whose arguments are all positional arrays finds its program in C (`_jit`). Everything else (keywords,
defaults, numbers, DLPack) goes the general way once more each time.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from neurojit._jit import Jit
from neurojit.contract import array_of
from neurojit.frontends.functions import FUNCTIONS
from neurojit.frontends.trace import Trace, Tracer
from neurojit.frontends.ufuncs import UFUNCS
from neurojit.ir import Module
from neurojit.program import Program, compile

MOST_KEPT = 256
"""Programs of one function. A function called with ever new shapes keeps the latest."""
Array = np.ndarray[Any, Any]
STATIC = (type(None), bool, int, float, str, bytes, type, np.dtype, np.ufunc)


class Traced(NamedTuple):
    """module: one function. weights: the arrays that it captured. single: it returned an array, no tuple."""

    module: Module
    weights: dict[str, Array]
    single: bool


def trace(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Traced:
    """The function as TensorLang, specialised to these arguments: arrays become parameters in their order,
    others are part of what is traced. TypeError, with the line: what cannot be traced."""
    name = function.__name__ if function.__name__.isidentifier() else "traced"
    tracing = Trace(name, UFUNCS, FUNCTIONS)
    bound = inspect.signature(function).bind(*arguments, **keywords)
    bound.apply_defaults()

    def stand_in(parameter: str, argument: Any) -> Any:
        if not isinstance(argument, (np.ndarray, np.generic)):
            return argument
        return tracing.parameter(parameter, argument.shape, argument.dtype)

    for parameter, argument in bound.arguments.items():
        kind = bound.signature.parameters[parameter].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            made: Any = tuple(stand_in(f"{parameter}{i}", each) for i, each in enumerate(argument))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            made = {key: stand_in(key, each) for key, each in argument.items()}
        else:
            made = stand_in(parameter, argument)
        bound.arguments[parameter] = made
    try:
        returned = function(*bound.args, **bound.kwargs)
        single = not isinstance(returned, tuple)
        outputs = [returned] if single else list(returned)
        if returned is None or not outputs:
            raise TypeError(f"nj.jit: {name} returned {returned!r}: expected an array or a tuple of arrays")
        return Traced(tracing.module(outputs), tracing.weights, single)
    finally:
        tracing.finished = True


class Specialiser:
    """A function and its programs: every call that is not the common case (`_jit`)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"nj.jit: {type(function).__name__}: expected a Python function")
        try:
            self._signature = inspect.signature(function)
        except ValueError as error:  # written in C
            raise TypeError(f"nj.jit: {error}; wrap it in a function of Python") from None
        self.function = function
        self.programs: dict[Any, Program] = {}
        """The program of each specialisation, the oldest first."""
        self._calls: dict[Any, Callable[..., Any]] = {}
        self.remember: Callable[[Program], None] = lambda program: None
        """Told of each program that answers calls of arrays alone."""

    def answer(self, /, *arguments: Any, **keywords: Any) -> Any:
        """The whole meaning of a call."""
        if not keywords:
            try:
                call = self._calls.get(tuple([(type(a), a.shape, a.dtype.num) for a in arguments]))
            except AttributeError:  # not all are arrays
                call = None
            if call is not None:
                if isinstance(call, Program):
                    self.remember(call)
                return call(*arguments)
        if any(isinstance(each, Tracer) for each in (*arguments, *keywords.values())):
            return self.function(*arguments, **keywords)  # inside another traced function: a part of it
        arguments, keywords = self._normal(arguments, keywords)
        key = self._key(arguments, keywords)
        call = self._calls.get(key) or self._compiled(key, arguments, keywords)
        return call(*_arrays(arguments, keywords))

    def program(self, /, *arguments: Any, **keywords: Any) -> Program:
        """See Jit.program."""
        arguments, keywords = self._normal(arguments, keywords)
        key = self._key(arguments, keywords)
        if key not in self.programs:
            self._compiled(key, arguments, keywords)
        return self.programs[key]

    def _normal(self, arguments: Any, keywords: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Every argument an array or static, in the function's own order."""
        bound = self._signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        name = f"nj.jit: {self.function.__name__}"
        args = tuple(_argument(f"{name}: argument {i}", each) for i, each in enumerate(bound.args))
        return args, {key: _argument(f"{name}: {key}", each) for key, each in bound.kwargs.items()}

    def _key(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        key = tuple([_kind(each) for each in arguments])
        return (key, tuple([(name, _kind(each)) for name, each in keywords.items()])) if keywords else key

    def _compiled(self, key: Any, arguments: Any, keywords: Any) -> Callable[..., Any]:
        traced = trace(self.function, *arguments, **keywords)
        program = compile(traced.module, traced.weights)
        call: Callable[..., Any] = program
        if not traced.single and len(traced.module.main.outputs) == 1:
            call = functools.partial(_as_tuple, program)
        while len(self.programs) >= MOST_KEPT:
            oldest = next(iter(self.programs))
            self.programs.pop(oldest, None)
            self._calls.pop(oldest, None)
        self.programs[key], self._calls[key] = program, call
        return call


def _as_tuple(program: Program, *arrays: Any) -> tuple[Any]:
    return (program(*arrays),)


def _arrays(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[Any]:
    return [each for each in (*arguments, *keywords.values()) if isinstance(each, (np.ndarray, np.generic))]


def _argument(what: str, argument: Any) -> Any:
    """An array, whatever it came as, or a value that can be part of a key. TypeError: neither."""
    if isinstance(argument, np.ndarray):
        if type(argument) is not np.ndarray and not isinstance(argument, np.memmap):
            kind = type(argument).__name__
            raise TypeError(f"{what}: {kind}: expected a plain array; convert with numpy.asarray")
        return argument
    if isinstance(argument, np.generic):
        return argument
    if hasattr(argument, "__dlpack__"):
        return array_of(argument, what)
    if not _is_static(argument):
        kind = type(argument).__name__
        raise TypeError(
            f"{what}: {kind}: expected an array, or a number, text, type or function, which are compiled in; "
            "pass arrays one by one, and let the function capture other objects"
        )
    return argument


def _is_static(argument: Any) -> bool:
    if isinstance(argument, tuple):
        return all(map(_is_static, argument))
    return isinstance(argument, STATIC) or inspect.isroutine(argument)


def _kind(argument: Any) -> Any:
    """What two arguments have in common if one program serves both."""
    if isinstance(argument, (np.ndarray, np.generic)):
        return type(argument), argument.shape, argument.dtype.num
    if isinstance(argument, tuple):
        return tuple, tuple(map(_kind, argument))
    if isinstance(argument, float):
        return type(argument), repr(argument)  # tells -0.0 from 0.0, and NaN equals itself
    return type(argument), argument


def jit(function: Callable[..., Any]) -> Jit:
    """Compile a Python function over NumPy arrays: a decorator.

        @nj.jit
        def step(x, h):
            return np.tanh(x @ w + h @ u + b)

    At the first call with arrays of new shapes or dtypes the function runs once on stand-ins, and what it
    asks of NumPy becomes one native function, which that call and later ones like it run. Arrays may be
    float32, float64, int32, int8 or bool; NumPy scalars and whatever has `__dlpack__` count as arrays. Python
    numbers, texts, types and functions are compiled in. Arrays that the function captures are read when it is
    traced, so changing them later changes nothing. Results are arrays (of rank 0 where NumPy gives scalars)
    with NumPy's dtypes, except that argmax gives int32.

    Raises TypeError, with the line in the function, for what cannot be compiled: `if` on an array, assignment
    into one, NumPy functions it does not know, dtypes it has not; ValueError and IndexError as NumPy.
    `.program(*arguments)` is the `nj.Program`, `.programs` are all of them."""
    specialiser = Specialiser(function)
    made = Jit(specialiser)
    known = weakref.ref(made)  # the two die together

    def remember(program: Program) -> None:
        if (jitted := known()) is not None:
            jitted.remember(program)

    specialiser.remember = remember
    return made
