"""Arrays in, numbers out: gaps, trends, intervals, curves over beta.

Knows no file, no parameter and no table of ours; it imports nothing of this package but its errors. Its modules are
attributes, as in ``measures.goodhart``, each imported when it is first asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__all__ = [module.name for module in pkgutil.iter_modules(__path__)]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
