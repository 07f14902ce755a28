"""Which modules of the package a script runs, and which libraries these import, told from the source alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

from support.repository import CHECKOUT

PACKAGE = "pessimism"
SOURCE = CHECKOUT / "src"


def closure(script: Path, ends: Collection[Path] = ()) -> set[Path]:
    """Files of the package that ``script`` imports, directly or through others, ``__init__`` files included.

    Args:
        ends: files whose own imports do not count.
    """
    return _reached(script, imports, ends)


def libraries(script: Path) -> set[str]:
    """Top-level names of everything outside the package that ``script`` and its closure may ever import."""
    return _outside(name for file in {script, *closure(script)} for name in imports(file))


def libraries_at_start(script: Path) -> set[str]:
    """As :func:`libraries`, without what functions import when they are called."""
    found = {script, *_reached(script, imports_at_start, ends=())}
    return _outside(name for file in found for name in imports_at_start(file))


@cache
def imports(file: Path) -> frozenset[str]:
    """Dotted names that ``file`` imports anywhere, except for type checkers only."""
    return frozenset(_names(_parsed(file), in_functions=True, for_types=False))


@cache
def imports_at_start(file: Path) -> frozenset[str]:
    """Dotted names that importing ``file`` imports."""
    return frozenset(_names(_parsed(file), in_functions=False, for_types=False))


@cache
def mentions(file: Path) -> frozenset[str]:
    """Dotted names that ``file`` imports anywhere and for whatever reason."""
    return frozenset(_names(_parsed(file), in_functions=True, for_types=True))


def module_files(name: str, source: Path = SOURCE) -> list[Path]:
    """Files that importing the dotted ``name`` runs: packages on the way and the module; none outside the package."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    ways = [source.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    candidates = [file for way in ways for file in (way / "__init__.py", way.with_suffix(".py"))]
    return [file for file in candidates if file.is_file()]


def _reached(script: Path, imported: Callable[[Path], Iterable[str]], ends: Collection[Path]) -> set[Path]:
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        new = {file for name in imported(waiting.pop()) for file in module_files(name)} - found
        found |= new
        waiting += sorted(new.difference(ends))
    return found


def _outside(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names} - {PACKAGE}


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _names(node: ast.AST, in_functions: bool, for_types: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in [*(child.body if for_types else []), *child.orelse]:
                yield from _names(ast.Module([other], []), in_functions, for_types)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "relative imports are not used in this project"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif in_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _names(child, in_functions, for_types)
