"""docs/commands.md: every command of ``pessimism`` with its options, from their help; ``make commands`` writes it."""

from __future__ import annotations

import argparse

from pessimism.cli import COMMANDS, make_parser
from support.repository import CHECKOUT

PAGE = CHECKOUT / "docs/commands.md"

OPENING = """\
# The command line

`pessimism COMMAND --help` says the same on a terminal. [`running.md`](running.md) says when to use which. Commands run
in the project's root; those that read a log or the paper's numbers run anywhere. An error that was foreseen ends with
its message and status 2; `pessimism --debug COMMAND` adds where it comes from. Written by `make commands`.
"""


def page() -> str:
    return OPENING + "".join(map(_section, COMMANDS))


def _section(name: str) -> str:
    parser = _parser(name)
    rows = [f"| {_spelled(action)} | {_told(action)} |\n" for action in parser._actions if action.dest != "help"]
    table = f"\n| argument | what it is |\n|---|---|\n{''.join(rows)}" if rows else ""
    return f"\n## `pessimism {name}`\n\n{parser.description}\n{table}"


def _parser(name: str) -> argparse.ArgumentParser:
    (commands,) = (action for action in make_parser([name])._actions if isinstance(action.choices, dict))
    return commands.choices[name]


def _spelled(action: argparse.Action) -> str:
    """As it is typed; of an option with several names all of them."""
    named = action.option_strings or [str(action.metavar or action.dest)]
    value = f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
    more = " ..." if action.nargs in ("+", "*") else ""
    return ", ".join(f"`{spelling}{value}{more}`" for spelling in named).replace("|", "\\|")


def _told(action: argparse.Action) -> str:
    text = (action.help or "") % vars(action)
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    return ": ".join(part for part in (text, choices) if part).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
