"""What the cells of a stage share, code and parameters, as one record.

DVC rewrites all of dvc.lock after every stage, and its time for that grows with the lines there. An online cell that
depended on each of its files of code and parameters had 197; on this record instead, it has 60.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import Cell
from pessimism.experiment.pipeline import INPUTS
from pessimism.experiment.yaml_files import parse_yaml

_CODE = ("stages/", "src/")
_OWN = ("stages/record_inputs.py", "src/pessimism/experiment/inputs.py")


def shared_inputs(stage: str) -> dict[str, Any]:
    """The content of everything that dvc.yaml lists as code and parameters of all cells of ``stage``.

    Returns:
        JSON-ready: ``code``, SHA-256 by file, and ``parameters``, value by key, by file. It changes exactly where one
        of them does.

    Raises:
        DataError: a file of code is missing.
    """
    design = _read_yaml(layout.PARAMS)
    body = _read_yaml(layout.PIPELINE)["stages"][f"{stage}{INPUTS}"]
    code = [filled(path, design) for path in body["deps"] if path.startswith(_CODE) and path not in _OWN]
    return {
        "code": {path: _hash(Path(path)) for path in code},
        "parameters": {file: _values(Path(file), keys) for file, keys in _listed(body["params"], design).items()},
    }


def listed_inputs(stage: str, cell: Cell | None) -> tuple[list[str], dict[str, Any]]:
    """The paths that dvc.yaml lists as dependencies of a stage or of one cell, and its parameters by key, by file.

    One of a cell's paths is the record of what all cells share.
    """
    design, body = _read_yaml(layout.PARAMS), _read_yaml(layout.PIPELINE)["stages"][stage]
    body = {"deps": body["deps"], "params": body.get("params", [])}
    if cell is not None:
        body = json.loads(_of_cell(json.dumps(body), cell))
    listed = _listed(body["params"], design)
    return body["deps"], {file: _values(Path(file), keys) for file, keys in listed.items()}


def _of_cell(text: str, cell: Cell) -> str:
    """dvc.yaml's words for one cell; what it calls prefix and label together is the cell's label."""
    text = text.replace("${prefix}${item.label}", "${item.label}")
    return re.sub(r"\$\{item\.(\w+)\}", lambda axis: str(getattr(cell, axis.group(1))), text)


def filled(path: str, design: dict[str, Any]) -> str:
    """A path of dvc.yaml with the values of params.yaml in it."""
    return re.sub(r"\$\{([\w.]+)\}", lambda key: str(records.get(design, key.group(1))), path)


def _hash(path: Path) -> str | dict[str, str]:
    """Of a folder, the hash of each Python file in it: Python leaves compiled ones there."""
    if path.is_dir():
        return {file.relative_to(path).as_posix(): _digest(file) for file in sorted(path.rglob("*.py"))}
    return _digest(path)


def _digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            f"{path} is missing; expected the file that {layout.PIPELINE} names, so restore it, or the name"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _listed(entries: Iterable[str | dict[str, list[str]]], design: dict[str, Any]) -> dict[str, list[str]]:
    """Keys by file, of the ``params`` of a stage; plain entries are keys of params.yaml."""
    keys: dict[str, list[str]] = {}
    for entry in entries:
        named = {str(layout.PARAMS): [entry]} if isinstance(entry, str) else entry
        for file, listed in named.items():
            keys.setdefault(filled(file, design), []).extend(listed)
    return keys


def _values(file: Path, keys: Iterable[str]) -> dict[str, Any]:
    content = _read_yaml(file)
    return {key: records.get(content, key) for key in keys}


def _read_yaml(path: Path) -> Any:
    return parse_yaml(path.read_text(encoding="utf-8"), str(path))
