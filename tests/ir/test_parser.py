"""Errors of a text: each with line, column and words, all in one go; recovery; limits, linear time."""

from __future__ import annotations

import gc
import time

import pytest

from neurojit.errors import Diagnostic, TensorLangError
from neurojit.ir.lexer import MOST_CHARACTERS, Tokens
from neurojit.ir.parser import MOST_DIAGNOSTICS, parse, parse_with_diagnostics
from neurojit.ir.structure import MOST_NESTING
from neurojit.ir.verifier import verify

GOOD = """\
module @policy attributes {nj.version = 1} {
  func.func @main(%x: tensor<?x4xf32>, %i: tensor<?xi32>) -> (tensor<?x2xf32>, tensor<2xf32>) {
    %w = "nj.weight"() {name = "w"} : () -> tensor<4x2xf32>
    %b = "nj.constant"() {value = dense<[0.5, -1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
    %y = "nj.matmul"(%x, %w) : (tensor<?x4xf32>, tensor<4x2xf32>) -> tensor<?x2xf32>
    %z = "nj.add"(%y, %b) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
    %h, %hs = "nj.scan"(%b, %x) ({
    ^bb0(%c: tensor<2xf32>, %row: tensor<4xf32>):
      %c1 = "nj.tanh"(%c) : (tensor<2xf32>) -> tensor<2xf32>
      "nj.yield"(%c1, %row) : (tensor<2xf32>, tensor<4xf32>) -> ()
    }) {carried = 1} : (tensor<2xf32>, tensor<?x4xf32>) -> (tensor<2xf32>, tensor<?x4xf32>)
    func.return %z, %h : tensor<?x2xf32>, tensor<2xf32>
  }
  "nj.schedule"() ({
    "nj.unroll"() {op = "y", steps = 4} : () -> ()
  }) {function = "main"} : () -> ()
}
"""


def diagnostics(text: str) -> list[str]:
    module, found = parse_with_diagnostics(text, "p.tl")
    assert (module is None) == bool(found)
    return [str(d) for d in found]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, (old, GOOD.count(old))
    return GOOD.replace(old, new)


def test_the_text_is_its_own_print() -> None:
    module = parse(GOOD)
    assert module.text == GOOD
    assert [op.name for op in module.main.block.body] == ["weight", "constant", "matmul", "add", "scan"]
    assert str(module.main.block.ops[2].span) == "<text>:5:10"
    assert module.schedule("main").steps[0].parameters == {"steps": 4, "part": 0}


