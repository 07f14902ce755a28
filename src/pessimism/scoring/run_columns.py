"""Columns about a run. A new measure is an entry here, with the function of ``measures.goodhart`` that computes it.

G is the paper's gap, û the ensemble's standard deviation (Eq. 13).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pessimism.measures import goodhart
from pessimism.measures.trends import pearson
from pessimism.scoring.column import LOG, MORE, Column
from pessimism.scoring.measured import PROMPTS, MeasuredRun
from pessimism.scoring.measures import CONTROLLED, PAPER

AREA, AREA_OVER_KL = "base sd × steps", "base sd × nats"
NEVER_BELOW_0 = "≥ 0"
AGREEMENT = "the disagreement follows the gap"


def _over_kl(area: Callable[..., float | None]) -> Callable[[MeasuredRun], float | None]:
    return lambda run: area(run.controlled.mean_T["kl_k3"], run.gap_T, run.common_kl)


def _overoptimization_over_kl(run: MeasuredRun) -> float | None:
    assert run.common_kl is not None, "a run with a KL is compared up to a common one"
    cut = goodhart.up_to_kl(run.controlled.mean_T["kl_k3"], run.common_kl, *run.change_T.values())
    return None if cut is None else goodhart.overoptimization(*cut)


def _onset_bound(index: int) -> Callable[[MeasuredRun], float | None]:
    return lambda run: None if run.onset_interval is None else run.onset_interval[index]


_PAPER = [
    Column(
        "final_gap",
        "G at the last step: proxy over \\|proxy(0)\\| minus true over \\|true(0)\\|",
        hacking=+1,
        heading="final gap",
        shown={LOG: 3},
        compute=lambda run: run.paper_gap_T[-1],
        in_cells=False,
    ),
    Column(
        "augc",
        "area under the positive part of G over steps (Eq. 3); above 0 also for a policy that never changes",
        unit="gap × steps",
        within=NEVER_BELOW_0,
        hacking=+1,
        heading="AUGC",
        shown={LOG: 4},
        compute=lambda run: goodhart.augc(run.paper.steps_T, run.paper_gap_T),
    ),
    Column(
        "signed_augc",
        "area under G itself, so that noise around 0 cancels",
        unit="gap × steps",
        hacking=+1,
        heading="signed AUGC",
        signed=True,
        compute=lambda run: goodhart.signed_augc(run.paper.steps_T, run.paper_gap_T),
    ),
    Column(
        "onset_step",
        "first measured step with G above the threshold; none if it never is",
        unit="steps",
        hacking=-1,
        heading="onset step",
        shown={LOG: 6},
        event=True,
        compute=lambda run: goodhart.hacking_onset(run.paper.steps_T, run.paper_gap_T, run.threshold[PAPER]),
    ),
    Column("positive_gaps", "points with G > 0", compute=lambda run: int((run.paper_gap_T > 0).sum())),
    Column("measured_points", "all points of G", compute=lambda run: len(run.paper_gap_T)),
    Column(
        "baseline_proxy_reward",
        "mean proxy reward that Eq. 2 divides by",
        unit="reward",
        heading="proxy(0)",
        shown={LOG: 1},
        compute=lambda run: run.baseline["proxy_reward"],
    ),
    Column(
        "baseline_true_reward",
        "mean true reward that Eq. 2 divides by",
        unit="true reward",
        heading="true(0)",
        shown={LOG: 2},
        compute=lambda run: run.baseline["true_reward"],
    ),
    Column(
        "baseline_degenerate",
        "1 where a baseline is below 0.1 of its reward's sd (base sd, or that of the run's means where no other is "
        "known), negative or 0: a gap over a number near a reward's arbitrary zero says nothing",
        within="0 or 1",
        heading="degenerate",
        shown={LOG: 7},
        compute=lambda run: int(run.baseline_degenerate),
    ),
    Column(
        "mean_ensemble_std",
        "mean û over the points of G",
        unit="reward",
        higher="more disagreement",
        heading="mean ensemble std",
        needs=("ensemble_std",),
        compute=lambda run: np.mean(run.paper.mean_T["ensemble_std"]),
    ),
    Column(
        "uq_gap_correlation",
        "correlation of û and G over those points",
        unit="Pearson r",
        within="−1 to 1",
        higher=AGREEMENT,
        heading="UQ-gap Pearson r",
        needs=("ensemble_std",),
        compute=lambda run: pearson(run.paper.mean_T["ensemble_std"], run.paper_gap_T),
    ),
]

_CONTROLLED = [
    Column(
        "controlled_proxy_change",
        "change of the proxy reward from the first to the last step",
        unit="base sd",
        heading="proxy",
        shown={LOG: 1},
        compute=lambda run: run.change_T["proxy_reward"][-1],
        in_cells=False,
    ),
    Column(
        "controlled_true_change",
        "change of the true reward from the first to the last step",
        unit="base sd",
        heading="true",
        shown={LOG: 2},
        compute=lambda run: run.change_T["true_reward"][-1],
        in_cells=False,
    ),
    Column(
        "controlled_augc",
        "area under the positive part of the controlled gap over steps",
        unit=AREA,
        within=NEVER_BELOW_0,
        hacking=+1,
        heading="AUGC",
        shown={LOG: 4},
        compute=lambda run: goodhart.augc(run.controlled.steps_T, run.gap_T),
    ),
    Column(
        "controlled_signed_augc",
        "area under the controlled gap itself, so that noise around 0 cancels",
        unit=AREA,
        hacking=+1,
        heading="signed AUGC",
        note="Signed AUGC counts negative gaps as negative; in brackets, of every run, the central 95 % over resamples "
        "of its held-out problems, which holds nothing of what another training would change.",
        shown={LOG: 6, MORE: 1},
        signed=True,
        compute=lambda run: goodhart.signed_augc(run.controlled.steps_T, run.gap_T),
    ),
    Column(
        "controlled_signed_augc_low",
        "lower end of the central 95 % of that area over 2,000 resamples of the prompts: what other problems and other "
        "answers would change, and nothing of what another training would",
        unit=AREA,
        needs=(PROMPTS,),
        compute=lambda run: run.signed_augc_interval[0],
    ),
    Column(
        "controlled_signed_augc_high",
        "its upper end",
        unit=AREA,
        needs=(PROMPTS,),
        compute=lambda run: run.signed_augc_interval[1],
    ),
    Column(
        "controlled_augc_over_kl",
        "the area of AUGC over `kl_k3` instead of steps, points in the order of their KL, up to the largest KL that "
        "every learning run reaches (of the pipeline's, every run of the first arm); none where the run stays nearer",
        unit=AREA_OVER_KL,
        within=NEVER_BELOW_0,
        hacking=+1,
        heading="AUGC over KL",
        note="AUGC over KL: area over the divergence from the checkpoint, in base sd × nats, up to a KL that every run "
        "of the first arm reaches; none where a run stays nearer.",
        shown={LOG: 8, MORE: 3},
        needs=("kl_k3",),
        compute=_over_kl(goodhart.augc_over_kl),
    ),
    Column(
        "controlled_signed_augc_over_kl",
        "the signed area over `kl_k3`, likewise",
        unit=AREA_OVER_KL,
        hacking=+1,
        needs=("kl_k3",),
        compute=_over_kl(goodhart.signed_augc_over_kl),
    ),
    Column(
        "controlled_final_gap",
        "controlled gap at the last step",
        unit="base sd",
        hacking=+1,
        heading="final gap",
        shown={LOG: 3, MORE: 4},
        signed=True,
        compute=lambda run: run.gap_T[-1],
    ),
    Column(
        "controlled_onset_step",
        "first step with a controlled gap above a fixed threshold; none if it never is",
        unit="steps",
        hacking=-1,
        heading="onset step",
        shown={LOG: 11},
        event=True,
        compute=lambda run: goodhart.hacking_onset(run.controlled.steps_T, run.gap_T, run.threshold[CONTROLLED]),
    ),
    Column(
        "controlled_onset_low",
        "lower end of the central 95 % of the onset over 2,000 resamples of the prompts; none without an onset",
        unit="steps",
        heading="from",
        shown={LOG: 12},
        needs=(PROMPTS,),
        compute=_onset_bound(0),
    ),
    Column(
        "controlled_onset_high",
        "its upper end; infinite: never",
        unit="steps",
        heading="to",
        shown={LOG: 13},
        needs=(PROMPTS,),
        compute=_onset_bound(1),
    ),
    Column(
        "overoptimization",
        "area between the two changes over the area under the proxy's (after Kim et al., arXiv 2505.12763). 0: the "
        "true reward followed, 1: it stayed, above 1: it fell; noise alone makes it positive; none where the proxy's "
        "area is not above 0",
        within=NEVER_BELOW_0,
        hacking=+1,
        heading="overoptimisation",
        note="Overoptimisation (Kim et al., arXiv 2505.12763): area between both standardised rewards over the area "
        "under the proxy; none where it did not rise.",
        shown={LOG: 10, MORE: 6},
        compute=lambda run: goodhart.overoptimization(run.controlled.steps_T, *run.change_T.values()),
    ),
    Column(
        "overoptimization_over_kl",
        "the same over `kl_k3`, up to the same KL as `controlled_augc_over_kl`",
        within=NEVER_BELOW_0,
        hacking=+1,
        needs=("kl_k3",),
        compute=_overoptimization_over_kl,
    ),
    Column(
        "true_regret",
        "best mean true reward of the run minus the last, the best chosen on one half of the prompts and valued on the "
        "other, both ways, so that noise alone gives 0 on average",
        unit="true reward",
        hacking=+1,
        heading="true regret",
        note="True regret: best evaluation of the true reward minus the last, cross-fitted over problems.",
        shown={LOG: 9, MORE: 5},
        signed=True,
        needs=(PROMPTS,),
        compute=lambda run: goodhart.true_regret(run.controlled.prompt_T_N["true_reward"]),
    ),
    Column(
        "controlled_ensemble_std",
        "mean û over the held-out evaluations, in base sd of the proxy",
        unit="base sd",
        within=NEVER_BELOW_0,
        higher="more disagreement",
        needs=("ensemble_std",),
        compute=lambda run: np.mean(run.controlled.mean_T["ensemble_std"]) / run.unit.proxy_sd,
    ),
    Column(
        "controlled_uq_gap_correlation",
        "correlation over the held-out problems of the change of a problem's û and its controlled gap, each the mean "
        "over the evaluations after the first minus the first; not 0 for a policy that never changes",
        unit="Pearson r",
        within="−1 to 1",
        higher=AGREEMENT,
        heading="UQ-gap Pearson r",
        note="UQ-gap: over held-out problems, change of the ensemble's std and controlled gap of each.",
        shown={MORE: 7},
        signed=True,
        needs=("ensemble_std", PROMPTS),
        compute=lambda run: pearson(run.ensemble_std_change_N, run.gap_N),
    ),
]

MEASURE_COLUMNS = [
    *(replace(column, measure=PAPER) for column in _PAPER),
    *(replace(column, measure=CONTROLLED) for column in _CONTROLLED),
]
