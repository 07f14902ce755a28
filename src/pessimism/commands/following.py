"""Logs that are still written, looked at again and again: each new step is told, and the onset of hacking."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pessimism.errors import DataError
from pessimism.measures.goodhart import hacking_onset
from pessimism.scoring.log_formats import grows_by_lines, is_table
from pessimism.scoring.log_scores import LogDesign, measured_run, starting_unit
from pessimism.scoring.log_table import LogColumns
from pessimism.scoring.measured import REWARDS
from pessimism.scoring.run_log import Log, LoggedRun, read_log

NO_UNIT = (
    "found no spread of the rewards at the first step; expected one, in which the onset's gap is counted: give a row "
    "per sample, or --proxy-sd and --true-sd"
)


def files_in(paths: Sequence[Path]) -> list[Path]:
    """The files of ``paths``.

    Raises:
        DataError: a directory holds no table.
    """
    for path in paths:
        if path.is_dir() and not _tables(path):
            raise DataError(f"{path}: found no table in it; expected the files of a log, as .csv, .jsonl or .parquet")
    return [file for path in paths for file in _tables(path)]


def _tables(path: Path) -> list[Path]:
    """A file, or the tables of a directory by name, as trainers write one with a file per step."""
    return sorted(file for file in path.iterdir() if is_table(file)) if path.is_dir() else [path]


class GrowingFiles:
    """Files that somebody writes, or directories that fill with them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._seen: dict[Path, tuple[int, int]] = {}

    def readable(self) -> list[Path]:
        """The files that can be read now: those that grow by lines, and others that nobody has touched since."""
        files = [file for path in self._paths if path.exists() for file in _tables(path)]
        before, self._seen = self._seen, {file: _state(file) for file in files}
        settled = [file for file in files if grows_by_lines(file) or before.get(file) == self._seen[file]]
        return [file for file in settled if self._seen[file][0]]


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def looks(paths: Sequence[Path], columns: LogColumns, pause: float) -> Iterator[Log]:
    """What stands in the files now, after ``pause`` seconds again, and so on without end.

    What is waited for is said on the standard error, once.
    """
    files, said = GrowingFiles(paths), set[str]()
    while True:
        readable = files.readable()
        log = read_log(readable, columns, growing=True) if readable else Log([])
        for line in _awaited(paths, log, columns):
            if line not in said:
                print(line, file=sys.stderr, flush=True)
                said.add(line)
        yield log
        time.sleep(pause)


def _awaited(paths: Sequence[Path], log: Log, columns: LogColumns) -> list[str]:
    """What a watch lacks: tables, or in these the steps of a run."""
    lacking = [path for path in paths if not path.exists() or not _tables(path)]
    if lacking or log.runs:
        return [f"{path}: found no table yet; waiting for one" for path in lacking]
    return [f"found no run yet; waiting for two whole steps with numbers in {columns.proxy!r} and {columns.true!r}"]


def follow(logs: Iterator[Log], design: LogDesign, until_onset: bool) -> Iterator[str]:
    """Tell every step of every run once, and once its onset.

    A run that starts later may change the unit of all, so that an onset may come to a step that is told already: the
    onset is told all the same. A run whose last step lies before one that is told was started again, and is a new one.

    Args:
        logs: the same growing log again and again.
        until_onset: whether to end where a run that is no placebo comes to its onset.

    Yields:
        A line per step: the change of each reward since the first step and the controlled gap, in base sd.

    Raises:
        DataError: the log does not give the unit of the controlled measure.
    """
    told: dict[str, int] = {}
    alarmed: set[str] = set()
    for log in logs:
        for run in log.runs:
            name, steps = f"{run.name}: " if run.identity else "", _steps(run, log)
            last = steps.index[-1]
            if last < told.get(run.name, last):
                del told[run.name]
                alarmed.discard(run.name)
            new = steps[steps.index > told[run.name]] if run.name in told else steps
            for step, row in new.iterrows():
                yield f"{name}step {step}: proxy {row.proxy:+.2f}, true {row.true:+.2f}, gap {row.gap:+.2f} base sd"
            told[run.name] = last
            onset = hacking_onset(steps.index.to_numpy(), steps["gap"].to_numpy(), design.threshold)
            if onset is not None and run.name not in alarmed:
                alarmed.add(run.name)
                yield f"{name}ONSET at step {onset}: the controlled gap is above {design.threshold:g} base sd"
                if until_onset and not design.is_placebo(run):
                    return


def _steps(run: LoggedRun, log: Log) -> pd.DataFrame:
    """By step: the change of each reward and the controlled gap, in base sd."""
    unit, _ = starting_unit(log.runs)
    if unit is None:
        raise DataError(NO_UNIT)
    measured = measured_run(run, unit)
    proxy_T, true_T = (measured.change_T[reward] for reward in REWARDS)
    return pd.DataFrame({"proxy": proxy_T, "true": true_T, "gap": measured.gap_T}, index=measured.controlled.steps_T)
