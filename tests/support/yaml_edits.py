"""Changes of one key in a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def set_key(path: Path, key: str, value: Any) -> None:
    """Set a key, given by its dotted name; ``...`` removes it."""
    content = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    path.write_text(yaml.safe_dump(content))
