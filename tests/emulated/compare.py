"""How many tests pass on each architecture, and which pass on the first and not on another.

    python tests/emulated/compare.py x86_64=a.xml arm64=b.xml riscv64=c.xml [--under tests.asm_templates]

The files are pytest's own reports (--junitxml). A test that runs once for each ISA of its machine is one test
here: its name without that of the ISA.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

ISAS = ("avx512", "avx2", "neon", "rvv")
TYPES = ("f32", "f64")


def results(path: str, under: str) -> Iterator[tuple[str, str]]:
    """(test, "passed", "skipped" or "failed") of a report."""
    for case in ElementTree.parse(path).iter("testcase"):
        if not case.get("classname", "").startswith(under):
            continue
        kinds = {child.tag for child in case}
        verdict = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        yield f"{case.get('classname')}::{without_isa(case.get('name', ''))}", verdict


def without_isa(name: str) -> str:
    function, bracket, parameters = name.partition("[")
    kept = [part for part in parameters.rstrip("]").split("-") if part not in ISAS]
    return f"{function}[{'-'.join(kept)}]" if bracket else function


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="+", metavar="ARCHITECTURE=REPORT")
    parser.add_argument("--under", default="", metavar="MODULE", help="only tests whose module begins so")
    arguments = parser.parse_args()
    passed: dict[str, set[str]] = {}
    print(f"{'':10}{'runs':>8}{'passed':>8}{'skipped':>8}{'failed':>8}{'tests':>8}  of f32, of f64")
    for report in arguments.reports:
        architecture, _, path = report.partition("=")
        verdicts = list(results(path, arguments.under))
        count = {kind: sum(v == kind for _, v in verdicts) for kind in ("passed", "skipped", "failed")}
        passed[architecture] = {test for test, verdict in verdicts if verdict == "passed"}
        typed = [sum(kind in test for test in passed[architecture]) for kind in TYPES]
        counts = "".join(f"{count[kind]:>8}" for kind in ("passed", "skipped", "failed"))
        tests = f"{len(passed[architecture]):>8}  {typed[0]}, {typed[1]}"
        print(f"{architecture:10}{len(verdicts):>8}{counts}{tests}")
    first, *others = passed
    for other in others:
        missing = sorted(passed[first] - passed[other])
        print(
            f"\n{len(missing)} pass on {first} and not on {other}:"
            if missing
            else f"\nall of {first} pass on {other}"
        )
        print("".join(f"    {test}\n" for test in missing), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
