"""Run by Python at start, for tests/test_smoke.py: notes which parameters a stage reads once it has loaded them, and
which slow libraries it has imported by its end."""

import atexit
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from pessimism import params

seen: dict[str, set[str]] = {"Params": set(), "Scale": set(), "Protocol": set()}
load_params = params.load_params


def load_and_trace(*arguments: Any) -> params.Params:
    loaded = load_params(*arguments)
    params.Scale.model = lambda self, role: getattr(self, role)  # one role, not both
    for kind in (params.Params, params.Scale, params.Protocol):
        trace(kind)
    return loaded


def trace(kind: type) -> None:
    names = {field.name for field in dataclasses.fields(kind)}

    def get(self: object, name: str) -> Any:
        if name in names:
            seen[kind.__name__].add(name)
        return object.__getattribute__(self, name)

    kind.__getattribute__ = get  # type: ignore[method-assign, assignment]


def write() -> None:
    folder = Path(os.environ["TRACED_PARAMS"])
    names = {kind: sorted(found) for kind, found in seen.items()}
    libraries = sorted({"torch", "transformers", "peft", "trl"} & sys.modules.keys())
    (folder / f"{os.environ['DVC_STAGE']}.json").write_text(json.dumps({**names, "libraries": libraries}))


if "DVC_STAGE" in os.environ and "TRACED_PARAMS" in os.environ:
    params.load_params = load_and_trace
    atexit.register(write)
