"""Logs of training runs that somebody else's trainer wrote, as arrays: which rows are which run, checked on read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from pessimism.errors import DataError, NonFiniteError
from pessimism.scoring.measured import REWARDS, Curves

FILE = "file"
"""Name under which a run may be told by its file, where the tables have no such column."""

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False, precise_float=True),
    ".parquet": pd.read_parquet,
}
_SPLIT = "name the columns that tell runs apart with --group, --beta, --seed or --arm"


@dataclass(frozen=True)
class LogColumns:
    """Where a table holds what, by column name; None = it does not.

    Attributes:
        step: training steps done when the row was measured.
        proxy: reward that the policy was trained on.
        true: reward that it stands for.
        groups: columns whose values together name a run.
        prompt: which prompt a sample answers.
        kl: KL divergence of the policy from its start, nats per response.
        proxy_sd: column of the proxy's standard deviation over samples, or that of the base policy as a number.
        true_sd: the same of the true reward.
    """

    step: str = "step"
    proxy: str = "proxy_reward"
    true: str = "true_reward"
    groups: tuple[str, ...] = ()
    prompt: str | None = None
    kl: str | None = None
    proxy_sd: str | float | None = None
    true_sd: str | float | None = None

    @property
    def sds(self) -> dict[str, str | float | None]:
        """Standard deviations by reward."""
        return dict(zip(REWARDS, (self.proxy_sd, self.true_sd), strict=True))


@dataclass(frozen=True)
class Start:
    """One reward over the samples of a run's first step.

    Attributes:
        variance: over these samples, or as given; None where neither is known.
        count: samples.
        mean: over them.
        binary: whether every sample of the run is 0 or 1.
    """

    variance: float | None
    count: int
    mean: float
    binary: bool


@dataclass(frozen=True)
class LoggedRun:
    """One training run of a log.

    Attributes:
        identity: value of each group column.
        samples_T: (T,) rows per step; 1 everywhere = the table holds means.
        curves: both rewards over the steps, and ``kl_k3`` where the log has a KL.
        start: spread of both rewards at the first step, by name.
    """

    identity: dict[str, Any]
    samples_T: np.ndarray
    curves: Curves
    start: dict[str, Start]


def _name(identity: dict[str, Any]) -> str:
    return ", ".join(f"{column} {value}" for column, value in identity.items()) or "the run"


def read_log(paths: Sequence[Path], columns: LogColumns) -> list[LoggedRun]:
    """Read tables (CSV, JSON lines or parquet, by suffix) that together hold one or more runs.

    Rows of one run stand in the order of its steps; a run may be spread over files, a step may not.

    Raises:
        DataError: a file, a column or a value is missing, not a number, or out of order.
        NonFiniteError: a value is infinite.
    """
    table = pd.concat([_read(path, columns) for path in paths], ignore_index=True)
    if not columns.groups:
        return [_run({}, table, columns)]
    # A tuple as the key of every group, also of a single column.
    groups = table.groupby([f"group:{name}" for name in columns.groups], sort=False)
    return [_run(dict(zip(columns.groups, _plain(key), strict=True)), rows, columns) for key, rows in groups]


def _plain(key: Hashable) -> list[Any]:
    """Group values as Python's own types, which JSON can hold."""
    assert isinstance(key, tuple)
    return [value.item() if isinstance(value, np.generic) else value for value in key]


def _read(path: Path, columns: LogColumns) -> pd.DataFrame:
    """Rows of one file under this module's column names, with their place in it."""
    found = _load(path)
    numbers = {"step": columns.step, "proxy_reward": columns.proxy, "true_reward": columns.true, "kl_k3": columns.kl}
    numbers |= {f"{reward}_sd": sd if isinstance(sd, str) else None for reward, sd in columns.sds.items()}
    texts = {f"group:{name}": name for name in columns.groups} | {"prompt": columns.prompt}
    _check_present(path, found, columns)
    rows = {name: _numbers(path, found[column]) for name, column in numbers.items() if column is not None}
    rows |= {name: _labels(path, found[column]) for name, column in texts.items() if column is not None}
    table = pd.DataFrame(rows)
    fractional = table["step"] % 1 != 0
    if fractional.any():
        _refuse(path, int(fractional.argmax()), columns.step, table["step"][fractional].iloc[0], "a whole number")
    return table.assign(path=str(path), row=np.arange(len(table)) + 1)


