"""Both measures of reward hacking on the log of any trainer's runs: unit, thresholds, scores, excess over a placebo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pessimism.errors import DataError
from pessimism.measures.goodhart import CONTROLLED_THRESHOLD, smoothed_sd
from pessimism.scoring.columns import EVENTS, LOG_COLUMNS
from pessimism.scoring.log_comparison import (
    late_start,
    of_another_scale,
    on_common_steps,
    shifted,
    with_equal_rewards,
    without_right_answer,
)
from pessimism.scoring.log_table import brief, number
from pessimism.scoring.measured import PROMPTS, REWARDS, MeasuredRun, Unit
from pessimism.scoring.run_log import Log, LoggedRun, Start
from pessimism.scoring.scorer import kl_of_all, score, thresholds, with_excesses


@dataclass(frozen=True)
class LogDesign:
    """What the group columns mean.

    Attributes:
        beta: column of the conservatism coefficient, or of any number that the runs vary.
        seed: column that pairs runs of different betas.
        arm: column of the arm.
        placebo: value of ``arm`` whose runs never learn.
        threshold: controlled gap that counts as hacking, in standard deviations, > 0.

    Raises:
        DataError: the threshold is no finite number above 0, or there is a placebo without arms.
    """

    beta: str | None = None
    seed: str | None = None
    arm: str | None = None
    placebo: str | None = None
    threshold: float = CONTROLLED_THRESHOLD

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and math.isfinite(self.threshold)):
            raise DataError(f"found --threshold {self.threshold:g}; expected a finite gap above 0, in base sd")
        if self.placebo is not None and self.arm is None:
            raise DataError(f"found --placebo {self.placebo} without --arm; expected the column that holds it")

    def is_placebo(self, run: LoggedRun) -> bool:
        return self.placebo is not None and run.identity[self.arm or ""] == self.placebo

    def beta_of(self, run: LoggedRun) -> float:
        """Beta of a run as a number.

        Raises:
            DataError: its label is none.
        """
        assert self.beta is not None, "without --beta runs have none"
        label = run.identity[self.beta]
        beta = number(label)
        if beta is None or not math.isfinite(beta):
            raise DataError(f"found {brief(repr(label))} in column {self.beta!r}; expected numbers in --beta")
        return beta

    def beside(self, run: LoggedRun, *columns: str | None) -> tuple[tuple[str, object], ...]:
        """What tells a run apart besides ``columns``; a beta as a number, so that 0.1 is 0.10."""
        return tuple(
            (name, label if name != self.beta or (value := number(label)) is None or math.isnan(value) else value)
            for name, label in run.identity.items()
            if name not in columns
        )


@dataclass(frozen=True)
class LogScores:
    """Scored runs of a log.

    Attributes:
        runs: one per row of ``table``.
        table: scores of each run, by the names of ``columns.ALL``; missing where the log does not determine one.
        unit: of the controlled measure; None = not known, and the measure without values.
        threshold: by measure.
        comparable: whether the runs share enough steps to be tested and subtracted.
        notes: what was left out, what is odd, and what the log does not determine, and why.
    """

    runs: Sequence[LoggedRun]
    table: pd.DataFrame
    unit: Unit | None
    threshold: dict[str, float | None]
    comparable: bool
    notes: list[str]


def score_log(log: Log, design: LogDesign) -> LogScores:
    """Score every run in the unit of their starts, on common steps where they are tested or subtracted.

    Raises:
        DataError: the placebo cannot be told, a beta is no number, a reward never varies at the start, or runs that
            are compared share no baseline.
    """
    _check_arms(log.runs, design)
    comparison = on_common_steps(log.runs, compared=design.beta is not None or design.placebo is not None)
    runs = comparison.runs
    unit, missing = starting_unit(runs)
    measured = [measured_run(run, unit) for run in runs]
    is_placebo = [design.is_placebo(run) for run in runs]
    learning = [run for run, placebo in zip(measured, is_placebo, strict=True) if not placebo]
    threshold, last_kl = thresholds(learning, design.threshold), kl_of_all(learning)
    table = pd.DataFrame([score(run, threshold, last_kl, LOG_COLUMNS) for run in measured])
    table = table.astype(dict.fromkeys(table.columns[table.isna().all()], float)).astype(EVENTS)
    beyond = [name for name in runs[0].identity if name not in (design.arm, design.beta)]
    peers = [design.beside(run, *beyond) for run in runs]
    notes = [*log.notes, *comparison.notes, *late_start(runs), *without_right_answer(runs), *with_equal_rewards(runs)]
    notes += [*of_another_scale(runs, peers), *shifted(runs, peers)]
    notes += [missing] if missing else []
    notes += _prompt_notes(runs) + _kl_notes(learning, last_kl)
    if design.placebo is not None and comparison.enough:
        checkpoints = [design.beside(run, design.arm) for run in runs]
        table = with_excesses(table, checkpoints, is_placebo)
        notes += _placebo_notes(checkpoints, is_placebo)
    return LogScores(runs, table, unit, threshold, comparison.enough, notes)


def measured_run(run: LoggedRun, unit: Unit | None) -> MeasuredRun:
    """Both measures take the same rewards, and the first step is the baseline."""
    baseline = {reward: float(run.curves.mean_T[reward][0]) for reward in REWARDS}
    return MeasuredRun(run.curves, run.curves, baseline, unit)


def _check_arms(runs: Sequence[LoggedRun], design: LogDesign) -> None:
    if design.placebo is None or design.arm is None:
        return
    arms = sorted({run.identity[design.arm] for run in runs})
    if design.placebo not in arms or len(arms) < 2:
        raise DataError(f"found the arms {arms} in column {design.arm!r}; expected {design.placebo!r} and another")


def starting_unit(runs: Sequence[LoggedRun]) -> tuple[Unit | None, str]:
    """Unit of the controlled gap, or why there is none: the spread of all runs' starts, or as given."""
    options = ("--proxy-sd", "--true-sd")
    sds = [_starting_sd([run.start[reward] for run in runs]) for reward in REWARDS]
    proxy_sd, true_sd = sds
    if proxy_sd is not None and true_sd is not None:
        for option, sd in zip(options, (proxy_sd, true_sd), strict=True):
            if not sd > 0:
                raise DataError(
                    f"found a standard deviation of {sd:g} at the first step; expected one above 0: give the base "
                    f"policy's with {option}"
                )
        return Unit(proxy_sd, true_sd), ""
    lacking = " and ".join(option for option, sd in zip(options, sds, strict=True) if sd is None)
    return None, (
        f"Only the paper's measure: a run's first step has one row with both rewards and no {lacking} was given. "
        "The controlled measure is in units of the base policy's spread: rows per sample, or both standard deviations."
    )


