"""Which modules of the package a script runs, and which libraries these import, told from the source alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "pessimism"
SOURCE = Path(__file__).resolve().parent.parent / "src"


def closure(*scripts: Path, beyond: Callable[[Path], bool] = lambda file: True) -> set[Path]:
    """Files of the package that ``scripts`` import, directly or through others, ``__init__`` files included.

    Args:
        beyond: whether to follow what a file imports.
    """
    found: set[Path] = set()
    waiting = list(scripts)
    while waiting:
        new = {file for name in imports(waiting.pop()) for file in module_files(name)} - found
        found |= new
        waiting += sorted(filter(beyond, new))
    return found


def libraries(script: Path) -> set[str]:
    """Top-level names of everything outside the package that ``script`` and its closure may ever import."""
    return _outside(name for file in {script, *closure(script)} for name in imports(file))


def libraries_at_start(script: Path) -> set[str]:
    """As :func:`libraries`, without what functions import when they are called."""
    found, waiting = {script}, [script]
    while waiting:
        new = {file for name in imports_at_start(waiting.pop()) for file in module_files(name)} - found
        found |= new
        waiting += sorted(new)
    return _outside(name for file in found for name in imports_at_start(file))


@cache
def imports(file: Path) -> frozenset[str]:
    """Dotted names that ``file`` imports anywhere, except for type checkers only."""
    return frozenset(_names(ast.parse(file.read_text(encoding="utf-8")), in_functions=True))


@cache
def imports_at_start(file: Path) -> frozenset[str]:
    """Dotted names that importing ``file`` imports."""
    return frozenset(_names(ast.parse(file.read_text(encoding="utf-8")), in_functions=False))


def _outside(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names} - {PACKAGE}


def module_files(name: str) -> list[Path]:
    """Files that importing the dotted ``name`` runs: packages on the way and the module; none outside the package."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    ways = [SOURCE.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    candidates = [file for way in ways for file in (way / "__init__.py", way.with_suffix(".py"))]
    return [file for file in candidates if file.is_file()]


def _names(node: ast.AST, in_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _names(other, in_functions)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "relative imports are not used in this project"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif in_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _names(child, in_functions)
