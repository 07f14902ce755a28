"""Tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of texts as columns, one line per row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def folded(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """The rows with texts that are wider than their column broken over several lines, each a row of its own."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        cells = [_broken(text, width) for text, width in zip(row, widths, strict=True)]
        lines += zip_longest(*cells, fillvalue="")
    return lines


def _broken(text: str, width: int) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text.lstrip(), width, initial_indent=indent, subsequent_indent=indent) or [""]
