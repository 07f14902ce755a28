"""Which stages a change reruns, by file and by parameter: ``make reruns`` writes docs/reruns.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pessimism.experiment import layout, pipeline
from support.repository import CHECKOUT, python_files
from support.stage_code import BODIES, MODEL_STAGES, param_keys, tracked
from support.stage_code import STAGES as ALL_STAGES

STAGES = {name: stage for name, stage in ALL_STAGES.items() if name == stage.script}
PAGE = CHECKOUT / "docs/reruns.md"
PACKAGE = "src/pessimism/"
CONSTANT = "check_params"
"""It always writes the same, so nothing runs again because of it."""

NOTHING, TABLES, MODELS = "Nothing", "Tables only", "Models"
Stages = tuple[str, ...]
Rows = dict[Stages, list[str]]
"""Stages, and all that makes exactly these run again."""

OPENING = f"""\
# What a change runs again

Written by `make reruns` from the imports and `dvc.yaml`; `tests/test_reruns.py` compares. Where a
file moves to a lower part, or its row gains a stage, a change of it has become dearer.

A stage runs again where something has changed that it depends on. A stage behind it follows only where what it writes
has changed too. `{CONSTANT}` always writes the same, so nothing follows it. Stages in bold run a model: minutes at the
tiny scale, hours at the paper's. Stages named `..._by_label` run what their first parts run, for the cells of
`offline_cells`: they have no rows of their own, and run again where their first parts do or the list gains a value.
Neither have stages named `..._inputs`, which record what a stage with cells depends on: they run in an instant, and the
cells behind them where the record has changed. A file of `objectives/` reruns what its row says where a parameter names
it, and else nothing. Of the table `arms` of a protocol, a cell depends on the entry of its own arm alone.

## Source files

`stages/<name>.py` runs the stage of its name again. The rest is below `{PACKAGE}`:
"""
PARTS = {
    NOTHING: "Commands, estimates, checks, names and paths: no result depends on them, or on an `__init__.py`.",
    TABLES: "Scores, claims and the report, in seconds. Neither these stages nor any behind them run a model.",
    MODELS: "The stages that run a model, and those whose results models are made from. A row without bold runs in\n"
    "seconds, and models follow where its results have changed.",
}
PARAMETERS = """\
## Parameters

`{whole}` depend on every one and are left out of the rows. Where a list of `params.yaml` gains
a value, a stage with cells runs those of the new value alone. `scale` and `protocol` name another file: a stage runs
again where a value that it depends on is not the same in both.
"""


def page() -> str:
    """The whole page."""
    files = sources()
    parts = [OPENING]
    parts += [f"### {title}\n\n{intro}\n\n{_table('file', _folded(files, title))}\n" for title, intro in PARTS.items()]
    parts.append(PARAMETERS.format(whole="` and `".join(_whole())))
    parts += [f"### `{title}`\n\n{_table('key', keys)}\n" for title, keys in _parameters()]
    return "\n".join(parts)


@cache
def part_of(stages: Stages) -> str:
    """What the change of a file that ``stages`` depend on may cost."""
    reached = _with_later(set(stages))
    return NOTHING if not reached else MODELS if reached & set(MODEL_STAGES) else TABLES


def sources() -> dict[str, Stages]:
    """Each module of the package that is more than an ``__init__``, and the stages that depend on it."""
    needs = {stage: re.compile("|".join(map(_covering, {*tracked(stage), *_rooms(stage)}))) for stage in STAGES}
    names = [file.relative_to(CHECKOUT).as_posix() for file in python_files("src") if file.name != "__init__.py"]
    return {
        name.removeprefix(PACKAGE): tuple(stage for stage in STAGES if needs[stage].fullmatch(name)) for name in names
    }


def _rooms(stage: str) -> list[str]:
    """Folders of the package that the stage depends on whole."""
    return [f"{path}/" for path in BODIES[stage]["deps"] if path.startswith("src/") and not path.endswith(".py")]


def _covering(path: str) -> str:
    """Pattern of the files that a dependency covers: a file, a folder's, or those that a parameter may name."""
    return re.sub(r"\\\$\\{.*?\\}", r"\\w+", re.escape(path)) + (".*" if path.endswith("/") else "")


