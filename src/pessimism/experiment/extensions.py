"""Places to extend: a file in a folder is found by its name, and declares one object.

Modules found so are imported when they are asked for: a stage depends on the one that the parameters name, and a new
file reruns nothing until one names it. All probes are always on, so that a new one reruns probe_policy.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

from pessimism.errors import ParamsError

Declared = TypeVar("Declared")


def names(package: str) -> list[str]:
    """Names of the files of a package, sorted; what they share lies in folders next to them."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(module.name for module in found if not module.ispkg)


def name_problem(package: str, name: str, asked_by: str) -> str | None:
    """What is wrong with the name of a file of a package, told without importing it; None where it has such a file.

    Args:
        package: dotted name of the folder.
        asked_by: the parameter that names the file, for the message.
    """
    known = names(package)
    if name in known:
        return None
    folder = package.replace(".", "/")
    return f"{asked_by}: found {name!r}; expected one of {known}, or a new file src/{folder}/{name}.py"


def find(package: str, name: str, kind: type[Declared], asked_by: str) -> Declared:
    """The one object of class ``kind`` that the file ``name`` of a package defines.

    Args:
        package: dotted name of the folder.
        asked_by: the parameter that names the file, for the message.

    Raises:
        ParamsError: there is no such file, or it does not define exactly one such object.
    """
    problem = name_problem(package, name, asked_by)
    if problem:
        raise ParamsError(problem)
    module = importlib.import_module(f"{package}.{name}")
    declared = [value for value in vars(module).values() if isinstance(value, kind)]
    if len(declared) != 1:
        raise ParamsError(f"{module.__file__}: found {len(declared)} of {kind.__name__}; expected one")
    return declared[0]
