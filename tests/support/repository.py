"""Where the checkout is, and which Python files it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

Edit = Callable[..., None]
"""What the fixture ``edit`` gives: sets a key of a YAML file of the fixture ``project``."""

AddFile = Callable[[str, str, str], Path]
"""What the fixture ``add_file`` gives: puts a file into a room of the package for one test."""


def python_files(folder: str, root: Path = CHECKOUT) -> list[Path]:
    """Every Python file below ``folder``. There must be one: a guard over no file guards nothing."""
    files = sorted((root / folder).rglob("*.py"))
    assert files, f"found no Python file below {root / folder}; expected some"
    return files