def _load(path: Path) -> pd.DataFrame:
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: found the suffix {path.suffix!r}; expected one of {', '.join(_READERS)}")
    if not path.is_file():
        raise DataError(f"{path}: found no such file; expected a table of a run's log")
    try:
        table = reader(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: found no readable table ({error}); expected {path.suffix[1:]}") from error
    if table.empty:
        raise DataError(f"{path}: found no rows; expected at least two steps")
    return table if FILE in table else table.assign(**{FILE: str(path)})


def _check_present(path: Path, table: pd.DataFrame, columns: LogColumns) -> None:
    options: list[tuple[str, str | float | None]] = [
        ("--step", columns.step),
        ("--proxy", columns.proxy),
        ("--true", columns.true),
        ("--prompt", columns.prompt),
        ("--kl", columns.kl),
        ("--proxy-sd", columns.proxy_sd),
        ("--true-sd", columns.true_sd),
        *(("--group, --beta, --seed or --arm", name) for name in columns.groups),
    ]
    missing = [(option, name) for option, name in options if isinstance(name, str) and name not in table]
    if missing:
        said = "; ".join(f"no column {name!r}, set by {option}" for option, name in missing)
        raise DataError(f"{path}: found {said}; expected one of its columns: {', '.join(map(str, table.columns))}")


def _numbers(path: Path, column: pd.Series) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(float)
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return values
    row, found = int(bad[0]), column.iloc[bad[0]]
    if np.isinf(values.iloc[row]):
        raise NonFiniteError(
            f"{path}, row {row + 1}: found {found} in column {column.name!r}; expected a finite number"
        )
    missing = pd.api.types.is_scalar(found) and pd.isna(found)
    return _refuse(path, row, str(column.name), "no value" if missing else repr(found), "a number in every row")


def _labels(path: Path, column: pd.Series) -> pd.Series:
    missing = column.isna()
    if missing.any():
        _refuse(path, int(missing.argmax()), str(column.name), "no value", "one in every row")
    # Conversations are lists, which pandas cannot group by.
    return column.astype(str) if column.dtype == object else column


def _refuse(path: Path, row: int, column: str, found: object, expected: str) -> NoReturn:
    raise DataError(f"{path}, row {row + 1}: found {found} in column {column!r}; expected {expected}")


def _run(identity: dict[str, Any], rows: pd.DataFrame, columns: LogColumns) -> LoggedRun:
    run = _name(identity)
    _check_order(run, rows)
    by_step = rows.sort_values("step", kind="stable").groupby("step")
    samples = by_step.size()
    if len(samples) < 2:
        raise DataError(f"{run}: found step {samples.index[0]:g} alone; expected at least two steps to see a change")
    _check_counts(run, samples, columns)
    prompts = {reward: _prompt_means(rows, reward) for reward in REWARDS} if "prompt" in rows else {}
    return LoggedRun(
        identity=identity,
        samples_T=samples.to_numpy(),
        curves=Curves(
            steps_T=samples.index.to_numpy().astype(int),
            mean_T={name: by_step[name].mean().to_numpy() for name in (*REWARDS, "kl_k3") if name in rows},
            prompt_T_N={reward: values for reward, values in prompts.items() if values is not None},
        ),
        start={reward: _start(rows, samples, reward, sd) for reward, sd in columns.sds.items()},
    )


def _check_order(run: str, rows: pd.DataFrame) -> None:
    for path, part in rows.groupby("path", sort=False):
        back = np.flatnonzero(np.diff(part["step"]) < 0)
        if back.size:
            before, after = part.iloc[back[0]], part.iloc[back[0] + 1]
            raise DataError(
                f"{path}, row {after['row']}: found step {after['step']:g} after step {before['step']:g} in {run}; "
                f"expected its steps in order: sort the table, or {_SPLIT}"
            )
    files = rows.groupby("step")["path"].nunique()
    if (files > 1).any():
        step = files[files > 1].index[0]
        raise DataError(
            f"found step {step:g} of {run} in {files.loc[step]} files; expected each step in one: {_SPLIT} "
            f"(--group {FILE} makes every file a run)"
        )


def _check_counts(run: str, samples: pd.Series, columns: LogColumns) -> None:
    single, several = samples[samples == 1], samples[samples > 1]
    if len(single) and len(several):
        raise DataError(
            f"{run}: found {several.iloc[0]} rows of step {several.index[0]:g} and one of step {single.index[0]:g}; "
            f"expected one row at every step, or several at every step: remove repeated rows, or {_SPLIT}"
        )
    given = [name for name in columns.sds.values() if isinstance(name, str)]
    if len(several) and given:
        raise DataError(
            f"{run}: found {several.iloc[0]} rows of step {several.index[0]:g}; expected one row per step beside the "
            f"standard deviations in {', '.join(given)}: leave --proxy-sd and --true-sd out, or {_SPLIT}"
        )


def _start(rows: pd.DataFrame, samples: pd.Series, reward: str, sd: str | float | None) -> Start:
    first = rows[rows["step"] == samples.index[0]]
    if sd is None:
        variance = float(first[reward].var(ddof=1)) if len(first) > 1 else None
    else:
        variance = _positive(reward, first[f"{reward}_sd"].iloc[0] if isinstance(sd, str) else sd) ** 2
    return Start(
        variance=variance,
        count=len(first),
        mean=float(first[reward].mean()),
        binary=sd is None and bool(rows[reward].isin([0, 1]).all()),
    )


def _positive(reward: str, sd: float) -> float:
    name = reward.removesuffix("_reward")
    if not (np.isfinite(sd) and sd > 0):
        raise DataError(
            f"found a standard deviation of {sd:g} of the {name} reward at the first step; expected one above 0: give "
            f"the base policy's as a number with --{name}-sd"
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
