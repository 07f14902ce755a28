"""Rows of a log under this package's names: rewards and steps as numbers, what tells runs apart as text."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from pessimism.errors import DataError, NonFiniteError
from pessimism.scoring.log_formats import load, names_columns_by_row
from pessimism.scoring.measured import REWARDS

FILE, RUN = "file", "run"
"""Columns that this module adds: the file of a row where the table has none, and the run in a chart's export."""

EXACT = 2**53
"""From here on a step as a float is no longer exact, so that neighbours would become one."""
LARGEST = 1e50
"""Numbers of this size and above have no sums of squares that a float can hold, and are no rewards."""
_LONGEST = 60

_ABSENT = {"", "nan", "na", "n/a", "none", "null", "<na>"}
_TRUTH = {"true": 1.0, "false": 0.0}
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXPORTED = " - "
"""Between the name of a run and that of its metric in a chart that Weights & Biases exports."""


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

    @property
    def numbers(self) -> dict[str, str]:
        """Columns of numbers by this package's names."""
        asked = dict(zip(("step", *REWARDS, "kl_k3"), (self.step, self.proxy, self.true, self.kl), strict=True))
        asked |= {f"{reward}_sd": sd if isinstance(sd, str) else None for reward, sd in self.sds.items()}
        return {name: column for name, column in asked.items() if column is not None}

    @property
    def texts(self) -> dict[str, str]:
        """Columns of labels by this package's names."""
        asked = {f"group:{name}": name for name in self.groups} | {"prompt": self.prompt}
        return {name: column for name, column in asked.items() if column is not None}


def number(value: Any) -> float | None:
    """What a cell says as a number: NaN where it is empty or says so, None where it says something else.

    Text counts only as a plain decimal numeral: Python alone would read ``1_0`` as ten. A truth value is no number.
    """
    if value is None:
        return np.nan
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _ABSENT:
            return np.nan
        return float(text) if _NUMERAL.fullmatch(text) else None
    try:
        return float(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None
    except OverflowError:
        return np.inf


def reward(value: Any) -> float | None:
    """The same of a reward, which may be whether an answer is right."""
    truth = str(value).strip().lower() if isinstance(value, bool | str) else ""
    return _TRUTH[truth] if truth in _TRUTH else number(value)


def brief(found: object) -> str:
    """A value in a message, whose middle is left out where it is long."""
    text = str(found)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]} ({len(text)} characters)"


