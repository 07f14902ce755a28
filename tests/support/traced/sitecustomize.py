"""Run by Python at start, for tests/test_smoke.py: notes which parameters a stage reads once it has loaded them, and
which slow libraries it has imported by its end.

What modules read that only refuse, or record what differs (REFUSING), is left out: no result depends on it.
"""

import atexit
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from pessimism.experiment import params

REFUSING = ("startup.py", "launch.py", "switches.py")
seen: dict[str, set[str]] = {"Params": set(), "Scale": set(), "Protocol": set()}
sections: dict[int, str] = {}
load_params = params.load_params
kept: list[params.Params] = []  # so that no section's id is given to another object
loading = False  # validation reads everything


def load_and_trace(*arguments: Any) -> params.Params:
    """Load, then note every plain value that is read: those of a file's sections as ``section.name``."""
    global loading
    loading = True
    loaded = load_params(*arguments)
    kept.append(loaded)
    kinds = {kind: kind.__name__ for kind in (params.Params, params.Scale, params.Protocol)}
    for whole in (loaded, loaded.scale):
        for field in dataclasses.fields(whole):
            value = getattr(whole, field.name)
            if dataclasses.is_dataclass(value) and type(value) not in (params.Scale, params.Protocol):
                sections[id(value)] = f"{field.name}."
                kinds[type(value)] = type(whole).__name__
    params.Scale.model = lambda self, role: getattr(self, role)  # one role, not both
    for kind, owner in kinds.items():
        trace(kind, owner)
    loading = False
    return loaded


def trace(kind: type, owner: str) -> None:
    names = {field.name for field in dataclasses.fields(kind)}

    def get(self: object, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in names and id(value) not in sections and not loading and not refusing():
            seen[owner].add(sections.get(id(self), "") + name)
        return value

    kind.__getattribute__ = get  # type: ignore[method-assign, assignment]


def refusing() -> bool:
    """Whether a module of REFUSING is at work."""
    frame = sys._getframe()
    while frame and not frame.f_code.co_filename.endswith(REFUSING):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def write() -> None:
    folder = Path(os.environ["TRACED_PARAMS"])
    names = {kind: sorted(found) for kind, found in seen.items()}
    libraries = sorted({"torch", "transformers", "peft", "trl", "bitsandbytes"} & sys.modules.keys())
    (folder / f"{os.environ['DVC_STAGE']}.json").write_text(json.dumps({**names, "libraries": libraries}))


if "DVC_STAGE" in os.environ and "TRACED_PARAMS" in os.environ:
    params.load_params = load_and_trace
    atexit.register(write)
