"""docs/commands.md lists every command with every option."""

from __future__ import annotations

from pessimism.cli import COMMANDS
from support import commands_page


def test_the_page_is_what_the_commands_say() -> None:
    assert commands_page.PAGE.read_text() == commands_page.page(), "docs/commands.md is not up to date: make commands"


def test_every_command_and_option_stands_there() -> None:
    page = commands_page.page()
    assert [line.split()[-1].strip("`") for line in page.splitlines() if line.startswith("## ")] == list(COMMANDS)
    rows = {line.split(" | ")[0]: line for line in page.splitlines()}
    assert rows["| `--gpu NAME`"] == "| `--gpu NAME` | GPU by its name or a part of it (default: H100 80GB) |"
    assert rows["| `--fail-on-onset`"].count("|") == 3
    assert rows["| `table ...`"].endswith(".jsonl, .parquet |")
    assert rows["| `--format FORMAT`"].endswith(" | for a terminal or for a page: `text`, `mermaid` |")
