"""A figure beside its goal. A goal that is missed is printed as missed, and listed first at the end."""

from __future__ import annotations

from typing import Any, NamedTuple


class Goal(NamedTuple):
    what: str
    measured: float
    bound: float
    at_most: bool = False  # else at least
    form: str = "g"  # of both numbers, as in format()

    @property
    def met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    @property
    def mark(self) -> str:
        """The goal for a table's column."""
        return format(self.bound, self.form) + ("" if self.met else " missed")

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "met   " if self.met else "MISSED"
        return f"{verdict}  {self.what}: {self.measured:{self.form}} (goal {sign} {self.bound:{self.form}})"

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "met": self.met}


def print_goals(goals: list[Goal]) -> None:
    for goal in goals:
        print(f"  {goal}")


def print_summary(goals: list[Goal]) -> None:
    """All goals of a run, the missed ones first."""
    missed = [goal for goal in goals if not goal.met]
    print(f"\n{len(goals) - len(missed)} of {len(goals)} goals met" + (", missed:" if missed else ""))
    print_goals(missed)
