"""The verifier: what passes and builders could get wrong, each made wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurojit.errors import TensorLangError
from neurojit.ir import Block, Builder, Function, Module, Op, TensorType, Value, check_module, verify

F32 = TensorType((3,))


def tanh(operand: Value, name: str, type_: TensorType = F32) -> Op:
    return Op("tanh", (operand,), {}, (Value(name, type_),))


X = Value("x", F32)
A = tanh(X, "a")
B = tanh(A.result, "b")


def made(*ops: Op, parameters: tuple[Value, ...] = (X,), end: str = "return", name: str = "main") -> Module:
    handed = ops[-1].results if ops else parameters
    return Module("m", (Function(name, Block(parameters, (*ops, Op(end, handed)))),))


def scan(*ops: Op, end: str = "yield") -> Op:
    inner = Value("inner", F32)
    block = Block((inner,), (*ops, Op(end, (inner,))))
    return Op("scan", (X,), {"carried": 1, "length": 2, "reverse": False}, (Value("s", F32),), (block,))


def state(kind: str, name: str = "h", initial: float = 0.0, type_: TensorType = F32, value: str = "v") -> Op:
    if kind == "state_write":
        return Op(kind, (X,), {"name": name})
    attributes = {"name": name, "initial": initial} if kind == "state_read" else {"name": name}
    return Op(kind, (), attributes, (Value(value, type_),))


def nested(depth: int) -> Op:
    op = scan()
    for level in range(1, depth):
        inner = Value(f"inner{level}", F32)
        block = Block((inner,), (op, Op("yield", (inner,))))
        op = Op("scan", (X,), op.attributes, (Value(f"s{level}", F32),), (block,))
    return op


WRONG: list[tuple[Module, str]] = [
    (made(B, A), "tanh: %a is used before it is defined"),
    (made(A, A), "%a is defined twice"),
    (made(A, tanh(X, "a")), "two values are called %a: expected names unique in a function"),
    (made(tanh(X, "x")), "two values are called %x"),
    (made(tanh(X, "3x")), "name of a value: expected letters, digits, _ . $, got '3x'"),
    (made(A, name="a b"), "name of a function: expected letters, digits, _ . $, got 'a b'"),
    (made(A, end="yield"), "the end of a block: expected return"),
    (made(Op("return", (X,)), A), "return before the end of its block"),
    (
        made(tanh(X, "a", TensorType((4,)))),
        "tanh: type of the result: expected tensor<3xf32>, got tensor<4xf32>",
    ),
    (made(replace(A, name="tank")), "tank: no such op: got 'tank'; did you mean 'tan"),
    (made(replace(A, attributes={"alpha": 1.0})), "tanh: no attribute 'alpha'"),
    (
        made(Op("sum", (X,), {"axes": (0,)}, (Value("y", TensorType(())),))),
        "expected complete, in kind and with",
    ),
    (made(replace(A, operands=(X, X))), "tanh: operands of tanh: expected 1, got 2"),
    (made(scan(A), B), "tanh: %a is not visible here"),
    (made(scan(end="return")), "the end of a block: expected yield"),
    (
        made(scan(state("state_read"))),
        "state_read in a scan; read it before the scan, carry it, and write it after",
    ),
    (
        made(state("state_write"), state("state_write"), A),
        "state 'h' is written twice: expected one state_write",
    ),
    (
        made(state("state_read", type_=TensorType((4,))), state("state_write"), A),
        "type of state 'h': expected tensor<4xf32>, as before, got tensor<3xf32>",
    ),
    (
        made(state("state_read"), state("state_read", initial=1.0, value="w")),
        "initial value of 'h': expected 0.0",
    ),
    (
        made(state("weight"), state("weight", type_=TensorType((4,)), value="w")),
        "type of weight 'h': expected tensor<3xf32>, as before, got tensor<4xf32>",
    ),
    (
        made(Op("broadcast", (X,), {"shape": (-1, 3)}, (Value("y", TensorType((None, 3))),))),
        "a dynamic extent that no parameter of the function has",
    ),
    (Module("m n", made(A).functions), "name of a module: expected letters, digits, _ . $, got 'm n'"),
    (made(tanh(X, "a" * 256)), "name of a value: expected letters, digits, _ . $, got 'aaa"),
    (made(nested(17)), "nesting of regions: expected at most 16"),
    (Module("m", ()), "module @m: expected at least one function"),
    (Module("m", made(A).functions * 2), "two functions are called @main"),
]


@pytest.mark.parametrize(("module", "message"), WRONG)
def test_wrong(module: Module, message: str) -> None:
    assert message in "\n".join(map(str, check_module(module)))
    with pytest.raises(TensorLangError):
        verify(module)


def test_right() -> None:
    for module in (
        made(A, B),
        made(scan(A)),
        made(nested(16)),
        made(state("state_read"), state("state_write"), A),
        made(state("weight"), state("weight", value="w"), A),
    ):
        verify(module)


def test_findings_have_the_place_where_the_op_was_made() -> None:
    b = Builder()
    op = b.build(b.tanh(b.parameter("x", F32))).block.ops[0]
    (found,) = check_module(made(replace(op, operands=(X,), results=(Value("y", TensorType((4,))),))))
    assert found.span is not None
    assert found.span.source == __file__


def test_module_access() -> None:
    module = made(A)
    assert module.function("main") is module.main
    with pytest.raises(KeyError, match="function 'f': expected one of main"):
        module.function("f")
    other = made(A, B).main
    assert module.with_function(other).main is other
