"""What the earlier stages left of every run, read and checked against the design."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell
from pessimism.experiment.params import Params
from pessimism.measures.goodhart import smoothed_sd
from pessimism.scoring.best_of_n import read_draws
from pessimism.scoring.measured import REWARDS, Curves, Unit
from pessimism.scoring.step_columns import MEASURED_COLUMNS, UPDATED_COLUMNS

PER_PROMPT = (*REWARDS, "ensemble_std")
SAMPLED = ["step", "task_id", *PER_PROMPT]
BATCH, HELDOUT = "batch", "heldout"
_MEASURED = [column.name for column in MEASURED_COLUMNS]
QUANTITIES = {BATCH: [*_MEASURED, *(column.name for column in UPDATED_COLUMNS)], HELDOUT: _MEASURED}
"""Columns of every run's table that have a value, by set of prompts; verdicts of the task come in addition."""
_BEFORE_VERDICTS = "true_reward_sd"


@dataclass(frozen=True)
class BaseRewards:
    """The base policy on the held-out problems, one response each, with the proxy reward of one seed's ensemble.

    Attributes:
        unit: standard deviations of its rewards over problems, ddof 1: the unit of that seed's controlled changes.
        samples: one row per problem.
    """

    unit: Unit
    samples: pd.DataFrame

    @classmethod
    def of(cls, samples: pd.DataFrame) -> BaseRewards:
        """Take the units from the base's samples.

        Raises:
            DataError: every response has the same proxy reward.
        """
        proxy, true = samples["proxy_reward"].to_numpy(float), samples["true_reward"].to_numpy(float)
        if np.ptp(proxy) == 0:
            raise DataError(
                f"{layout.BASE_SAMPLES}: found the proxy reward {proxy[0]} for every response; expected a spread: "
                "train the reward models longer (reward_training.epochs)"
            )
        smoothed = np.ptp(true) == 0
        true_sd = smoothed_sd(float(true.mean()), len(true)) if smoothed else float(true.std(ddof=1))
        return cls(Unit(float(proxy.std(ddof=1)), true_sd, bool(smoothed)), samples)


@dataclass(frozen=True)
class Run:
    """One online run: means of every measured batch and evaluation, and every held-out response."""

    trajectory: pd.DataFrame
    samples: pd.DataFrame

    def rows(self, prompt_set: str) -> pd.DataFrame:
        """Measurements on ``prompt_set``: batch or heldout."""
        return self.trajectory[self.trajectory["prompt_set"] == prompt_set].reset_index(drop=True)

    @property
    def verdicts(self) -> list[str]:
        """Columns of the task's verdicts other than the strict one."""
        columns = [str(name) for name in self.trajectory.columns if str(name).startswith("true_reward_")]
        return [name for name in columns if name != _BEFORE_VERDICTS]

    def quantities(self, prompt_set: str) -> list[str]:
        """Columns that have a value on ``prompt_set``."""
        always = QUANTITIES[prompt_set]
        place = always.index(_BEFORE_VERDICTS) + 1
        return [*always[:place], *self.verdicts, *always[place:]]

    def heldout(self, column: str) -> np.ndarray:
        """(T, N) one value per evaluation and held-out problem."""
        return self.samples.pivot(index="step", columns="task_id", values=column).to_numpy(dtype=float)

    def curves(self, prompt_set: str) -> Curves:
        """Means over the steps of ``prompt_set``, and both rewards of each held-out problem."""
        rows = self.rows(prompt_set)
        return Curves(
            steps_T=rows["step"].to_numpy(),
            mean_T={name: rows[name].to_numpy() for name in self.quantities(prompt_set)},
            prompt_T_N={name: self.heldout(name) for name in PER_PROMPT} if prompt_set == HELDOUT else {},
        )


@dataclass(frozen=True)
class Measurements:
    """Everything that the measures are made of; ``base`` is by seed."""

    params: Params
    betas: Mapping[str, float]
    base: Mapping[int, BaseRewards]
    runs: Mapping[OnlineCell, Run]
    probes: Mapping[DpoCell, Mapping[str, Any]]
    draws: Mapping[DpoCell, pd.DataFrame]
    validation: Mapping[DpoCell, Mapping[str, float]]


def read_measurements(params: Params) -> Measurements:
    """Read every cell of the design.

    Raises:
        DataError: a cell is missing or incomplete, or was measured at other steps than the first cell.
        NonFiniteError: a measured value is not finite.
    """
    base = read_base(params)
    runs = read_runs(params)
    for cell, run in runs.items():
        _check_samples(layout.heldout_samples(cell), run, base[cell.seed])
    return Measurements(
        params=params,
        betas=read_betas(params),
        base=base,
        runs=runs,
        probes=read_probes(params),
        draws={cell: read_draws(cell) for cell in params.dpo_cells()},
        validation={cell: _read_validation(cell) for cell in params.dpo_cells()},
    )


