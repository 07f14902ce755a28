"""Logs of training runs that somebody else's trainer wrote, as arrays: which rows are which run, checked on read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pessimism.errors import DataError
from pessimism.scoring.log_table import FILE, LARGEST, LogColumns, read_rows
from pessimism.scoring.measured import REWARDS, Curves

_SPLIT = "name the columns that tell runs apart with --group, --beta, --seed or --arm"
_RESUMED = "where a run was resumed, remove what it wrote before of the steps that it wrote again"


@dataclass(frozen=True)
class Start:
    """One reward over the samples of a run's first step.

    Attributes:
        variance: over these samples, or as given; None where neither is known.
        count: samples.
        mean: over them.
        binary: whether every sample of the run is 0 or 1.
        given: whether the variance is a number that the caller gave for every run.
    """

    variance: float | None
    count: int
    mean: float
    binary: bool
    given: bool = False


@dataclass(frozen=True)
class LoggedRun:
    """One training run of a log.

    Attributes:
        identity: label in each group column, as text.
        samples_T: (T,) rows per step; 1 everywhere = the table holds means.
        curves: both rewards over the steps, and ``kl_k3`` where the log has a KL.
        start: spread of both rewards at the first step, by name.
    """

    identity: dict[str, str]
    samples_T: np.ndarray
    curves: Curves
    start: dict[str, Start]

    @property
    def name(self) -> str:
        """Its labels, for messages."""
        return ", ".join(f"{column} {label}" for column, label in self.identity.items()) or "the run"


@dataclass(frozen=True)
class Log:
    """Runs of a log, and what a reader should know of the rows they were made of."""

    runs: list[LoggedRun]
    notes: list[str] = field(default_factory=list)


def read_log(paths: Sequence[Path], columns: LogColumns, growing: bool = False) -> Log:
    """Read tables that together hold one or more runs, in any format of ``log_formats``.

    Rows of one run stand in the order of its steps; a run may be spread over files, a step may not. Where a run with
    one row per step goes back to a step that it has written, behind its second, it was resumed: its later rows count.

    Args:
        growing: whether somebody still writes the files. Left out are then a line that has no end yet, the last step of
            a run of samples where it has fewer than the first, and a run without two steps that have both rewards.

    Raises:
        DataError: a file, a column or a value is missing, not a number, or out of order.
        NonFiniteError: a value is infinite.
    """
    table, notes = read_rows(paths, columns, growing)
    if growing:
        table = _whole_steps(table, columns)
    if not columns.groups:
        if growing and table.empty:
            return Log([], notes)
        run, said = _run({}, table, columns)
        return Log([run], notes + said)
    runs = []
    # A tuple as the key of every group, also of a single column.
    for key, rows in table.groupby([f"group:{name}" for name in columns.groups], sort=False):
        assert isinstance(key, tuple)
        run, said = _run(dict(zip(columns.groups, map(str, key), strict=True)), rows, columns)
        runs.append(run)
        notes += said
    return Log(runs, notes)


def _whole_steps(table: pd.DataFrame, columns: LogColumns) -> pd.DataFrame:
    """Rows of the steps that are written, of runs that have two of them with both rewards.

    The last step is the highest, wherever it stands: a directory's files come by name, 10 before 9.
    """
    names = [f"group:{name}" for name in columns.groups]
    runs = table.groupby(names, sort=False) if names else [((), table)]
    whole = [rows[:0] for rows in [table]]
    for _, rows in runs:
        steps = rows["step"]
        last = steps == steps.max()
        if last.sum() < (steps == steps.min()).sum():
            rows = rows[~last]
        if rows.dropna(subset=list(REWARDS))["step"].nunique() > 1:
            whole.append(rows)
    return pd.concat(whole)


def _run(identity: dict[str, str], rows: pd.DataFrame, columns: LogColumns) -> tuple[LoggedRun, list[str]]:
    name = LoggedRun(identity, np.array([]), Curves(np.array([]), {}), {}).name
    written, notes = _in_order(name, rows)
    _check_counts(name, written, columns)
    notes += _doubled_start(name, written)
    rows = written.dropna(subset=list(REWARDS))
    samples = rows.groupby("step").size()
    if len(samples) < 2:
        only = f"found step {samples.index[0]:g} alone" if len(samples) else "found no row with both rewards"
        raise DataError(f"{name}: {only}; expected at least two steps to see a change: give all files of the run")
    if written["step"].min() < samples.index[0]:
        notes.append(
            f"In {name} step {written['step'].min():.0f} lacks a reward, so that the baseline is step "
            f"{samples.index[0]:.0f}, which need not be the untouched policy."
        )
    by_step = rows.groupby("step")
    prompts = {reward: _prompt_means(rows, reward) for reward in REWARDS} if "prompt" in rows else {}
    curves = Curves(
        steps_T=samples.index.to_numpy().astype(int),
        mean_T={name: by_step[name].mean().to_numpy() for name in (*REWARDS, "kl_k3") if name in rows},
        prompt_T_N={reward: values for reward, values in prompts.items() if values is not None},
    )
    start = {reward: _start(rows, samples, reward, sd) for reward, sd in columns.sds.items()}
    return LoggedRun(identity, samples.to_numpy(), curves, start), notes


def _in_order(run: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows without those that a resumed run wrote again, and how many these were."""
    parts, notes = [], []
    for path, part in rows.groupby("path", sort=False):
        kept = _latest(run, str(path), part)
        if len(kept) < len(part):
            notes.append(
                f"{path} goes back to steps that it has written in {run}, as a resumed run does: the later rows count, "
                f"and {len(part) - len(kept)} earlier ones are left out. If these are two runs, {_SPLIT}."
            )
        parts.append(kept)
    written = pd.concat(parts)
    files = written.groupby("step")["path"].nunique()
    if (files > 1).any():
        step = files[files > 1].index[0]
        raise DataError(
            f"found step {step:.0f} of {run} in {files.loc[step]} files; expected each step in one: {_SPLIT} "
            f"(--group {FILE} makes every file a run), join the files of the ranks of one run by step, or, {_RESUMED}"
        )
    return written.sort_values("step", kind="stable"), notes


