"""The stages of dvc.yaml beside the code and the parameters that they are made of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pessimism.checks import startup
from pessimism.experiment import inputs, layout, pipeline
from support import import_closure
from support.repository import CHECKOUT, python_files

STAGES = {stage.name: stage for stage in pipeline.load_stages(CHECKOUT / layout.PIPELINE)}
WRITTEN: dict[str, Any] = yaml.safe_load((CHECKOUT / layout.PIPELINE).read_text())["stages"]


def _with_recorded(body: dict[str, Any]) -> dict[str, Any]:
    """A stage that depends on a record of inputs depends on all that stands in it."""
    for recorder in (other for name, other in WRITTEN.items() if name.endswith(pipeline.INPUTS)):
        if recorder["outs"][0] in body.get("deps", []):
            inputs = [path for path in recorder["deps"] if path.startswith(CODE) and path not in RECORDING]
            return body | {
                "deps": [*inputs, *body["deps"]],
                "params": [*recorder["params"], *body.get("params", [])],
            }
    return body


CODE = ("src/", "stages/")
RECORDING = {"src/pessimism/experiment/inputs.py", "stages/record_inputs.py"}
BODIES = {name: _with_recorded(body) for name, body in WRITTEN.items()}
"""The stages of dvc.yaml with what they depend on through a record of inputs; in :data:`WRITTEN` they are as there."""

# What these import decides whether a stage runs and what it says, never what it computes.
REFUSING = {f"src/pessimism/checks/{name}.py" for name in ("launch", "stage", "startup")}
# What these keep of unfinished work is taken up or not, and results are the same bytes (tests/test_unfinished.py).
KEEPING = {f"src/pessimism/{name}.py" for name in ("experiment/inputs", "experiment/pipeline", "models/unfinished")}
# Modules that name and carry values, or say what is printed, without computing any. A change in them that matters
# changes a path, a key or a parameter, all of which DVC tracks; listing them would retrain every model for a new error
# message. An __init__ file says what its room is for, and defines nothing.
NOT_TRACKED = {
    "src/pessimism/errors.py",
    *(
        f"src/pessimism/experiment/{name}.py"
        for name in (
            *("cells", "digests", "extensions", "layout", "params", "progress", "protocol", "ranges"),
            *("records", "scale", "schema", "sections", "yaml_files"),
        )
    ),
    *(f"src/pessimism/machine/{name}.py" for name in ("hub", "processes", "resources", "running")),
    *REFUSING,
    *KEEPING,
    *(file.relative_to(CHECKOUT).as_posix() for file in python_files("src") if file.name == "__init__.py"),
}
CONSTANTS = {"src/pessimism/measures/epsilon.py"}

# Modules that import a file by the name that a parameter gives, which no import statement shows.
FOUND_BY_NAME = {
    "src/pessimism/offline/training.py": "src/pessimism/offline/objectives/${offline.objective}.py",
    "src/pessimism/online/loop.py": "src/pessimism/online/objectives/${online.objective}.py",
}

# Modules that look a file up by its name, and the dependencies of which one must tell DVC of it.
FINDERS = {
    "src/pessimism/offline/objective.py": ["src/pessimism/offline/objectives/${offline.objective}.py"],
    "src/pessimism/online/objective.py": ["src/pessimism/online/objectives/${online.objective}.py"],
    "src/pessimism/probes/parts/declaration.py": ["src/pessimism/probes"],
    "src/pessimism/tasks/parts/declaration.py": ["src/pessimism/tasks", str(layout.TASKS), str(layout.SET_ASIDE)],
}

# Modules that find the files of a room by name, which no import statement shows: who imports one depends on the room.
ROOMS = {
    "src/pessimism/tasks/parts/problems.py": "src/pessimism/tasks",
    "src/pessimism/probes/parts/declaration.py": "src/pessimism/probes",
}
# Who only judges answers depends on the problems instead, beside which lies the hash of the one task's code.
JUDGE = "src/pessimism/tasks/parts/declaration.py"

ADAPTERS = {path.parts for path in (layout.REWARD_MEMBERS, layout.DPO_ADAPTERS, layout.ONLINE_ADAPTERS)}
TRL_STAGES = ("train_dpo", "train_reward_model")
WARM_START_STAGES = ("prepare_base", "sample_pairs")  # train an adapter that is merged, or sample from the base alone
MODEL_STAGES = tuple(startup.HELD)
TABLE_STAGES = tuple(name for name, stage in STAGES.items() if stage.script not in MODEL_STAGES)


def script(stage: str) -> Path:
    return CHECKOUT / "stages" / f"{STAGES[stage].script}.py"


@cache
def closure(stage: str) -> set[str]:
    """Files of the package that can change what the stage computes, relative to the checkout.

    A file that a parameter names is listed as dvc.yaml spells it, and what it imports is as imported as anything else.
    """
    files = _followed(script(stage))
    named = {path for module, path in FOUND_BY_NAME.items() if CHECKOUT / module in files}
    for path in named:
        files |= _followed(CHECKOUT / filled(path))
    return {file.relative_to(CHECKOUT).as_posix() for file in files} | named


def _followed(file: Path) -> set[Path]:
    return import_closure.closure(file, ends={CHECKOUT / path for path in REFUSING})


def filled(path: str) -> str:
    """A path of dvc.yaml with the values of params.yaml in it."""
    return inputs.filled(path, yaml.safe_load((CHECKOUT / layout.PARAMS).read_text()))


def tracked(stage: str) -> set[str]:
    """Code that the stage must depend on."""
    if stage.endswith(pipeline.INPUTS):
        return RECORDING | tracked(stage.removesuffix(pipeline.INPUTS))
    return {f"stages/{STAGES[stage].script}.py"} | (closure(stage) - NOT_TRACKED)


def param_keys(stage: str, file: str) -> set[str] | None:
    """Keys of a parameter file that the stage tracks; None for the whole file, or the directory that it lies in."""
    if str(Path(file).parent) in BODIES[stage]["deps"]:
        return None
    keys: set[str] = set()
    for entry in BODIES[stage].get("params", []):
        if isinstance(entry, str):
            keys |= {entry} if file == "params.yaml" else set()
        elif file in entry:
            if entry[file] is None:
                return None
            keys |= set(entry[file])
    return keys


def touches_adapters(stage: str) -> bool:
    paths = STAGES[stage].reads + STAGES[stage].writes
    return STAGES[stage].script in WARM_START_STAGES or any(Path(path).parts[:2] in ADAPTERS for path in paths)


def needs_trl(stage: str) -> bool:
    """Whether it trains with TRL or scores tokens by its kernel."""
    return STAGES[stage].script in TRL_STAGES or "src/pessimism/models/compute/logprobs.py" in closure(stage)
