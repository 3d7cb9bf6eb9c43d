"""eliminate-dead-code: what nobody uses goes, what acts stays, scans shrink."""

from texts import check_text

from neurojit.ir import Builder
from neurojit.passes.eliminate_dead_code import ELIMINATE_DEAD_CODE


def test_what_nobody_uses_goes() -> None:
    check_text(
        ELIMINATE_DEAD_CODE,
        """%w = weight() {name = "w"} :  -> 3xf32
        %a = tanh(%w) : 3xf32 -> 3xf32
        %b = exp(%a) : 3xf32 -> 3xf32
        %e = compare(%z, %z) {predicate = "eq"} : 3xf32 3xf32 -> 3xi1
        assert(%e) {text = "no NaN"} : 3xi1 ->
        %f = neg(%z) : 3xf32 -> 3xf32
        state_write(%f) {name = "h"} : 3xf32 ->
        return %x : 2x3xf32""",
        """%e = compare(%z, %z) {predicate = "eq"} : 3xf32 3xf32 -> 3xi1
        assert(%e) {text = "no NaN"} : 3xi1 ->
        %f = neg(%z) : 3xf32 -> 3xf32
        state_write(%f) {name = "h"} : 3xf32 ->
        return %x : 2x3xf32""",
    )


def test_scans_lose_what_nobody_looks_at() -> None:
    b = Builder()
    h, xs = b.parameter("h", "tensor<3xf32>"), b.parameter("xs", "tensor<5x3xf32>")
    (last,), (hs, _) = b.scan(lambda h, x, y: ([b.add(h, x)], [b.exp(h), b.tanh(y)]), [h], [xs, xs])
    unused, _ = b.scan(lambda h: ([b.tanh(h)], []), [h], length=4)
    made = ELIMINATE_DEAD_CODE.run(b.build(last, hs))
    (scan, end) = made.block.ops
    assert (len(scan.operands), len(scan.results), len(scan.regions[0].parameters)) == (2, 2, 2)
    assert [op.name for op in scan.regions[0].ops] == ["add", "exp", "yield"]
    assert end.operands == scan.results
    assert unused[0] not in scan.results
    assert ELIMINATE_DEAD_CODE.run(made) is made


def test_one_input_stays_to_count_the_steps() -> None:
    b = Builder()
    h, xs = b.parameter("h", "tensor<3xf32>"), b.parameter("xs", "tensor<5x3xf32>")
    (last,), _ = b.scan(lambda h, x, y: ([b.tanh(h)], []), [h], [xs, xs])
    (scan, _) = ELIMINATE_DEAD_CODE.run(b.build(last)).block.ops
    assert len(scan.operands) == 2


def test_an_assert_keeps_its_scan() -> None:
    b = Builder()
    h = b.parameter("h", "tensor<3xf32>")

    def body(value: object) -> tuple[list[object], list[object]]:
        b.op("assert", b.compare(value, 0.0, predicate="lt"), text="negative")  # type: ignore[arg-type]
        return [value], []

    b.scan(body, [h], length=4)  # type: ignore[arg-type]
    assert [op.name for op in ELIMINATE_DEAD_CODE.run(b.build(h)).block.ops] == ["scan", "return"]