def _latest(run: str, path: str, part: pd.DataFrame) -> pd.DataFrame:
    steps = part["step"].to_numpy()
    for back in np.flatnonzero(np.diff(steps) < 0):
        # Of a run that goes back to its second step nothing would be left but its start: that is another run.
        again = steps[back + 1] in np.unique(steps[: back + 1])[2:]
        if not again or (np.diff(steps) == 0).any():
            raise DataError(
                f"{path}, row {part['row'].iloc[back + 1]}: found step {steps[back + 1]:.0f} after step "
                f"{steps[back]:.0f} in {run}; expected its steps in order: sort the table, {_SPLIT}, or, {_RESUMED}"
            )
    ahead = np.append(np.minimum.accumulate(steps[::-1])[::-1][1:], np.inf)
    return part[steps < ahead] if (np.diff(steps) < 0).any() else part


def _check_counts(run: str, rows: pd.DataFrame, columns: LogColumns) -> None:
    samples = rows.groupby("step").size()
    single, several = samples[samples == 1], samples[samples > 1]
    if len(single) and len(several):
        raise DataError(
            f"{run}: found {several.iloc[0]} rows of step {several.index[0]:.0f} and one of step "
            f"{single.index[0]:.0f}; expected one row at every step, or several at every step: {_SPLIT}, or, {_RESUMED}"
        )
    given = [name for name in columns.sds.values() if isinstance(name, str)]
    if len(several) and given:
        raise DataError(
            f"{run}: found {several.iloc[0]} rows of step {several.index[0]:.0f}; expected one row per step beside the "
            f"standard deviations in {', '.join(given)}: leave --proxy-sd and --true-sd out, or {_SPLIT}"
        )
    later = samples.iloc[1:]
    usual = later.mode().min()
    doubled = later[later == 2 * usual]
    if usual > 1 and 0 < len(doubled) < len(later) / 2 and later.isin([usual, 2 * usual]).all():
        raise DataError(
            f"{run}: found {doubled.iloc[0]} rows of step {doubled.index[0]:.0f} and {usual} of most others, as of a "
            f"step that was written twice; expected each step once: {_RESUMED}, or {_SPLIT}"
        )
    if len(several) and _every_row_twice(rows):
        raise DataError(
            f"{run}: found every row twice, step by step; expected each row once: remove the copies, or {_SPLIT}"
        )