def read_rows(paths: Sequence[Path], columns: LogColumns, growing: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """Rows of all files that hold a reward, in their order, and what a reader should know of them.

    Args:
        growing: whether somebody still writes the files. They may then hold no row with both rewards, or the same
            values in both, as none and one do not tell yet.

    Returns:
        One row per row of the files with one reward or both: ``step``, both rewards (NaN where one is absent),
        ``kl_k3`` and standard deviations where asked for, labels as text under ``group:NAME`` and ``prompt``, and
        where it stands: ``path`` and ``row`` (from 1). Then notes, among them how many rows were left out.

    Raises:
        DataError: a file, a column or a value is missing or not a number, or both rewards are one.
        NonFiniteError: a value is infinite.
    """
    twice = [path for path, count in Counter(map(str, paths)).items() if count > 1]
    if twice:
        raise DataError(f"found {twice[0]} twice on the command line; expected every file once")
    if columns.proxy == columns.true:
        raise DataError(f"found the column {columns.proxy!r} as --proxy and as --true; expected two rewards")
    tables = [_read(path, columns, growing) for path in paths]
    table = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    absent = {reward: table[reward].isna() for reward in REWARDS}
    neither = absent["proxy_reward"] & absent["true_reward"]
    rows = table[~neither]
    both = rows.dropna(subset=list(REWARDS))
    if both.empty and not growing:
        raise DataError(
            f"found no row with a number in both {columns.proxy!r} and {columns.true!r}; expected some: name the "
            "rewards with --proxy and --true"
        )
    if both["proxy_reward"].equals(both["true_reward"]) and not growing:
        raise DataError(
            f"found the same values in {columns.proxy!r} and {columns.true!r}; expected two rewards: name them with "
            "--proxy and --true"
        )
    left_out = {
        f"with neither {columns.proxy} nor {columns.true}": int(neither.sum()),
        f"without {columns.proxy}": int((absent["proxy_reward"] & ~neither).sum()),
        f"without {columns.true}": int((absent["true_reward"] & ~neither).sum()),
    }
    return rows.reset_index(drop=True), [*_left_out(left_out, len(table)), *_spellings(rows, columns)]


def _left_out(counts: dict[str, int], rows: int) -> list[str]:
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if not said:
        return []
    return [
        f"{sum(counts.values())} of {rows} rows left out: {said}. Evaluations, summaries, blank cells and reward "
        "functions that abstain leave such rows. Both rewards are means over the same rows, those that hold both: "
        "where these change from step to step, so does what the means are of."
    ]


def _spellings(rows: pd.DataFrame, columns: LogColumns) -> list[str]:
    """A note per column of labels where one number is written in two ways."""
    notes = []
    for name in columns.groups:
        spellings: dict[float, list[str]] = {}
        for label in rows[f"group:{name}"].unique():
            value = number(label)
            if value is not None and np.isfinite(value):
                spellings.setdefault(value, []).append(label)
        notes += [
            f"Column {name} writes one number as {' and '.join(labels)}: as text they tell runs apart, as --beta they "
            "are one value."
            for labels in spellings.values()
            if len(labels) > 1
        ]
    return notes


def _read(path: Path, columns: LogColumns, growing: bool) -> pd.DataFrame:
    """Rows of one file under this module's column names, with their place in it."""
    found = _by_run(path, load(path, growing), columns)
    if growing:
        found = _with_columns_to_come(path, found, columns)
    if FILE not in found:
        found = found.assign(**{FILE: _name(path)})
    places = _places(path, found, columns)
    rows = pd.DataFrame({name: _numbers(path, found[places[name]], name in REWARDS) for name in columns.numbers})
    rows = rows.assign(path=_name(path), row=found.index)
    some = rows[list(REWARDS)].notna().any(axis=1).to_numpy()
    _check_steps(path, rows.loc[some, "step"], found[places["step"]][some])
    if "kl_k3" in rows:
        absent = rows[rows["kl_k3"].isna() & rows[list(REWARDS)].notna().all(axis=1)]
        if len(absent):
            _refuse(path, absent["row"].iloc[0], places["kl_k3"], "no value", "a number beside both rewards")
    labels = {name: _labels(path, found[some][places[name]]) for name in columns.texts}
    return rows.assign(**{name: pd.Series(found, rows.index[some], dtype=object) for name, found in labels.items()})


def _with_columns_to_come(path: Path, table: pd.DataFrame, columns: LogColumns) -> pd.DataFrame:
    """The table with every column that is asked for where it has none yet, and in JSON with both rewards."""
    if not len(table.columns):
        return pd.DataFrame(columns=list(dict.fromkeys([*columns.numbers.values(), *columns.texts.values()])))
    if not names_columns_by_row(path):
        return table
    asked = {reward: columns.numbers[reward] for reward in REWARDS}
    lacking = [
        column for name, column in asked.items() if not any(place in table for place in _spellings_of(name, column))
    ]
    return table.assign(**dict.fromkeys(lacking))


def _name(path: Path) -> str:
    """Name of a file as text: bytes of it that are no UTF-8 become their numbers."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _by_run(path: Path, table: pd.DataFrame, columns: LogColumns) -> pd.DataFrame:
    """A chart's export of Weights & Biases, which has a column per run and metric, as rows per run.

    Only where the rewards are asked for by their names without a run: ``RUN - METRIC`` is a column like any other.
    """
    metrics = [column for name, column in columns.numbers.items() if name != "step"]
    runs: dict[str, dict[str, str]] = {}
    for column in table.columns:
        for metric in metrics:
            if metric not in table and column.endswith(_EXPORTED + metric):
                runs.setdefault(column.removesuffix(_EXPORTED + metric), {})[column] = metric
    whole = {run: names for run, names in runs.items() if len(names) == len(metrics)}
    if not whole or columns.step not in table:
        return table
    for run, names in runs.items():
        lacking = [metric for metric in metrics if metric not in names.values()]
        if lacking:
            raise DataError(
                f"{path}: found the run {run} without a column of {' and '.join(lacking)}; expected every metric of "
                "every run: export them in one chart, or remove the columns of this run"
            )
    if len(whole) > 1 and RUN not in columns.groups:
        raise DataError(
            f"{path}: found a chart of the runs {', '.join(whole)}; expected --group {RUN} to tell them apart"
        )
    return pd.concat(
        [_of_run(table[[columns.step, *names]].rename(columns=names), run) for run, names in whole.items()]
    )


def _of_run(rows: pd.DataFrame, run: str) -> pd.DataFrame:
    """Rows in which a run has any of its metrics: the others belong to the other runs of the chart."""
    filled = rows.iloc[:, 1:].map(_filled).any(axis=1)
    return rows[filled].assign(**{RUN: run})


def _filled(cell: Any) -> bool:
    value = number(cell)
    return value is None or not np.isnan(value)


def _places(path: Path, table: pd.DataFrame, columns: LogColumns) -> dict[str, str]:
    """Columns of the table by this package's names, under any name that TRL gives what was asked for."""
    asked = columns.numbers | columns.texts
    places, missing = {}, []
    for name, column in asked.items():
        spelt = [spelling for spelling in _spellings_of(name, column) if spelling in table]
        if spelt:
            places[name] = spelt[0]
        else:
            missing.append(f"no column {column!r}, set by {_option(name)}")
    if missing:
        names = list(map(str, table.columns))
        rewards = [name for name in names if re.search(r"reward|score|acc", name, re.IGNORECASE)]
        listed = f"one of its columns: {', '.join(names)}"
        if len(names) > 20 and rewards:
            listed = f"one of its {len(names)} columns, those of rewards among them: {', '.join(rewards)}"
        raise DataError(f"{path}: found {'; '.join(missing)}; expected {listed}")
    return places


def _spellings_of(name: str, column: str) -> list[str]:
    """What was asked for, and the names that TRL gives the mean and the spread of a reward function.

    Its callbacks for trackers put ``train/`` before every metric of training.
    """
    if name in REWARDS or name.endswith("_sd"):
        function = f"rewards/{column}/{'std' if name.endswith('_sd') else 'mean'}"
        return [column, function, f"train/{column}", f"train/{function}"]
    return [column] if name == "prompt" or name.startswith("group:") else [column, f"train/{column}"]


def _option(name: str) -> str:
    if name.startswith("group:"):
        return "--group, --beta, --seed or --arm"
    return "--" + name.replace("_reward", "").replace("kl_k3", "kl").replace("_", "-")


def _numbers(path: Path, cells: pd.Series, rewards: bool) -> np.ndarray:
    """(R,) numbers of a column, NaN where it has none."""
    values = np.empty(len(cells))
    for place, (row, cell) in enumerate(cells.items()):
        value = reward(cell) if rewards else number(cell)
        if value is None:
            _refuse(path, row, cells.name, repr(cell), "a number in every row")
        if abs(value) >= LARGEST:
            raise NonFiniteError(
                f"{path}, row {row}: found {brief(cell)} in column {cells.name!r}; expected a finite number below "
                f"{LARGEST:g} in size"
            )
        values[place] = value
    return values


def _check_steps(path: Path, steps: pd.Series, cells: pd.Series) -> None:
    for bad, said, expected in (
        (steps.isna(), "no value", "a number in every row"),
        (steps % 1 != 0, "", "a whole number"),
        (steps.abs() >= EXACT, "", "training steps below 2^53, not a time in nanoseconds"),
    ):
        if bad.any():
            place = int(bad.to_numpy().argmax())
            _refuse(path, cells.index[place], cells.name, said or cells.iloc[place], expected)


def _labels(path: Path, cells: pd.Series) -> list[str]:
    """Labels as text: as written, and a whole number alike whether its file has it as 1 or as 1.0."""
    for row, cell in cells.items():
        if cell is None or cell == "" or cell != cell:
            _refuse(path, row, cells.name, "no value", "one in every row")
        if isinstance(cell, str) and _SURROGATE.search(cell):
            _refuse(path, row, cells.name, repr(cell), "text without lone surrogates, which no encoding of text holds")
    return [str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell) for cell in cells]


def _refuse(path: Path, row: Hashable, column: Hashable, found: object, expected: str) -> NoReturn:
    raise DataError(f"{path}, row {row}: found {brief(found)} in column {column!r}; expected {expected}")
