"""The floors that CONTRIBUTING.md draws, and which imports climb them."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable
from pathlib import Path

from support.import_closure import PACKAGE, mentions, module_files
from support.repository import CHECKOUT

DRAWN = re.search(r"```floors\n(.*?)```", (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.S)
FLOORS: list[list[str]] = [line.split() for line in DRAWN[1].splitlines()] if DRAWN else []
"""Rooms by floor, the highest first: folders and single modules of the package, and the folders of scripts."""
DEPTH = {room: depth for depth, rooms in enumerate(FLOORS) for room in rooms}
SCRIPTS = ("stages", "benchmarks")


def room_of(file: Path, root: Path = CHECKOUT) -> str:
    """The room of a Python file below ``root``; ``__init__`` for that of the package itself."""
    parts = file.relative_to(root).with_suffix("").parts
    return parts[0] if parts[0] in SCRIPTS else parts[2]


def room_named(name: str) -> str | None:
    """The room that a dotted name is in; None for a library."""
    first, _, rest = name.partition(".")
    if first == PACKAGE:
        return rest.partition(".")[0] or "__init__"
    return first if first in SCRIPTS else None


def climbing(files: Iterable[Path], root: Path = CHECKOUT) -> list[str]:
    """Imports of another room that is not below one's own, those inside functions and for type checkers too."""
    return [
        f"{file.relative_to(root)} imports {name}"
        for file in files
        for name in sorted(mentions(file))
        if (target := room_named(name)) in DEPTH
        and target != (own := room_of(file, root))
        and DEPTH[target] <= DEPTH.get(own, len(FLOORS))
    ]


def circle(files: Iterable[Path], source: Path) -> list[str]:
    """Modules that import one another in a circle, from one back to itself; empty where none do."""
    graph = {
        file: {found for name in mentions(file) for found in module_files(name, source)} - {file} for file in files
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [file.relative_to(source).as_posix() for file in error.args[1]]
    return []