def _doubled_start(run: str, rows: pd.DataFrame) -> list[str]:
    """A note on a first step with twice the rows of all others.

    Raises:
        DataError: these are a list and the same list again.
    """
    samples = rows.groupby("step").size()
    first, usual = samples.iloc[0], samples.iloc[1:].unique()
    if len(usual) != 1 or first != 2 * usual[0] or usual[0] == 1:
        return []
    start = f"{first} rows of step {samples.index[0]:.0f}, the first,"
    if _every_row_twice(rows[rows["step"] == samples.index[0]]):
        raise DataError(f"{run}: found {start} every one twice; expected each row once: remove the copies, or {_SPLIT}")
    return [
        f"In {run} there are {start} and {usual[0]} of all others: they count as samples of one policy. If two runs "
        f"wrote them, {_SPLIT}."
    ]


def _every_row_twice(rows: pd.DataFrame) -> bool:
    """Whether the rows of every step are a list and the same list again, of rewards that vary."""
    names = [*REWARDS, *(["prompt"] if "prompt" in rows else [])]
    if rows["proxy_reward"].nunique() < 3:
        return False
    for _, part in rows[names].groupby(rows["step"]):
        half = len(part) // 2
        if len(part) % 2 or not part.iloc[:half].reset_index(drop=True).equals(part.iloc[half:].reset_index(drop=True)):
            return False
    return True


def _start(rows: pd.DataFrame, samples: pd.Series, reward: str, sd: str | float | None) -> Start:
    first = rows[rows["step"] == samples.index[0]]
    if sd is None:
        variance = float(first[reward].var(ddof=1)) if len(first) > 1 else None
    else:
        variance = _known(reward, first[f"{reward}_sd"].iloc[0] if isinstance(sd, str) else sd, sd) ** 2
    return Start(
        variance=variance,
        count=len(first),
        mean=float(first[reward].mean()),
        binary=sd is None and bool(rows[reward].isin([0, 1]).all()),
        given=isinstance(sd, float),
    )


def _known(reward: str, sd: float, asked: str | float) -> float:
    """A standard deviation that can be counted in; 0 only in a column, where other runs may have a spread."""
    name = reward.removesuffix("_reward")
    if not (1 / LARGEST < sd < LARGEST or (sd == 0 and isinstance(asked, str))):
        raise DataError(
            f"found a standard deviation of {sd:g} of the {name} reward at the first step; expected a finite one above "
            f"0: give the base policy's as a number with --{name}-sd"
        )
    return float(sd)


def _prompt_means(rows: pd.DataFrame, name: str) -> np.ndarray | None:
    """(T, N) mean per step and prompt, prompts in order of their names where the steps share them all.

    Steps with prompts of their own get columns in order of appearance: they are independent draws, so that any
    pairing across steps is as good as another. None where steps have different numbers of prompts, or one.
    """
    means = rows.groupby(["step", "prompt"], sort=False)[name].mean()
    table = means.unstack("prompt").sort_index().sort_index(axis=1)
    if table.notna().all(axis=None):
        return table.to_numpy() if table.shape[1] > 1 else None
    counts = means.groupby("step").size()
    if counts.nunique() > 1 or counts.iloc[0] < 2:
        return None
    return means.sort_index(level="step", sort_remaining=False, kind="stable").to_numpy().reshape(len(counts), -1)