CASES = [
    (
        "module @policy",
        "modul @policy",
        "1:1: syntax: expected 'module', got 'modul'; a text is module @name",
    ),
    ("@policy ", "", "1:8: syntax: expected the module's name, such as @policy, got 'attributes'"),
    (
        "nj.version = 1",
        "nj.version = 2",
        "1:41: nj.version: expected 1, got 2; another neurojit wrote this text",
    ),
    ("func.func @main", "func @main", "2:3: syntax: expected func.func or \"nj.schedule\", got 'func'"),
    ("%x: tensor<?x4xf32>,", "%x tensor<?x4xf32>,", "2:22: syntax: expected ':', got 'tensor<?x4xf32>'"),
    ("%i: tensor<?xi32>", "%x: tensor<?xi32>", "2:40: %x is defined twice; the first stands at 2:19"),
    ("%i: tensor<?xi32>", "%i: tensor<4x?xi32>", "2:44: tensor<4x?xi32>: a dynamic extent must lead"),
    ("%i: tensor<?xi32>", "%i: tensor<?xi33>", "2:44: element type 'i33': expected one of f32, f64, bf16"),
    (
        "%i: tensor<?xi32>",
        "%i: tensor<?x i32>",
        "2:44: type 'tensor<?x': expected the form tensor<64x32xf32>",
    ),
    (
        "%i: tensor<?xi32>",
        "%i: i32",
        "2:44: syntax: expected a type such as tensor<64x32xf32>, got 'i32'; a scalar is tensor<i32>",
    ),
    (
        "(tensor<?x2xf32>, tensor<2xf32>) {\n    %w",
        "tensor<?x2xf32> {\n    %w",
        "2:62: results of @main: expected tensor<?x2xf32>, tensor<2xf32>, got tensor<?x2xf32>",
    ),
    (
        '"nj.weight"()',
        '"nj.weigt"()',
        '3:10: name of an op: expected an op of the table, such as "nj.add", '
        "got 'nj.weigt'; did you mean 'nj.weight'?",
    ),
    (
        '"nj.tanh"',
        '"tanh"',
        "9:13: name of an op: expected an op of the table, such as \"nj.add\", got 'tanh'; "
        "did you mean 'nj.tanh'?",
    ),
    ('{name = "w"}', '{nam = "w"}', "3:31: weight: no attribute 'nam': expected name; did you mean 'name'?"),
    ('{name = "w"}', "{name = 4}", "3:32: weight: attribute name: expected one of kind string, got 4"),
    ('{name = "w"}', '{name = "w", name = "v"}', "3:37: attribute 'name' is given twice"),
    ('{name = "w"}', "", "3:10: weight: the attribute 'name' is missing: expected one of kind string"),
    (
        '{name = "w"}',
        "{name = w}",
        "3:32: syntax: expected a number, a string, true, false, [integers] or dense",
    ),
    ('{name = "w"}', '{name = "w\\q"}', "3:32: string: expected UTF-8 and escapes"),
    ('{name = "w"}', '{name = "w\\FF"}', "3:32: string: expected UTF-8 and escapes"),
    (
        '{name = "w"}',
        '{name = "w}',
        '3:32: string: expected a closing " on the same line, got the end of the line',
    ),
    (
        "() -> tensor<4x2xf32>",
        "() -> tensor<4x3xf32>",
        "5:50: type of %w: expected tensor<4x3xf32>, as defined, got tensor<4x2xf32>",
    ),
    (
        "dense<[0.5, -1.0]>",
        "dense<[0.5, -1.0, 2.0]>",
        "4:35: shape of a dense value: expected that of tensor<2xf32>, got 3",
    ),
    (
        "dense<[0.5, -1.0]>",
        "dense<[0.5, 1]>",
        "4:47: element of a dense value: expected a number of type f32, with a point, got 1",
    ),
    (
        "dense<[0.5, -1.0]>",
        "dense<[0.5, 1.0e60]>",
        "4:47: element of a dense value: expected a number in the range",
    ),
    (
        "dense<[0.5, -1.0]>",
        "dense<[0.5, 0x7FC0]>",
        "4:47: element of a dense value: expected 8 hexadecimal digits",
    ),
    ("dense<[0.5, -1.0]>", "dense<[0.5, [1.0]]>", "4:41: rows of a dense value differ in shape"),
    (
        "dense<[0.5, -1.0]>",
        "dense<[[[[[[[[[[1.0]]]]]]]]]]>",
        "4:49: nesting of a dense value: expected at most 8",
    ),
    ("dense<[0.5, -1.0]>", "dense<>", "4:35: elements of a dense value: expected 2, got none"),
    ("dense<[0.5, -1.0]>", "dense<[0.5, %x]>", "4:47: syntax: expected an element or [elements], got '%x'"),
    (
        "dense<[0.5, -1.0]>",
        'dense<"0x00">',
        "4:41: element of a dense value: expected 0x and 16 hexadecimal digits",
    ),
    (
        "dense<[0.5, -1.0]> : tensor<2xf32>",
        "dense<1.0> : tensor<99999xf32>",
        "4:48: type of a constant: expected "
        "static, at most 65536 elements, got tensor<99999xf32>; larger ones are weights",
    ),
    ("dense<[0.5, -1.0]> : tensor<2xf32>", "dense<1.0> : tensor<2xf16>", "4:48: element type 'f16'"),
    (
        "dense<[0.5, -1.0]> : tensor<2xf32>",
        "dense<[1, 128]> : tensor<2xi8>",
        "4:45: element of a dense value: expected an integer from -128 to 127, got 128",
    ),
    (
        "dense<[0.5, -1.0]> : tensor<2xf32>",
        "dense<[true, 1]> : tensor<2xi1>",
        "4:48: element of a dense value: expected true or false, got 1",
    ),
    (
        "dense<[0.5, -1.0]> : tensor<2xf32>",
        'dense<"0x03"> : tensor<2xi1>',
        "4:41: element of a dense value: expected a list of true and false",
    ),
    (
        '"nj.scan"(%b, %x)',
        '"nj.scan"(%b, %b0)',
        "7:29: %b0 is not defined here",
    ),
    ("(%x, %w)", "(%x, %v)", "5:26: %v is not defined here"),
    ("(%x, %w)", "(%x, %z)", "5:26: %z is not defined here; it is defined further down, on line 6"),
    ("(%x, %w)", "(%x %w)", "5:25: syntax: expected ')', got '%w'"),
    ("(%x, %w)", "(%x, %w, %w)", "5:10: types of the operands: expected 3, got 2"),
    (
        "-> tensor<?x2xf32>\n    %z",
        "-> tensor<?x3xf32>\n    %z",
        "5:70: matmul: type of the result: expected tensor<?x2xf32>, got tensor<?x3xf32>",
    ),
    ("%y = ", "%y:9999 = ", "5:8: count of results: expected 1 to 1024, got 9999"),
    ("%y = ", "%y:12345 = ", "5:8: count of results: expected 1 to 1024, got 12345"),
    (
        '%z = "nj.add"(%y, %b) : (tensor<?x2xf32>, tensor<2xf32>)',
        '%z = "nj.add"(%y, %x) : (tensor<?x2xf32>, tensor<?x4xf32>)',
        "6:23: add: shapes do not broadcast: expected extents equal to 2 or 1 on axis -1, got ?x4",
    ),
    ("{carried = 1}", "{carried = 3}", "11:19: scan: carried: expected 0 to 2, got 3"),
    ("{carried = 1}", "{carried = 1.5}", "11:19: scan: attribute carried: expected one of kind int, got 1.5"),
    ("{carried = 1}", "{carried = 99999999999999999999999}", "11:19: number: expected an integer of 64 bits"),
    ("{carried = 1}", "{carried = 0xFFFFFFFFFFFFFFFF}", "11:19: number: expected an integer of 64 bits"),
    ("{carried = 1}", "{carried = 01}", "11:19: number: expected an integer of 64 bits, got 01"),
    (
        "{carried = 1}",
        "{carried = 1 : f32}",
        "11:23: type of a number: expected i64 or i32 or index, got f32",
    ),
    ("{carried = 1}", "{carried = 0x7F : f32}", "11:19: number: expected 8 hexadecimal digits, got 0x7F"),
    ("{carried = 1}", "{carried 1}", "11:17: syntax: expected '=', got '1'"),
    ("{carried = 1}", "{carried = 1, axes = [1, x]}", "11:33: syntax: expected an integer, got 'x'"),
    ("%row: tensor<4xf32>", "%row: tensor<5xf32>", "10:47: type of %row: expected tensor<5xf32>, as defined"),
    (
        "%c: tensor<2xf32>, %row",
        "%c: tensor<2xf32>, %more: tensor<f32>, %row",
        "7:15: scan: parameters of the body: "
        "expected (tensor<2xf32>, tensor<4xf32>), got (tensor<2xf32>, tensor<f32>, tensor<4xf32>)",
    ),
    (
        '      "nj.yield"(%c1, %row) : (tensor<2xf32>, tensor<4xf32>) -> ()\n',
        "",
        "10:5: the end of a block: expected \"nj.yield\", got '}'",
    ),
    (
        "    func.return %z, %h : tensor<?x2xf32>, tensor<2xf32>\n",
        "",
        "12:3: the end of a block: expected func.return",
    ),
    (
        "    func.return %z",
        "    func.return %z : tensor<?x2xf32>\n    func.return %z",
        "12:5: return before the end of its block",
    ),
    (
        "func.return %z, %h :",
        "func.return %c1, %h :",
        "12:17: %c1 is not defined here; it belongs to another block",
    ),
    (
        "func.return %z, %h : tensor<?x2xf32>",
        "func.return %z, %h : tensor<?x3xf32>",
        "12:26: type of %z: expected tensor<?x2xf32>, as defined",
    ),
    (
        '{op = "y", steps = 4}',
        '{op = "y", steps = 1000000000}',
        "15:38: unroll: steps: expected 1 to 64, got 1000000000",
    ),
    ('"nj.unroll"', '"nj.unrol"', "15:5: unrol: no such step: expected tile, unroll"),
    (
        '"nj.unroll"',
        '"unroll"',
        "15:5: name of a step: expected one such as \"nj.tile\", got 'unroll'; did you mean 'nj.unroll'?",
    ),
    ('{function = "main"}', '{function = "man"}', "14:3: function of a schedule: expected main, got 'man'"),
    ('{function = "main"}', "{function = 4}", "16:18: function of a schedule: expected a name in quotes"),
    ('{function = "main"}', "{fun = 4}", "16:13: attribute 'fun' of a schedule: expected function"),
    ("-> ()\n}\n", "-> ()\n", "17:1: syntax: expected '}', got the end of the text"),
    ("-> ()\n}\n", "-> ()\n}\nmodule", "18:1: syntax: expected the end of the text, got 'module'"),
    ("%w = ", "%w = $", "3:10: character: expected a token of TensorLang, got '$'"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_error(old: str, new: str, expected: str) -> None:
    """One fault, one error, at its place."""
    found = diagnostics(changed(old, new))
    assert len(found) == 1, found
    assert found[0].startswith("p.tl:" + expected.partition(" ")[0]), found
    assert expected.partition(" ")[2] in found[0]


def test_what_defines_nothing_is_missed_where_it_is_used() -> None:
    found = diagnostics(changed("%y = ", ""))
    assert found == [
        "p.tl:5:5: values that the op defines: expected 1, as its type says, got 0",
        "p.tl:6:19: %y is not defined here",
    ]
    assert "expected 1, as its type says, got 2" in diagnostics(changed("%y = ", "%y:2 = "))[0]


def test_errors_of_a_text_come_together_and_in_order() -> None:
    text = GOOD
    for old, new in [
        ('{name = "w"}', '{nam = "w"}'), ("[0.5, -1.0]", "[0.5]"), ("(%x, %w)", "(%x %w)"),
        ("nj.tanh", "nj.tan"), ("func.return %z, %h", "func.return %z, %hh"), ("nj.unroll", "nj.unrol"),
    ]:  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    lines = [d.split(":")[1] for d in diagnostics(text)]
    assert lines == ["3", "4", "5", "9", "12", "15"]


def test_a_diagnostic_is_a_value() -> None:
    _, (found,) = parse_with_diagnostics(changed("nj.tanh", "nj.tan"), "p.tl")
    assert found.span is not None
    assert (found.span.line, found.span.column, found.span.end_line, found.span.end_column) == (9, 13, 9, 21)
    assert GOOD.splitlines()[8][12:21] == '"nj.tanh"'
    assert (found.got, found.hint) == ("'nj.tan'", "did you mean 'nj.tanh'?")
    with pytest.raises(TensorLangError) as caught:
        parse(changed("nj.tanh", "nj.tan"), "p.tl")
    assert caught.value.diagnostics == (found,)
    assert str(Diagnostic(None, "what", got="it")) == "what: got it"


def test_at_most_so_many_errors() -> None:
    many = changed("    %z", '    %q = "nj.nop"() : () -> tensor<f32>\n' * 1000 + "    %z")
    assert len(diagnostics(many)) == MOST_DIAGNOSTICS
    assert len(diagnostics("$\n" * 1000)) == MOST_DIAGNOSTICS


def test_short_escapes() -> None:
    name = r"a\n\t\"\\\41"
    assert list(parse(changed('"w"', f'"{name}"')).main.weights) == ['a\n\t"\\A']


def test_a_scan_walks_along_an_axis() -> None:
    text = """module @m {
      func.func @main(%s: tensor<f32>) {
        %r = "nj.scan"(%s) ({
          "nj.yield"() : () -> ()
        }) {carried = 0} : (tensor<f32>) -> tensor<f32>
        func.return
      }
    }"""
    assert diagnostics(text) == [
        "p.tl:3:24: scan: an input of a scan: expected a leading axis, got tensor<f32>"
    ]


def test_results_in_packs() -> None:
    text = changed("%h, %hs =", "%h:2 =").replace("%z, %h :", "%z, %h#0 :")
    assert parse(text).main.outputs[1].name == "h_0"
    text = changed("%h, %hs =", "%8:2 =").replace("%z, %h :", "%z, %8#0 :")
    module = parse(text)
    assert module.main.outputs[1].name == "v8_0"
    verify(module)
    assert "%h#1 is defined twice" in diagnostics(changed("%h, %hs =", "%h:2 =").replace("%z", "%h_1"))[0]
    assert "20 digits" in diagnostics(GOOD.replace("%w", "%" + "7" * 21))[0]


@pytest.mark.parametrize(
    "text", ["", " ", "module", "module @m", "module @m {", "}", '"', "\\", "// nothing"]
)
def test_scraps(text: str) -> None:
    assert len(diagnostics(text)) == 1


def test_module_without_functions() -> None:
    assert diagnostics("module @m {}") == ["module @m: expected at least one function"]
    twice = "func.func @f() {\n func.return\n }\n"
    assert "p.tl:5:11: a second function @f" in diagnostics("module @m {\n" + twice + twice + "}")[0]
    assert parse("module @m {\n" + twice + "}").main.outputs == ()


# ---- limits (FAULTS 37) ---------------------------------------------------------------------------


def nested(depth: int) -> str:
    head, tail = "", ""
    for level in range(depth):
        head += f'%r{level} = "nj.scan"(%h) ({{\n^bb0(%v{level}: tensor<f32>):\n'
        end = "}) {carried = 1, length = 2} : (tensor<f32>) -> tensor<f32>\n"
        tail = f'"nj.yield"(%v{level}) : (tensor<f32>) -> ()\n{end}{tail}'
    return f"module @m {{\nfunc.func @main(%h: tensor<f32>) {{\n{head}{tail}func.return\n}}\n}}\n"


def test_nesting_is_limited() -> None:
    assert diagnostics(nested(MOST_NESTING)) == []
    assert "nesting of regions: expected at most 16" in diagnostics(nested(MOST_NESTING + 1))[0]
    assert "nesting of regions: expected at most 16" in diagnostics(nested(5000))[0]
    assert "nesting of a dense value" in diagnostics(changed("[0.5, -1.0]", "[" * 100_000))[0]
    assert "syntax" in diagnostics("module @m " + "{" * 100_000)[0]
    assert "syntax" in diagnostics("module @m attributes {a = " + "[" * 100_000)[0]


def test_lengths_are_limited() -> None:
    long = "x" * 10_000
    assert "value: expected at most 256 characters, got 10001" in diagnostics(changed("%i:", f"%{long}:"))[0]
    assert (
        "number: expected at most 64 characters"
        in diagnostics(changed("steps = 4", "steps = " + "4" * 5000))[0]
    )
    found = Tokens(" " * (MOST_CHARACTERS + 1), "p.tl").diagnostics
    assert (
        str(found[0])
        == f"p.tl:1:1: text: expected at most {MOST_CHARACTERS} characters, got {MOST_CHARACTERS + 1}"
    )
    assert (
        "no such result"
        in diagnostics(
            changed(
                '"nj.tanh"(%c) : (tensor<2xf32>)',
                '"nj.broadcast"(%c) {shape = [1000000, 1000000, 2]} : (tensor<2xf32>)',
            )
        )[0]
    )


def before_z(lines: str) -> str:
    return changed("    %z", lines + "    %z")


def exp_of(value: str, type_: str, number: int) -> str:
    return f'    %a{number} = "nj.exp"({value}) : ({type_}) -> {type_}\n'


BOMBS = {
    "ops": lambda n: before_z("".join(exp_of("%y", "tensor<?x2xf32>", i) for i in range(n))),
    "a cycle": lambda n: before_z("".join(exp_of(f"%a{(i + 1) % n}", "tensor<f32>", i) for i in range(n))),
    "errors": lambda n: before_z('    %q = "nj.nop"() : ()\n' * n),
    "spaces": lambda n: before_z(" \t" * 20 * n),
    "an open quote": lambda n: changed('"w"', '"' + "\\a" * 10 * n),
    "lines of open quotes": lambda n: "module @m {\n" + '"a\n' * n,
    "braces": lambda n: "module @m " + "{" * 10 * n,
    "brackets": lambda n: "module @m attributes {a = " + "[1, " * 10 * n,
    "parentheses": lambda n: "module @m {\nfunc.func @f" + "(" * 10 * n,
    "undefined values": lambda n: changed("(%x, %w)", "(" + ", ".join(f"%u{i}" for i in range(n)) + ")"),
    "comments": lambda n: "// \n" * 10 * n,
    "a type": lambda n: changed("() -> tensor<4x2xf32>", "() -> tensor<" + "1x" * 10 * n),
    "operands": lambda n: changed('"nj.add"(%y, %b)', '"nj.concat"(' + "%y, " * n + "%y)"),
    "numbers": lambda n: changed("[0.5, -1.0]", "[" + "0.5, " * n + "1.0]"),
    "scans": lambda n: before_z(SCAN * n),
}
SCAN = """    "nj.scan"(%b) ({
    ^bb0(%q: tensor<2xf32>):
      "nj.yield"(%q) : (tensor<2xf32>) -> ()
    }) {carried = 1, length = 3} : (tensor<2xf32>) -> tensor<2xf32>
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_time_grows_with_the_text(bomb: str) -> None:
    """Eight times the text takes at most 24 times as long, far from the 64 of a square."""
    make = BOMBS[bomb]

    def seconds(n: int) -> float:
        text, times = make(n), []
        for _ in range(5):
            start = time.process_time()
            parse_with_diagnostics(text)
            times.append(time.process_time() - start)
        return min(times)

    gc.collect()
    gc.disable()  # what the other tests left alive is not the parser's affair
    try:
        small, large = seconds(500), seconds(4000)
    finally:
        gc.enable()
    assert large < 24 * small + 0.02
