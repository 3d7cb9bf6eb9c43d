"""`python -m neurojit`, and the console script `neurojit`: a table of subcommands.

A subcommand is a module with `add_arguments(parser)` and `run(arguments) -> int` (the exit status), and
a row here. Such a module imports what it works with inside `run`, so that `--help` stays quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from neurojit.errors import NeurojitError


class Command(NamedTuple):
    name: str
    module: str
    summary: str


COMMANDS = (
    Command("features", "neurojit.report.features", "what this CPU has, what neurojit uses of it, and why"),
    Command("emit", "neurojit.report.emit", "the machine code of one kernel, and why it looks as it does"),
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="neurojit", description="A just-in-time compiler for small networks.")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        module = importlib.import_module(command.module)
        sub = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit status: 0, 1 for an error of neurojit's, 2 for a bad command line."""
    try:
        top = parser()
        arguments = top.parse_args(argv)
        if not hasattr(arguments, "run"):
            top.print_help()
            return 0
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except NeurojitError as error:
        print(f"neurojit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `neurojit features | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
