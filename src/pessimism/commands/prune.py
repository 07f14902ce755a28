"""Removal of what a sweep leaves behind once params.yaml no longer lists its cells.

DVC deletes the outputs of stages that it runs again, not those of cells that left a matrix. Whatever is removed here
stays in DVC's cache: listing the cell again brings it back without running it.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pessimism.errors import DataError
from pessimism.experiment import layout, pipeline, records
from pessimism.experiment.cells import Cell, is_cell_key
from pessimism.experiment.params import Params, load_params
from pessimism.experiment.yaml_files import parse_yaml

_SUFFIX = re.compile(r"\.(json|parquet)\Z")
_OF_REWARD = re.compile(r"s\d+|member-\d+")  # a seed's ensemble, and a member within it


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(options: argparse.Namespace) -> None:
    print("\n".join(f"removed {name}" for name in prune()) or "nothing left over")


def prune() -> list[str]:
    """Remove left-over cells and lock entries; return what was removed.

    Raises:
        ParamsError: the parameters are not usable, so that what is left over cannot be told.
    """
    params = load_params()
    removed = left_over_files(params)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [*map(str, removed), *(f"{layout.LOCK}: {name}" for name in _prune_lock(params))]


def left_over_files(params: Params) -> list[Path]:
    """Outputs, run records and unfinished work of cells that ``params`` does not list; no names that are no cell's."""
    paths = _wanted_paths(params)
    parents = {path.parent for path in paths}
    found = [path for parent in sorted(parents) if parent.is_dir() for path in sorted(parent.iterdir())]
    outputs = [path for path in found if _is_cells(path) and path not in paths]
    return outputs + _left_over_records(_keys(params))


def _keys(params: Params) -> set[str]:
    cells: list[Cell] = [*params.reward_cells(), *params.dpo_cells(), *params.online_cells()]
    recorded = {stage.name.removesuffix(pipeline.INPUTS) for stage in pipeline.load_stages()}
    return recorded | {cell.key for cell in cells}


def _is_cells(path: Path) -> bool:
    """Whether a path is named as an output of a cell is. Labels hold dots, so that only a known suffix is one."""
    if path.is_relative_to(layout.REWARD_MEMBERS):
        return _OF_REWARD.fullmatch(path.name) is not None
    return is_cell_key(_SUFFIX.sub("", path.name))


def _wanted_paths(params: Params) -> set[Path]:
    ensembles = {layout.reward_ensemble(seed) for seed in params.seeds}
    members = {layout.reward_member(cell) for cell in params.reward_cells()}
    of_checkpoint = (layout.dpo_adapter, layout.probe, layout.best_of_n_draws)
    dpo = {path(cell) for cell in params.dpo_cells() for path in of_checkpoint}
    online = {path(cell) for cell in params.online_cells() for path in (layout.online_adapter, layout.online_run)}
    return ensembles | members | dpo | online


def _left_over_records(keys: set[str]) -> list[Path]:
    """Times of cells, the rows that were watched, and unfinished work."""
    records = sorted(layout.RUN_RECORDS.glob("*@*.json"))
    rows = sorted(path for path in layout.RUN_RECORDS.glob("*.jsonl") if is_cell_key(path.stem))
    named = {path: path.stem for path in (*records, *rows)}
    named |= {path: path.name for path in sorted(layout.UNFINISHED.glob("*@*"))}
    return [path for path, name in named.items() if name.rpartition("@")[2] not in keys]


def _prune_lock(params: Params) -> list[str]:
    """Remove entries of dvc.lock that dvc.yaml and ``params`` no longer imply; return their names."""
    if not layout.LOCK.is_file():
        return []
    wanted = pipeline.expected_lock_names(params)
    text = layout.LOCK.read_text(encoding="utf-8")
    orphans = [name for name in parse_yaml(text, str(layout.LOCK))["stages"] if name not in wanted]
    if orphans:
        records.write_text(layout.LOCK, without_entries(text, orphans))
    return orphans


def without_entries(text: str, names: Iterable[str]) -> str:
    """Drop ``names`` from the text of a dvc.lock and leave every other byte as DVC wrote it.

    Raises:
        DataError: the text is not laid out as DVC writes it, so that lines cannot be told apart safely.
    """
    dropped = set(names)
    kept, drop = [], False
    for line in text.splitlines(keepends=True):
        if re.match(r"  \S", line):
            drop = line.strip().removesuffix(":").strip("'\"") in dropped
        elif re.match(r"\S", line):
            drop = False
        if not drop:
            kept.append(line)
    result = "".join(kept)
    before, after = (parse_yaml(content, str(layout.LOCK)) for content in (text, result))
    if (after["stages"] or {}) != {name: entry for name, entry in before["stages"].items() if name not in dropped}:
        raise DataError(f"{layout.LOCK} is not laid out as DVC writes it; remove {sorted(dropped)} from it by hand")
    return result
