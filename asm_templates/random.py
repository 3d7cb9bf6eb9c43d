"""random: counter-based numbers, Threefry-2x32 with 20 rounds on a vector of element numbers.

    2 words + 1 temporary + the 5 words of the key's schedule, the counter, element numbers; 4 more in log
    bound: 32-bit additions, rotations and exclusive ors, three of each round

Element numbers are the counters, so vectors are independent and the result is the same in any order.
"""

from __future__ import annotations

from neurojit.asm_templates.machine import Machine, Pointer, Vector
from neurojit.asm_templates.math import cos_turns, log
from neurojit.ir.random import PARITY, ROTATIONS, ROUNDS
from neurojit.plan.random import Random

INDEX = 4
DROPPED_BITS = 8
UNIT = 2.0**-24


def emit(m: Machine, g: Random) -> None:
    """Emit the whole kernel, from its arguments to its return."""
    body(m, g, m.operands(g.buffers))
    m.leave()


def pointers_needed() -> int:
    """How many general registers a kernel needs at most."""
    return 5 + 1 + 1


def body(m: Machine, g: Random, operands: tuple[Pointer, ...]) -> None:
    """Emit the numbers for operands whose addresses are in registers: see `Random`. All are moved on, to
    anywhere; the registers stay the caller's. All others are given back.
    """
    key, counter, *first = operands[: 2 + g.numbered]
    targets = operands[2 + g.numbered :]
    lanes = m.widest_lanes
    whole, tail = divmod(g.count, lanes)
    m.expect(frozenset({tail}) - {0})
    schedule = [m.broadcast(lanes, key, 0), m.broadcast(lanes, key, INDEX)]
    third = m.xor(schedule[0], schedule[1])
    parity = m.spread_integer(lanes, PARITY)
    schedule.append(m.xor(third, parity, into=third))
    m.drop(parity)
    second = m.broadcast(lanes, counter, 0)
    m.add_integers(second, schedule[1], into=second)
    numbers = m.lane_numbers(lanes)
    m.to_integer(numbers, into=numbers)
    for pointer in first:
        begin = m.broadcast(lanes, pointer, 0)
        m.add_integers(numbers, begin, into=numbers)
        m.drop(begin)
    if whole:
        with m.loop(whole):
            _vector(m, g, schedule, second, numbers, targets, lanes)
            for target in targets:
                m.advance(target, lanes * m.element.size)
            step = m.spread_integer(lanes, lanes)
            m.add_integers(numbers, step, into=numbers)
            m.drop(step)
    if tail:
        _vector(m, g, schedule, second, numbers, targets, tail)
    m.drop(*schedule, second, numbers)
    m.forget()


def _vector(
    m: Machine,
    g: Random,
    schedule: list[Vector],
    second: Vector,
    numbers: Vector,
    targets: tuple[Pointer, ...],
    lanes: int,
) -> None:
    w0, w1 = _threefry(m, schedule, second, numbers)
    if g.distribution == "words":
        for word, target in zip((w0, w1), targets, strict=True):
            m.store(m.view(word, lanes), target, 0)
            m.drop(word)
        return
    x = _fraction(m, w0)
    if g.distribution == "normal":
        m.add(x, 1.0, into=x)
        m.mul(x, UNIT, into=x)
        log(m, x)
        m.mul(x, -2.0, into=x)
        m.sqrt(x, into=x)
        turns = _fraction(m, w1)
        m.mul(turns, UNIT, into=turns)
        cos_turns(m, turns)
        m.mul(x, turns, into=x)
        m.drop(turns)
    else:
        m.mul(x, UNIT, into=x)
        m.drop(w1)
    m.store(m.view(x, lanes), targets[0], 0)
    m.drop(x)


def _fraction(m: Machine, word: Vector) -> Vector:
    """The upper 24 bits of a word, as a number, in its register."""
    m.shift_right(word, DROPPED_BITS, into=word)
    return m.from_integer(word, into=word)


def _threefry(m: Machine, schedule: list[Vector], second: Vector, numbers: Vector) -> tuple[Vector, Vector]:
    """The two words of each element number. `second` is the counter plus the key's second word."""
    x0 = m.add_integers(numbers, schedule[0])
    x1 = m.duplicate(second)
    for turn in range(ROUNDS // 4):
        for rotation in ROTATIONS[turn % 2]:
            m.add_integers(x0, x1, into=x0)
            m.rotate_left(x1, rotation, into=x1)
            m.xor(x1, x0, into=x1)
        m.add_integers(x0, schedule[(turn + 1) % 3], into=x0)
        m.add_integers(x1, schedule[(turn + 2) % 3], into=x1)
        injected = m.spread_integer(x1.lanes, turn + 1)
        m.add_integers(x1, injected, into=x1)
        m.drop(injected)
    return x0, x1
