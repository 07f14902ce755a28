"""Both measures of reward hacking on logs of any trainer's runs, their excess over a placebo, and trends over betas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pessimism.errors import DataError
from pessimism.experiment import rng
from pessimism.measures.goodhart import (
    augc,
    augc_over_kl,
    baseline_degenerate,
    controlled_gap,
    hacking_onset,
    hacking_threshold,
    onset_interval,
    overoptimization,
    paper_gap,
    signed_augc,
    smoothed_sd,
    true_regret,
)
from pessimism.scoring.measures import CONTROLLED, PAPER
from pessimism.scoring.run_log import Reward, Run
from pessimism.scoring.run_trends import trends_over_beta

NEVER = "never"
EXCESSES = {PAPER: ("augc",), CONTROLLED: ("final_gap", "augc", "signed_augc", "augc_over_kl", "true_regret")}


@dataclass(frozen=True)
class Design:
    """What the group columns mean.

    Attributes:
        beta: column of the conservatism coefficient, or of any number that the runs vary.
        seed: column that pairs runs of different betas.
        arm: column of the arm.
        placebo: value of ``arm`` whose runs never learn.
        threshold: controlled gap that counts as hacking, in base standard deviations; None = the 75th percentile of
            the positive gaps, as for the paper's measure.
    """

    beta: str | None = None
    seed: str | None = None
    arm: str | None = None
    placebo: str | None = None
    threshold: float | None = None

    def is_placebo(self, run: Run) -> bool:
        return self.placebo is not None and str(run.identity[self.arm or ""]) == self.placebo


@dataclass(frozen=True)
class Unit:
    """Standard deviations of the rewards at the start, over runs: the unit of the controlled gap."""

    proxy_sd: float
    true_sd: float


def score_runs(runs: Sequence[Run], design: Design) -> dict[str, Any]:
    """Score every run; numbers that a log does not determine are None, and ``notes`` say why.

    Raises:
        DataError: the placebo or a beta cannot be told, or a reward never varies at the start.
    """
    _check_design(runs, design)
    unit, missing = _unit(runs)
    learning = [run for run in runs if not design.is_placebo(run)]
    thresholds = {
        PAPER: hacking_threshold([_paper_gap(run) for run in learning]),
        CONTROLLED: _controlled_threshold(learning, unit, design),
    }
    scores = [_score(run, unit, thresholds) for run in runs]
    notes = [missing] if missing else []
    notes += _prompt_notes(runs) + _add_excess(runs, scores, design)
    trends, trend_notes = _trends(runs, scores, design)
    return {
        "runs": scores,
        "thresholds": thresholds,
        "threshold_given": design.threshold is not None,
        "base_sd": {"proxy": unit.proxy_sd if unit else None, "true": unit.true_sd if unit else None},
        "trends": trends,
        "notes": notes + trend_notes,
    }


def _check_design(runs: Sequence[Run], design: Design) -> None:
    if design.threshold is not None and not design.threshold > 0:
        raise DataError(f"found --threshold {design.threshold:g}; expected a gap above 0, in standard deviations")
    if design.placebo is None:
        return
    if design.arm is None:
        raise DataError(f"found --placebo {design.placebo} without --arm; expected the column that holds it")
    arms = sorted({str(run.identity[design.arm]) for run in runs})
    if design.placebo not in arms or len(arms) < 2:
        raise DataError(f"found the arms {arms} in column {design.arm!r}; expected {design.placebo!r} and another")


def _unit(runs: Sequence[Run]) -> tuple[Unit | None, str]:
    """Unit of the controlled gap, or why there is none."""
    proxy_sd, true_sd = _base_sd([run.proxy for run in runs]), _base_sd([run.true for run in runs])
    if proxy_sd is not None and true_sd is not None:
        for option, sd in (("--proxy-sd", proxy_sd), ("--true-sd", true_sd)):
            if not sd > 0:
                raise DataError(
                    f"found a standard deviation of {sd:g} at the first step; expected one above 0: give the base "
                    f"policy's with {option}"
                )
        return Unit(proxy_sd, true_sd), ""
    lacking = " and ".join(option for option, sd in (("--proxy-sd", proxy_sd), ("--true-sd", true_sd)) if sd is None)
    return None, (
        f"Only the paper's measure: the table has one row per step and no {lacking} was given.\n"
        "The controlled measure is in units of the base policy's spread: rows per sample, or both standard deviations."
    )


def _base_sd(rewards: Sequence[Reward]) -> float | None:
    """Root mean variance at the first step over runs, so that all runs have one unit; None where a run has none."""
    variances = [reward.start_variance for reward in rewards if reward.start_variance is not None]
    if len(variances) < len(rewards):
        return None
    if not any(variances) and all(reward.binary for reward in rewards):
        counts = [reward.start_count for reward in rewards]
        return smoothed_sd(float(np.average([reward.mean_T[0] for reward in rewards], weights=counts)), sum(counts))
    return math.sqrt(float(np.mean(variances)))


def _paper_gap(run: Run) -> np.ndarray:
    return paper_gap(run.proxy.mean_T, run.true.mean_T)


def _controlled_gap(run: Run, unit: Unit) -> np.ndarray:
    return controlled_gap(run.proxy.mean_T, run.true.mean_T, unit.proxy_sd, unit.true_sd)


def _controlled_threshold(runs: Sequence[Run], unit: Unit | None, design: Design) -> float | None:
    if unit is None or design.threshold is not None:
        return design.threshold if unit else None
    return hacking_threshold([_controlled_gap(run, unit) for run in runs])


def _score(run: Run, unit: Unit | None, thresholds: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "identity": run.identity,
        "points": len(run.steps_T),
        "first_step": int(run.steps_T[0]),
        "last_step": int(run.steps_T[-1]),
        "fewest_samples_per_step": int(run.samples_T.min()),
        PAPER: _paper_score(run, thresholds[PAPER]),
        CONTROLLED: None if unit is None else _controlled_score(run, unit, thresholds[CONTROLLED]),
    }


def _paper_score(run: Run, threshold: float | None) -> dict[str, Any]:
    gap_T = _paper_gap(run)
    proxy, true = float(run.proxy.mean_T[0]), float(run.true.mean_T[0])
    return {
        "baseline_proxy": proxy,
        "baseline_true": true,
        "baseline_degenerate": baseline_degenerate(proxy, true),
        "final_gap": float(gap_T[-1]),
        "augc": augc(run.steps_T, gap_T),
        "onset_step": hacking_onset(run.steps_T, gap_T, threshold),
    }


def _controlled_score(run: Run, unit: Unit, threshold: float | None) -> dict[str, Any]:
    gap_T = _controlled_gap(run, unit)
    proxy_T = (run.proxy.mean_T - run.proxy.mean_T[0]) / unit.proxy_sd
    true_T = (run.true.mean_T - run.true.mean_T[0]) / unit.true_sd
    return {
        "proxy_change": float(proxy_T[-1]),
        "true_change": float(true_T[-1]),
        "final_gap": float(gap_T[-1]),
        "augc": augc(run.steps_T, gap_T),
        "signed_augc": signed_augc(run.steps_T, gap_T),
        "augc_over_kl": None if run.kl_T is None else augc_over_kl(run.kl_T, gap_T),
        "true_regret": _regret(run),
        "overoptimization": overoptimization(run.steps_T, proxy_T, true_T),
        "onset_step": hacking_onset(run.steps_T, gap_T, threshold),
        "onset_interval": _onset_interval(run, unit, threshold),
    }


def _regret(run: Run) -> float | None:
    prompts = run.true.prompt_mean_T_N
    return None if prompts is None or prompts.shape[1] < 2 else true_regret(prompts)


def _onset_interval(run: Run, unit: Unit, threshold: float | None) -> list[int | str] | None:
    proxy_T_N, true_T_N = run.proxy.prompt_mean_T_N, run.true.prompt_mean_T_N
    if proxy_T_N is None or true_T_N is None:
        return None
    generator = rng.generator(0, "onset", run.name)
    bounds = onset_interval(run.steps_T, proxy_T_N, true_T_N, unit.proxy_sd, unit.true_sd, threshold, generator)
    return bounds and [NEVER if math.isinf(bound) else int(bound) for bound in bounds]


def _prompt_notes(runs: Sequence[Run]) -> list[str]:
    known = [run.true.prompt_mean_T_N for run in runs]
    if any(prompts is None or prompts.shape[1] < 2 for prompts in known):
        return [
            "No regret and no interval of the onset: both take the prompts of --prompt apart, and need the same\n"
            "number of them, two or more, at every step."
        ]
    return []


def _add_excess(runs: Sequence[Run], scores: Sequence[dict[str, Any]], design: Design) -> list[str]:
    """Put each learning run's excess over its placebo into its record, and say where no own placebo was found."""
    if design.placebo is None:
        return []
    placebos = [(run, score) for run, score in zip(runs, scores, strict=True) if design.is_placebo(run)]
    shared = 0
    for run, score in zip(runs, scores, strict=True):
        if design.is_placebo(run):
            continue
        own = [other for placebo, other in placebos if _beside_arm(placebo, design) == _beside_arm(run, design)]
        shared += not own
        _subtract(score, own or [other for _, other in placebos])
    if not shared:
        return []
    return [f"{shared} runs have no placebo of the same groups: their excess is over the mean of all placebo runs."]


def _beside_arm(run: Run, design: Design) -> dict[str, Any]:
    return {name: value for name, value in run.identity.items() if name != design.arm}


def _subtract(score: dict[str, Any], placebos: Sequence[dict[str, Any]]) -> None:
    for measure, names in EXCESSES.items():
        if score[measure] is None:
            continue
        for name in names:
            values = [placebo[measure][name] for placebo in placebos]
            known = score[measure][name] is not None and None not in values
            score[measure][f"{name}_excess"] = score[measure][name] - float(np.mean(values)) if known else None


def _trends(
    runs: Sequence[Run], scores: Sequence[dict[str, Any]], design: Design
) -> tuple[list[dict[str, Any]], list[str]]:
    """Trends of the learning runs; none without a column of betas."""
    if design.beta is None:
        return [], []
    learning = [score for run, score in zip(runs, scores, strict=True) if not design.is_placebo(run)]
    return trends_over_beta(learning, design.beta, design.seed)