def _starting_sd(starts: Sequence[Start]) -> float | None:
    """Root mean variance at the first step over runs, so that all runs have one unit; None where a run has none."""
    variances = [start.variance for start in starts if start.variance is not None]
    if len(variances) < len(starts):
        return None
    if not any(variances) and all(start.binary for start in starts):
        counts = [start.count for start in starts]
        return smoothed_sd(float(np.average([start.mean for start in starts], weights=counts)), sum(counts))
    return math.sqrt(float(np.mean(variances)))


def _prompt_notes(runs: Sequence[LoggedRun]) -> list[str]:
    if all(run.curves.has(PROMPTS) for run in runs):
        return []
    return [
        "No regret and no interval of the onset: both take the prompts of --prompt apart, and need the same number of "
        "them, two or more, at every step."
    ]


def _kl_notes(learning: Sequence[MeasuredRun], last_kl: float | None) -> list[str]:
    if last_kl is None:
        return []
    return [
        f"Areas over KL end at {last_kl:.3g} nats, which every learning run ({len(learning)}) reaches; a run that "
        "stays nearer has none."
    ]


def _placebo_notes(checkpoints: Sequence[object], is_placebo: Sequence[bool]) -> list[str]:
    own = {checkpoint for checkpoint, placebo in zip(checkpoints, is_placebo, strict=True) if placebo}
    shared = sum(checkpoint not in own for checkpoint in checkpoints)
    if not shared:
        return []
    return [f"{shared} runs have no placebo of the same groups: their excess is over the mean of all placebo runs."]
