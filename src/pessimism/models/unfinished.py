"""What a long stage keeps of its unfinished work, so that its next run goes on where a kill, a full disk or a lost
machine has ended it.

It lies outside DVC's outputs, which DVC removes before a stage runs. A directory per stage and cell holds the
fingerprint of what the work is made of, and its last state as a folder ``step-N``, which is there whole or not at
all. A run of other code, parameters or inputs finds nothing there; one that ends well leaves nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from pessimism.data.hashing import content_hash
from pessimism.errors import ParamsError
from pessimism.experiment import inputs, layout, records
from pessimism.experiment.cells import Cell
from pessimism.machine import processes

EVERY_SECONDS = "PESSIMISM_KEEP_SECONDS"
"""Environment variable: least seconds between two kept states; what a kill may cost, against the time of a write."""
DEFAULT_SECONDS = 120.0
FINGERPRINT = "fingerprint.txt"
STEP = "step-"
ARRAYS = "arrays.safetensors"
COMPUTING = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")


@contextmanager
def kept_work(stage: str, cell: Cell | None = None) -> Iterator[Keeper]:
    """What keeps the work of ``stage``, on ``cell`` where it has cells; all is forgotten once the work has ended well.

    Raises:
        ParamsError: the environment asks for a time between two states that is none.
    """
    keeper = Keeper(open_directory(stage, cell))
    yield keeper
    remove(keeper.directory)


def open_directory(stage: str, cell: Cell | None = None) -> Path:
    """Where ``stage`` keeps its work, without what was made of other code, parameters or inputs.

    Raises:
        ParamsError: the environment asks for a time between two states that is none.
    """
    _seconds()
    directory = layout.unfinished(stage, cell)
    if not is_kept():
        remove(directory)
        return directory
    made_of = fingerprint(stage, cell)
    if _read(directory / FINGERPRINT) != made_of:
        remove(directory)
        records.write_text(directory / FINGERPRINT, made_of)
    _clear(directory, Keeper(directory).latest())
    return directory


def is_kept() -> bool:
    """Whether unfinished work is kept: not of a training that several processes share, each with rows of its own."""
    return processes.count() == 1


def remove(directory: Path) -> None:
    """Forget the work. Its fingerprint goes first: what a kill leaves of the rest is nobody's."""
    if processes.is_main() and directory.is_dir():
        (directory / FINGERPRINT).unlink(missing_ok=True)
        shutil.rmtree(directory)


def fingerprint(stage: str, cell: Cell | None = None) -> str:
    """SHA-256 of all that the work is made of: code, parameters and inputs of dvc.yaml, libraries, the device."""
    paths, parameters = inputs.listed_inputs(stage, cell)
    made_of = {
        # As it is now, which the record among the inputs may not be; a stage without cells lists its code itself.
        "shared": None if cell is None else inputs.shared_inputs(stage),
        "inputs": {path: content_hash(Path(path)) for path in paths},
        "parameters": parameters,
        "libraries": {name: importlib.metadata.version(name) for name in COMPUTING},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _seconds() -> float:
    asked = os.environ.get(EVERY_SECONDS, str(DEFAULT_SECONDS))
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ParamsError(f"{EVERY_SECONDS}: found {asked!r}; expected seconds, 0 or more: change or unset it")
    return seconds


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


@dataclass
class Keeper:
    """Keeps the last state of one stage's work in ``directory``."""

    directory: Path
    kept_at: float = field(default_factory=time.monotonic)

    def latest(self) -> Path | None:
        """The kept state; None where there is none."""
        return max(self.directory.glob(f"{STEP}*"), key=step_of, default=None)

    def is_due(self) -> bool:
        """Whether the last state is so old that the next one shall be kept."""
        return is_kept() and time.monotonic() - self.kept_at >= _seconds()

    def keep(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep the state before ``step`` in place of an earlier one.

        Args:
            write: writes it into an empty folder.
        """
        partial = self.directory / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        self.take(step, partial)

    def take(self, step: int, written: Path) -> None:
        """Make a folder that is written the kept state, and remove what else lies there."""
        whole = self.directory / f"{STEP}{step}"
        for path in (*written.rglob("*"), written):
            _to_disk(path)  # before the name is: a machine that loses power keeps names of files without their content
        os.rename(written, whole)
        _to_disk(self.directory)
        _clear(self.directory, whole)
        self.kept_at = time.monotonic()


class KeptResults:
    """Arrays that a stage computes one after the other; those that an earlier run has kept are not computed again.

    Args:
        keeper: of the stage.
    """

    def __init__(self, keeper: Keeper) -> None:
        state = keeper.latest()
        self._keeper = keeper
        self._arrays: dict[str, np.ndarray] = {} if state is None else load_file(state / ARRAYS)

    def result(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array ``name``, which is computed where it is not kept."""
        if name not in self._arrays:
            self._arrays[name] = compute()
            if self._keeper.is_due():
                self._keeper.keep(len(self._arrays), lambda folder: save_file(self._arrays, folder / ARRAYS))
        return self._arrays[name]


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _clear(directory: Path, whole: Path | None) -> None:
    """Remove every folder but ``whole``: earlier states, and what a kill has left half written."""
    for other in directory.iterdir():
        if other.is_dir() and other != whole:
            shutil.rmtree(other)


def step_of(state: Path) -> int:
    """The step before which a kept state was taken."""
    return int(state.name.removeprefix(STEP))
