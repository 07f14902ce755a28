"""Conservatism and reward hacking, from offline preference optimisation to online adaptation.

For a notebook or a script::

    import pessimism as ps

    run = ps.load_run("HEAD")  # or a branch, an experiment of DVC, a project's directory
    run.cells, run.claims, run.draw("gap")
    ps.measures.goodhart.augc

Nothing of it is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["FinishedRun", "__version__", "load_run", "measures"]

_HOMES = {"FinishedRun": "pessimism.runs.finished", "load_run": "pessimism.runs.finished"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pessimism")
    if name == "measures":
        return importlib.import_module("pessimism.measures")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