def _with_later(stages: set[str]) -> set[str]:
    pairs = [pair for pair in pipeline.edges(list(STAGES.values())) if pair[0] != CONSTANT]
    while later := {later for earlier, later in pairs if earlier in stages} - stages:
        stages = stages | later
    return stages


def _folded(files: Mapping[str, Stages], title: str) -> Rows:
    """The files of one part; a folder of which all files run the same stands for these."""
    rows: Rows = {}
    for file, stages in files.items():
        folder = f"{Path(file).parent}/"
        alike = {others for name, others in files.items() if name.startswith(folder)} == {stages}
        if part_of(stages) == title:
            rows.setdefault(stages, []).append(folder if alike else file)
    return {stages: _braced(dict.fromkeys(names)) for stages, names in rows.items()}


def _braced(names: Iterable[str]) -> list[str]:
    """Files of one folder as one name, as a shell would write them: ``folder/{one,other}.py``."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name[: name.rfind("/") + 1], []).append(name)
    return [
        f"{folder}{{{','.join(Path(file).stem for file in files)}}}.py" if len(files) > 1 else files[0]
        for folder, files in folders.items()
    ]


def _parameters() -> Iterator[tuple[str, Rows]]:
    """Each file of parameters with its keys; a section of which all keys run the same stands for these."""
    for file, pattern in (
        (layout.PARAMS, "params.yaml"),
        (layout.scale_file("tiny"), "scales/${scale}.yaml"),
        (layout.protocol_file("paper"), "protocols/${protocol}.yaml"),
    ):
        rows: Rows = {}
        for name, value in yaml.safe_load((CHECKOUT / file).read_text()).items():
            keys = {key: _tracking(pattern, key) for key in _keys(name, value)}
            for key, stages in keys.items():
                rows.setdefault(stages, []).append(name if len(set(keys.values())) == 1 else key)
        yield pattern, {stages: list(dict.fromkeys(names)) for stages, names in rows.items()}


def _keys(name: str, value: Any) -> list[str]:
    return [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]


def _whole() -> Stages:
    """Stages that track the files of parameters whole."""
    return tuple(stage for stage in STAGES if param_keys(stage, "params.yaml") is None)


def _tracking(file: str, key: str) -> Stages:
    """The stages that list the key, its section, or (of params.yaml) a path or a command that it is part of."""
    used = re.compile(rf"\$\{{{key}\b") if file == "params.yaml" else re.compile(r"(?!)")
    return tuple(
        stage
        for stage in STAGES
        if stage not in _whole()
        and ({key, key.partition(".")[0]} & _tracked_keys(stage, file) or used.search(str(BODIES[stage])))
    )


def _tracked_keys(stage: str, file: str) -> set[str]:
    """Keys as a stage lists them; of one that names a part by the cell, the section."""
    return {key.partition(".${")[0] for key in param_keys(stage, file) or set()}


def _table(what: str, rows: Rows) -> str:
    """Rows that run fewer stages first, and of those the ones that run later ones."""
    if list(rows) == [()]:
        return _listed(rows[()])
    order = sorted(rows, key=lambda stages: (len(stages), [-list(STAGES).index(stage) for stage in stages]))
    return "\n".join(
        [
            f"| {what} | runs again |",
            "|---|---|",
            *(f"| {_listed(rows[stages])} | {_named(stages)} |" for stages in order),
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _named(stages: Stages) -> str:
    if set(MODEL_STAGES) <= set(stages):
        others = [stage for stage in stages if stage not in MODEL_STAGES]
        return ", ".join(["**every stage that runs a model**", *others])
    return ", ".join(f"**{stage}**" if stage in MODEL_STAGES else stage for stage in stages) or "no other"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
