"""Clocks: monotonic, and ticks that keep the rate they claim."""

from __future__ import annotations

import time

from neurojit.runtime import clock_ns, ticks, ticks_per_ns


def test_monotonic() -> None:
    readings = [clock_ns() for _ in range(1000)]
    assert readings == sorted(readings)
    assert abs(clock_ns() - time.monotonic_ns()) < 1_000_000_000


def test_ticks_keep_their_rate() -> None:
    rate = ticks_per_ns()
    assert rate == ticks_per_ns()
    begin_ticks, begin_ns = ticks(), clock_ns()
    time.sleep(0.05)
    spent_ticks, spent_ns = ticks() - begin_ticks, clock_ns() - begin_ns
    assert abs(spent_ticks / rate / spent_ns - 1) < 0.02
