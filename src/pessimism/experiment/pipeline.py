"""dvc.yaml as a graph of stages, and the names that DVC gives to the cells of a matrix stage."""

from __future__ import annotations

import itertools
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.experiment.yaml_files import parse_yaml

_REFERENCE = re.compile(r"\$\{(\w+)\}")
INPUTS = "_inputs"
"""Ends the name of the stage that records what all cells of another share."""

_SCRIPT = re.compile(r"\bstages/(\w+)\.py\b")


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml; paths are as written there, templates such as ``${item.seed}`` included."""

    name: str
    script: str
    """Name of the script that it runs, which is its own but for stages that run another's on more cells."""
    description: str
    axes: dict[str, str]
    """Matrix axis -> the key of params.yaml that lists its values; empty for a stage that runs once."""
    reads: tuple[str, ...]
    """Dependencies, and the files whose keys stand under ``params``."""
    writes: tuple[str, ...]
    """Outputs and metrics."""


def load_stages(path: Path = layout.PIPELINE) -> list[Stage]:
    """Read the stages of dvc.yaml in the order of the file.

    Raises:
        DataError: the file is missing.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; expected it in the working directory ({Path.cwd()}), the project's root")
    stages = parse_yaml(path.read_text(encoding="utf-8"), str(path))["stages"]
    return [_stage(name, body) for name, body in stages.items()]


def _stage(name: str, body: dict[str, Any]) -> Stage:
    axes = {axis: _REFERENCE.fullmatch(value) for axis, value in body.get("matrix", {}).items()}
    unknown = [axis for axis, reference in axes.items() if reference is None]
    if unknown:
        raise DataError(f"dvc.yaml: {name}: axis {unknown[0]} lists values itself; expected ${{a key of params.yaml}}")
    script = _SCRIPT.search(body["cmd"])
    if script is None:
        raise DataError(f"dvc.yaml: {name}: cmd: found {body['cmd']!r}; expected a script of stages/")
    files = [path for entry in body.get("params", []) if isinstance(entry, dict) for path in entry]
    return Stage(
        name=name,
        script=script.group(1),
        description=body.get("desc", ""),
        axes={axis: reference.group(1) for axis, reference in axes.items() if reference},
        reads=(*_paths(body.get("deps", [])), *files),
        writes=(*_paths(body.get("outs", [])), *_paths(body.get("metrics", []))),
    )


def _paths(entries: list[str | dict[str, Any]]) -> list[str]:
    """Paths of a DVC list, whose entries are plain or carry options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def edges(stages: list[Stage]) -> set[tuple[str, str]]:
    """Pairs (earlier, later) where a stage reads what another writes."""
    return {
        (writer.name, reader.name)
        for writer, reader in itertools.permutations(stages, 2)
        if any(overlap(written, read) for written in writer.writes for read in reader.reads)
    }


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The fewest of ``pairs`` that still imply the order of all: no edge beside a longer path."""
    return {
        (start, end)
        for start, end in pairs
        if not any(_reaches(pairs, middle, end) for first, middle in pairs if first == start and middle != end)
    }


def _reaches(pairs: set[tuple[str, str]], start: str, end: str) -> bool:
    return start == end or any(_reaches(pairs, later, end) for earlier, later in pairs if earlier == start)


def overlap(written: str, read: str) -> bool:
    """Whether one path is the other or lies in it; below a template every cell counts as one."""
    left, right = _fixed_part(written), _fixed_part(read)
    shorter = min(len(left), len(right))
    return left[:shorter] == right[:shorter]


def _fixed_part(path: str) -> tuple[str, ...]:
    return tuple(itertools.takewhile(lambda part: "${" not in part, PurePosixPath(path).parts))


def lock_names(stages: list[Stage], lists: dict[str, list[Any]]) -> list[str]:
    """Names under which DVC records the stages in dvc.lock, e.g. ``train_dpo@50-0``.

    Args:
        stages: the stages of dvc.yaml.
        lists: each key of params.yaml that an axis refers to, and its values.
    """
    names = []
    for stage in stages:
        cells = itertools.product(*(lists[key] for key in stage.axes.values()))
        names += [f"{stage.name}@{'-'.join(map(str, cell))}" if cell else stage.name for cell in cells]
    return names


def expected_lock_names(params: Params) -> list[str]:
    """Names in dvc.lock after a run of everything that ``params`` list."""
    lists = {key: list(value) for key, value in asdict(params).items() if isinstance(value, tuple)}
    return lock_names(load_stages(), lists)
