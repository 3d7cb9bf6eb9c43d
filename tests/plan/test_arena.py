"""The arena's layout: nothing that is alive at the same time shares a byte, and little is wasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neurojit.plan.arena import Life, lay_out

LIVES = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 30), st.integers(0, 8)).map(
        lambda t: Life(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@given(LIVES)
def test_what_lives_together_lies_apart(lives: list[Life]) -> None:
    offsets, total = lay_out(lives)
    assert all(offset % 64 == 0 for offset in offsets)
    for i, (life, offset) in enumerate(zip(lives, offsets, strict=True)):
        assert offset + life.bytes <= total
        for other, other_offset in zip(lives[:i], offsets[:i], strict=True):
            if life.first <= other.last and other.first <= life.last:
                assert offset + life.bytes <= other_offset or other_offset + other.bytes <= offset


def test_a_chain_needs_two_buffers() -> None:
    """Each layer reads what the one before wrote: the third may lie where the first was."""
    lives = [Life(1000, step, step + 1) for step in range(10)]
    offsets, total = lay_out(lives)
    assert total == 2 * 1024
    assert set(offsets) == {0, 1024}


def test_small_ones_fill_the_gaps() -> None:
    offsets, total = lay_out([Life(4096, 0, 9), Life(64, 0, 1), Life(64, 2, 3), Life(100, 4, 5)])
    assert offsets[0] == 0
    assert total == 4096 + 128


def test_nothing_takes_nothing() -> None:
    assert lay_out([]) == ((), 0)
