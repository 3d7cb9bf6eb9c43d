"""Slots from Python: finding, publishing, hot-swapping, evicting while callers are inside."""

from __future__ import annotations

import array
import itertools
import threading

import pytest
from machine_code import RETURNS_FIRST_OF_CONTEXT, RETURNS_N, WAITS, returns
from process import in_thread, needs_kernels

from neurojit.runtime import SLOTS, Code, SlotTable, executable_memory

pytestmark = needs_kernels


def key(number: int) -> tuple[int, int, int, int]:
    return (number, 2, 3, 4)


def test_a_key_has_one_slot() -> None:
    table = SlotTable()
    assert table.lookup(key(1)) is None
    slot = table.insert(key(1))
    assert table.insert(key(1)) == slot == table.lookup(key(1))
    assert slot.key == key(1)
    assert hash(slot) == hash(table.lookup(key(1)))
    assert slot != table.insert(key(2))
    assert isinstance(SLOTS, SlotTable)


def test_every_word_of_the_key_counts() -> None:
    table = SlotTable()
    extremes = (0, 1, 2**32, 2**63, 2**64 - 1)
    keys = list(itertools.product(extremes, repeat=4))
    slots = [table.insert(k) for k in keys]
    assert len(set(slots)) == len(keys) == table.stats()["slots"]
    assert [slot.key for slot in slots] == keys


def test_growth_keeps_slots_and_code() -> None:
    table = SlotTable()
    first = table.insert(key(0))
    table.publish(first, Code.map(returns(42)))
    for number in range(5000):
        table.insert(key(number))
    assert table.lookup(key(0)) == first
    assert all(table.lookup(key(number)) is not None for number in range(5000))
    assert table.stats()["slots"] == 5000
    assert first.call(()) == 42


def test_wrong_keys() -> None:
    table = SlotTable()
    with pytest.raises(ValueError, match="4 words"):
        table.insert((1, 2, 3))  # type: ignore[arg-type]
    for word in (-1, 2**64):
        with pytest.raises(OverflowError):
            table.insert(key(word))


def test_slots_of_other_tables_are_refused() -> None:
    slot = SlotTable().insert(key(1))
    with pytest.raises(ValueError, match="another table"):
        SlotTable().publish(slot, Code.map(returns(1)))
    with pytest.raises(ValueError, match="another table"):
        SlotTable().evict(slot)


def test_publish_replace_evict() -> None:
    table = SlotTable()
    slot = table.insert(key(1))
    assert slot.call(()) is None
    assert not slot.published
    table.publish(slot, Code.map(returns(1)))
    assert slot.call(()) == 1
    table.publish(slot, Code.map(returns(2)))
    assert slot.call(()) == 2
    assert slot.calls == 2
    table.publish(slot, Code.map(RETURNS_FIRST_OF_CONTEXT, context=bytes([3]) + bytes(7)))
    assert slot.call(()) == 3
    assert table.evict(slot)
    assert not table.evict(slot)
    assert slot.call(()) is None
    assert table.stats() == {
        "slots": 1, "published": 0, "live_bytes": 0, "retired": 0, "retired_bytes": 0,
        "publications": 3, "evictions": 1, "destroyed": 3,
    }  # fmt: skip


def test_claim_is_exclusive() -> None:
    slot = SlotTable().insert(key(1))
    assert slot.claim()
    assert not slot.claim()
    slot.unclaim()
    assert slot.claim()


def test_cold_kernels_go_first() -> None:
    table = SlotTable()
    slots = [table.insert(key(number)) for number in range(10)]
    for slot in slots:
        table.publish(slot, Code.map(RETURNS_N))
    page = table.stats()["live_bytes"] // 10
    assert table.evict_bytes(page) == page  # nobody was called: the first goes, after a chance for all
    assert [slot.published for slot in slots] == [False] + [True] * 9
    for slot in slots[1:8]:
        slot.call((), 1)
    assert table.evict_bytes(2 * page) == 2 * page
    assert [slot.published for slot in slots] == [False] + [True] * 7 + [False] * 2
    assert table.evict_bytes(100 * page) == 7 * page
    assert table.evict_bytes(1) == 0


def test_keys_that_mean_something_else_lose_their_code() -> None:
    table = SlotTable()
    slots = [table.insert((1, low, high << 32 | 5, 9)) for low in range(3) for high in range(3)]
    for slot in slots[:-1]:
        table.publish(slot, Code.map(RETURNS_N))
    mask, evictions = (0, 0, 0xFFFFFFFF << 32, 0), table.stats()["evictions"]
    assert table.evict_keys(mask, (7, 7, 2 << 32, 7)) == 2
    assert [slot.key[2] >> 32 == 2 for slot in slots[:-1]] == [not slot.published for slot in slots[:-1]]
    assert table.stats()["evictions"] == evictions + 2
    assert table.evict_keys(mask, (0, 0, 2 << 32, 0)) == 0
    with pytest.raises(ValueError, match="4 words, got 1"):
        table.evict_keys((1,), (0, 0, 0, 0))  # type: ignore[arg-type]


def test_code_lives_until_its_last_caller_left() -> None:
    table = SlotTable()
    slot = table.insert(key(1))
    table.publish(slot, Code.map(WAITS))
    mappings = executable_memory().live_mappings
    flags = array.array("i", [0, 0])
    address, _ = flags.buffer_info()
    results: list[int | None] = []
    threads = [in_thread(lambda: results.append(slot.call((address,)))) for _ in range(3)]
    while flags[0] < 3:
        pass
    table.publish(slot, Code.map(returns(1)))  # hot-swap
    table.evict(slot)  # and evict
    assert table.reclaim() == 0
    assert table.stats()["retired"] == 2
    assert executable_memory().live_mappings == mappings + 1
    assert slot.call(()) is None
    flags[1] = 1
    for thread in threads:
        thread.join()
    assert results == [7, 7, 7]
    assert table.reclaim() == 2
    assert executable_memory().live_mappings == mappings - 1


def test_hot_swap_storm() -> None:
    table = SlotTable()
    slots = [table.insert(key(number)) for number in range(3)]
    before = executable_memory().live_mappings
    stop = threading.Event()
    called = [0] * 3
    wrong: list[tuple[int, int]] = []

    def caller(number: int) -> None:
        while not stop.is_set():
            for slot in slots:
                found, total = slot.call_repeatedly((), 1, 200)
                called[number] += found
                if found != total:  # every kernel published returns 1
                    wrong.append((found, total))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(1500):
        slot = slots[turn % 3]
        table.publish(slot, Code.map(RETURNS_N if turn % 2 else returns(1)))
        if turn % 5 == 0:
            table.evict(slots[(turn + 1) % 3])
        if turn % 50 == 0:
            table.evict_bytes(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(called)
    for slot in slots:
        table.evict(slot)
    table.reclaim()
    stats = table.stats()
    assert (stats["publications"], stats["destroyed"], stats["retired"]) == (1500, 1500, 0)
    assert executable_memory().live_mappings == before


def test_dropped_table_destroys_its_code() -> None:
    before = executable_memory().live_mappings
    table = SlotTable()
    slot = table.insert(key(1))
    table.publish(slot, Code.map(returns(1)))
    del table
    assert slot.call(()) == 1  # a slot keeps its table
    del slot
    assert executable_memory().live_mappings == before
