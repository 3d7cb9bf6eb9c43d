"""Code: what a kernel is called with, and who owns it."""

from __future__ import annotations

import array

import pytest
from machine_code import (
    RETURNS_ADDRESS_OF_CONTEXT,
    RETURNS_FIRST_OF_CONTEXT,
    RETURNS_N,
    WAITS,
    returns,
)
from process import in_thread, needs_kernels

from neurojit.runtime import Code, SlotTable, executable_memory

pytestmark = needs_kernels


def test_n_and_result_are_64_bit() -> None:
    code = Code.map(RETURNS_N)
    for n in (0, 1, -1, 2**63 - 1, -(2**63)):
        assert code.call((), n) == n


def test_context_is_copied_aligned_and_first() -> None:
    code = Code.map(RETURNS_FIRST_OF_CONTEXT, context=b"\x2a" + bytes(99))
    assert code.call(()) == 42
    assert Code.map(RETURNS_ADDRESS_OF_CONTEXT).call(()) == 0
    for length in (1, 63, 64, 65):
        address = Code.map(RETURNS_ADDRESS_OF_CONTEXT, context=bytes(length)).call(())
        assert address != 0
        assert address % 64 == 0


def test_published_code_belongs_to_the_table() -> None:
    table = SlotTable()
    slot = table.insert((1, 2, 3, 4))
    code = Code.map(returns(42))
    assert not code.published
    table.publish(slot, code)
    assert code.published
    for use in (Code.call, Code.call_checked):
        with pytest.raises(RuntimeError, match="was published"):
            use(code, ())
    for attribute in ("address", "size"):
        with pytest.raises(RuntimeError, match="was published"):
            getattr(code, attribute)
    with pytest.raises(RuntimeError, match="was published"):
        table.publish(slot, code)
    del code
    assert slot.call(()) == 42


def test_code_in_flight_is_not_published() -> None:
    table = SlotTable()
    code = Code.map(WAITS, release_gil=True)
    flags = array.array("i", [0, 0])
    address, _ = flags.buffer_info()
    thread = in_thread(lambda: code.call((address,)))
    while flags[0] == 0:
        pass
    with pytest.raises(RuntimeError, match="1 calls are in flight"):
        table.publish(table.insert((0, 0, 0, 0)), code)
    flags[1] = 1
    thread.join()
    table.publish(table.insert((0, 0, 0, 0)), code)


def test_too_many_buffers() -> None:
    code = Code.map(RETURNS_N)
    assert code.call((0,) * 63, 5) == 5
    with pytest.raises(ValueError, match="64 buffers"):
        code.call((0,) * 64, 5)


def test_only_bytes_are_code() -> None:
    for wrong in (5, None, [0xC3], "ret"):
        with pytest.raises(TypeError):
            Code.map(wrong)  # type: ignore[arg-type]
    for maker in (Code, type(SlotTable().insert((1, 1, 1, 1)))):
        with pytest.raises(TypeError, match="is made by"):
            maker()


def test_dropped_code_is_unmapped() -> None:
    before = executable_memory().live_mappings
    codes = [Code.map(returns(i)) for i in range(50)]
    assert executable_memory().live_mappings == before + 50
    codes.clear()
    assert executable_memory().live_mappings == before
