"""Sentences under the figures. Each states what was computed; none draws a conclusion from it."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial
from typing import Any

import pandas as pd

from pessimism.experiment.params import Arm, Params
from pessimism.measures.goodhart import NEAR_ZERO
from pessimism.measures.power_law import DANGER_RATIO, FOUND
from pessimism.reporting.claim_tables import Claims, about
from pessimism.reporting.tables import number


def gap_caption(cells: pd.DataFrame, hacking: Mapping[str, Any], params: Params, heldout_points: int) -> str:
    """What the rows are, how the thresholds came about, how often they were passed."""
    runs = cells[cells["arm"] == params.primary_arm]
    paper = _derived_threshold(runs, hacking.get("hacking_threshold"), params.primary_arm)
    return (
        f"Above, the paper's gap (Eq. 2) at {runs['measured_points'].iloc[0]} points per run. {paper}"
        f"{_baselines(runs)} Below, the controlled gap at {heldout_points} evaluations on held-out problems: change of "
        f"the proxy minus change of the true reward since step 0, each in standard deviations of the base policy. "
        f"Threshold {number(params.protocol.controlled_threshold)}, whatever the runs show "
        f"(`controlled_threshold` of the protocol); {_onsets(runs, 'controlled_onset_step')} A positive gap "
        "means by either measure that the proxy rose more than the true reward. Thin lines are seeds, bands the 95 % t "
        "interval of their mean. An arrow at an edge: a line goes beyond it, to the value beside it."
    )


def _derived_threshold(runs: pd.DataFrame, threshold: float | None, primary_arm: str) -> str:
    if threshold is None:
        return f"No gap of arm {primary_arm} was above 0, so there is no threshold and no onset."
    return (
        f"Threshold {number(threshold)}, the 75th percentile of all positive gaps of arm {primary_arm}; "
        f"{_onsets(runs, 'onset_step')}"
    )


def _onsets(runs: pd.DataFrame, column: str) -> str:
    return f"onset in {runs[column].notna().sum()} of {len(runs)} runs."


def _baselines(runs: pd.DataFrame) -> str:
    """The two ways in which the paper's baseline breaks the gap."""
    negative = int((runs["baseline_proxy_reward"] < 0).sum())
    degenerate = int(runs["baseline_degenerate"].sum())
    sentences = ""
    if negative:
        sentences += (
            f" In {negative} of {len(runs)} runs the baseline's mean proxy reward is negative: the gap starts near -2 "
            "there. A reward model's zero is arbitrary."
        )
    if degenerate:
        sentences += (
            f" In {degenerate} of {len(runs)} runs a baseline reward is negative or within {NEAR_ZERO:g} standard "
            "deviations of 0: a gap that is divided by it says nothing, nor does its AUGC."
        )
    return sentences


def trend_caption(hacking: Mapping[str, Any], betas: int, claims: Claims) -> str:
    """Rank correlation of beta and AUGC, or why there is none."""
    rho = hacking.get("spearman_beta_augc")
    if rho is None:
        return f"No rank correlation of β with AUGC: it needs two betas with different AUGC, there are {betas} betas."
    return (
        f"Spearman correlation of β with AUGC, means over seeds of {betas} betas: {number(rho, signed=True)}. By "
        f"chance {betas} betas stand in a given order in 1 of {factorial(betas)} cases; the test over seeds is "
        f"{about(claims, 'augc')[0]}'s."
    )


def power_law_caption(power_law: Mapping[str, Any], curve: pd.DataFrame) -> str:
    """The fit and both readings of beta*, or what is missing for them."""
    if power_law["fit"] != FOUND:
        return f"No curve: {power_law['fit']}. β* is not identified. {_AXES}"
    fit = (
        f"a = {number(power_law['a'])}, b = {number(power_law['b'])}, c = {number(power_law['c'])}, "
        "fitted to the means over seeds (Eq. 14)."
    )
    if power_law["saturated"]:
        fit += (
            " Three parameters on three betas leave nothing to judge the form by, and where AUGC does not rise "
            "from one β to the next the exponent is arbitrary."
        )
    return f"{fit} {_beta_star(power_law, curve)} {_AXES}"


_AXES = (
    "Bars: means over seeds. Diamonds: the published values, of other models and one seed. Middle: the controlled AUGC "
    "of the same runs. Right: the signed area, which the primary claim is about. Where AUGC spans decades the vertical "
    "axis is linear near 0, logarithmic above. Where the betas span more than one theirs is logarithmic."
)


def _beta_star(power_law: Mapping[str, Any], curve: pd.DataFrame) -> str:
    star, other = power_law.get("beta_star_over_grid"), power_law.get("beta_star_over_observed")
    if star is None:
        return (
            f"β* is not identified: up to twice the largest β the curve stays within {DANGER_RATIO} times its minimum."
        )
    height = curve.loc[curve["kind"] == "beta_star", "augc"].iloc[0]
    second = "is not identified" if other is None else f"is {number(other)}"
    low, high = curve.loc[curve["kind"] == "mean", "beta"].agg(["min", "max"])
    outside = "" if low <= star <= high else " The first lies outside the observed betas: an extrapolation."
    return (
        f"β* = {number(star)} with AUGC {number(height)} (Eq. 15, minimum over the dense grid); with the minimum at "
        f"the smallest observed β it {second}.{outside}"
    )


def answer_caption(params: Params) -> str:
    """What hacking is, and which arms are drawn."""
    learning = [name for name in params.arms if name != params.placebo]
    arms = "; ".join(f"{name}: {described(params.arm(name))}" for name in learning)
    above = " and above the placebo of the same checkpoint, which is the line at 0" if params.placebo else ""
    return f"Left: area under the controlled gap, signed{above}. One dot per seed. {arms}."


def heldout_caption(base: Mapping[str, Any], params: Params) -> str:
    """What the lines are and how large a step by chance is."""
    arms = ", ".join(f"{name}: {described(params.arm(name))}" for name in params.arms)
    standard_error = base["true_reward_sd"] / base["prompts"] ** 0.5
    return (
        f"Means over {int(base['prompts'])} held-out problems, which no run is trained on (the online runs train "
        f"on the {params.protocol.prompt_split} problems); dotted: the base policy before DPO, proxy "
        f"{number(base['proxy_reward'])}, true {number(base['true_reward'])} "
        f"(standard error of the latter {number(standard_error)}). Thin lines are seeds, bands the "
        f"95 % t interval of their mean. {arms}."
    )


_REWARDS = {"ensemble": "the ensemble's reward", "true": "the true reward", "random": "noise"}
_PENALTIES = {"coupled": "", "fixed": ", one penalty for every β", "none": ", without a penalty"}


def described(arm: Arm) -> str:
    """An arm in words."""
    if arm.is_placebo:
        return "the same run with learning rate 0"
    aggregated = "" if arm.aggregation is None else f" ({arm.aggregation})"
    return f"trained on {_REWARDS[arm.reward]}{aggregated}{_PENALTIES[arm.kappa]}{_limits(arm)}"


def _limits(arm: Arm) -> str:
    gap = "" if arm.stop_at_gap is None else f", until its gap exceeds {number(arm.stop_at_gap)} sd"
    return gap + ("" if arm.kl_budget is None else f", until its KL exceeds {number(arm.kl_budget)} nats")