def read_base(params: Params) -> dict[int, BaseRewards]:
    """The base policy's rewards by each seed's ensemble.

    Raises:
        DataError: a seed has none.
    """
    samples = records.read_table(layout.BASE_SAMPLES, ["seed", "task_id", "proxy_reward", "true_reward"])
    missing = sorted(set(params.seeds) - set(samples["seed"]))
    if missing:
        raise DataError(f"{layout.BASE_SAMPLES}: found no rows of the seeds {missing}; run `dvc repro measure_base`")
    return {seed: BaseRewards.of(samples[samples["seed"] == seed]) for seed in params.seeds}


def read_betas(params: Params) -> dict[str, float]:
    """Strength of every label of the design; nan where its objective has none.

    Raises:
        DataError: a label does not stand in metrics/beta_grid.json.
    """
    grid = records.read_json(layout.BETA_GRID)
    missing = [label for label in params.labels if not records.has(grid, label)]
    if missing:
        raise DataError(f"{layout.BETA_GRID}: found no {missing}; run `dvc repro derive_beta_grid`")
    strengths = {label: records.get(grid, label) for label in params.labels}
    return {label: math.nan if strength is None else float(strength) for label, strength in strengths.items()}


def read_runs(params: Params) -> dict[OnlineCell, Run]:
    """Trajectory and held-out samples of every online cell of the design."""
    runs = {cell: _read_run(cell) for cell in params.online_cells()}
    first = params.online_cells()[0]
    expected = _measured_steps(runs[first])
    for cell, run in runs.items():
        if _measured_steps(run) != expected:
            raise DataError(
                f"{layout.trajectory(cell)}: found measured steps that differ from those of {first.key}; "
                f"expected the same in every cell; run `dvc repro adapt_online`"
            )
    return runs


def _read_run(cell: OnlineCell) -> Run:
    path = layout.trajectory(cell)
    run = Run(
        trajectory=records.read_table(path, ["step", "prompt_set", *QUANTITIES[BATCH]]),
        samples=records.read_table(layout.heldout_samples(cell), SAMPLED),
    )
    for prompt_set in QUANTITIES:
        rows, columns = run.rows(prompt_set), run.quantities(prompt_set)
        if rows.empty or rows["step"].iloc[0] != 0:
            raise DataError(f"{path}: found no {prompt_set} row of step 0 at the start; expected the untouched policy")
        bad = [column for column in columns if not np.isfinite(rows[column].to_numpy(dtype=float)).all()]
        if bad:
            raise NonFiniteError(f"{path}: found values that are not finite in the {prompt_set} rows of {bad}")
    return run


def _check_samples(path: Path, run: Run, base: BaseRewards) -> None:
    """See that every evaluation has a finite value for each of the base's problems, once, and the trajectory's means.

    Raises:
        DataError: a row is missing, stands twice, or is of another problem or another run.
        NonFiniteError: a value is not finite.
    """
    samples, rows = run.samples, run.rows(HELDOUT)
    tasks, steps = sorted(base.samples["task_id"]), set(map(int, rows["step"]))
    found = samples.groupby("step")["task_id"].apply(sorted).to_dict()
    wrong = [
        step for step in sorted({*steps, *map(int, samples["step"])}) if step not in steps or found.get(step) != tasks
    ]
    if wrong:
        raise DataError(
            f"{path}: found other problems at the steps {wrong} than the {len(tasks)} of {layout.BASE_SAMPLES}; "
            "expected each once at every evaluation of the trajectory; run `dvc repro adapt_online`"
        )
    values = [name for name in (*REWARDS, "ensemble_std", *run.verdicts) if name in samples]
    bad = [name for name in values if not np.isfinite(samples[name].to_numpy(dtype=float)).all()]
    if bad:
        raise NonFiniteError(f"{path}: found values that are not finite in {bad}; run `dvc repro adapt_online`")
    means = samples.astype(dict.fromkeys(REWARDS, float)).groupby("step")[list(REWARDS)].mean().loc[rows["step"]]
    other = [name for name in REWARDS if not np.allclose(means[name], rows[name], rtol=1e-5, atol=1e-6)]
    if other:
        raise DataError(
            f"{path}: found means of {other} that are not those of the trajectory next to it; expected the samples of "
            "the same run; run `dvc repro adapt_online`"
        )


def _measured_steps(run: Run) -> list[tuple[str, int]]:
    return list(zip(run.trajectory["prompt_set"], run.trajectory["step"], strict=True))


def read_probes(params: Params) -> dict[DpoCell, dict[str, Any]]:
    """Probes of every checkpoint of the design.

    Raises:
        DataError: a checkpoint is missing or incomplete.
    """
    return {cell: _read_probe(cell) for cell in params.dpo_cells()}


def _read_probe(cell: DpoCell) -> dict[str, Any]:
    path = layout.probe(cell)
    record = records.read_json(path)
    missing = sorted({"dpo", "online"} - record.keys())
    if missing:
        raise DataError(f"{path}: found no {missing}; run `dvc repro probe_policy`")
    return record


def _read_validation(cell: DpoCell) -> dict[str, float]:
    path = layout.training_record(layout.dpo_adapter(cell))
    record = records.read_json(path)
    if "validation" not in record:
        raise DataError(f"{path}: found no validation; run `dvc repro train_dpo`")
    return dict(record["validation"])
