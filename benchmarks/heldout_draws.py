"""What the random streams of the held-out evaluations do to the noise of an area: the numbers of docs/decisions.md.

    python -m benchmarks.heldout_draws p20-s0-proxy p80-s0-proxy

Runs each online cell of a finished offline phase, keeps the policy of every evaluation, and draws the held-out answers
of all of them on the same SETS sets of streams. The covariance of the policies over sets, problem by problem, gives the
variance of the signed controlled area under any plan of streams, for these problems and for new ones.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import Params, load_params
from pessimism.models.adapters import attach, trainable_parameters, use_adapter
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.online.loop import OnlineRun, load_training_tasks
from pessimism.online.objective import find_objective
from pessimism.online.rollout import roll_out
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.scoring.runs import read_base

SETS = 8


class KeptRun(OnlineRun):
    """A run that draws its evaluations on SETS sets of streams, and writes nothing down."""

    gap_T_M_N: list[list[np.ndarray]]

    def _evaluate_heldout(self, *steps: int) -> None:
        unit = read_base(self.params)[self.cell.seed].unit
        sets = []
        for place in range(SETS):
            seeds = rng.row_seeds(self.params.root_seed, "heldout-draws", place, rows=len(self.heldout_tasks))
            with use_adapter(self.model, POLICY):
                scored = roll_out(self.model, self.tokenizer, self.ensemble, self.heldout_tasks, self.params, seeds)
            sets.append(scored.proxy_reward / unit.proxy_sd - scored.true_reward / unit.true_sd)
        self.gap_T_M_N.append(sets)


def load(params: Params, cell: OnlineCell) -> KeptRun:
    """The run as stages/adapt_online.py makes it."""
    checkpoint = layout.dpo_adapter(cell.dpo)
    model = attach(load_policy_base(params), {REFERENCE: checkpoint, POLICY: checkpoint}, trainable=POLICY)
    run = KeptRun(
        params=params,
        cell=cell,
        beta=records.get(records.read_json(layout.BETA_GRID), cell.label),
        model=model,
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=RewardEnsemble.load(params, cell.seed),
        training_tasks=load_training_tasks(params),
        heldout_tasks=records.read_table(layout.tasks("heldout")),
        hyperparameters=online_hyperparameters(
            params.scale,
            params.arm(cell.arm),
            parameters=records.read_json(layout.base_record("policy"))["parameters"],
            trainable=sum(parameter.numel() for parameter in trainable_parameters(model)),
            test_problems=len(records.read_table(layout.tasks("test"))),
        ),
        objective=find_objective(params.online.objective),
    )
    run.gap_T_M_N = []
    return run


def variances(gap_T_M_N: np.ndarray, weight_T: np.ndarray) -> dict[str, float]:
    """Variance of a signed area from single answers, by plan of streams, and from the problems.

    Args:
        gap_T_M_N: proxy minus true reward in base sd, by evaluation, set of streams and problem.
        weight_T: :func:`area_weights`.
    """
    problems = gap_T_M_N.shape[2]
    centred = gap_T_M_N - gap_T_M_N.mean(axis=1, keepdims=True)
    covariance_T_T = np.einsum("imn,jmn->ij", centred, centred) / (gap_T_M_N.shape[1] - 1) / problems**2
    own = np.diag(covariance_T_T)
    from_start = own + own[0] - 2 * covariance_T_T[0]
    common = float(weight_T @ covariance_T_T @ weight_T)
    area_N = weight_T @ gap_T_M_N.mean(axis=1)
    return {
        "new draws at every step, own start": float(weight_T**2 @ own),
        "new draws at every step, above the placebo's on the same": float(weight_T**2 @ from_start),
        "the same draws at all steps": common,
        "new draws at every step, a start without noise": float(weight_T[1:] ** 2 @ own[1:]),
        "problems": float(area_N.var(ddof=1)) / problems - common / gap_T_M_N.shape[1],
    }


def area_weights(steps_T: np.ndarray) -> np.ndarray:
    """(T,) what the mean of each evaluation counts in the signed area of the change since the first."""
    halves = np.diff(steps_T) / 2
    weight_T = np.append(halves, 0) + np.append(0, halves)
    weight_T[0] -= steps_T[-1] - steps_T[0]
    return weight_T


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def main(keys: list[str]) -> None:
    params = load_params()
    gaps: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for key in keys:
        label, seed, arm = key.split("-")
        run = load(params, OnlineCell(label, int(seed[1:]), arm))
        run.train()
        gaps.append(np.array(run.gap_T_M_N))
        weights.append(area_weights(np.array(run._evaluated_steps, dtype=float)))
        area = float(weights[-1] @ gaps[-1].mean(axis=(1, 2)))
        print(f"{key}: area {area:.2f}; variance of it from", rounded(variances(gaps[-1], weights[-1])))
    if len(keys) == 2:
        print("difference of the two:", rounded(variances(gaps[0] - gaps[1], weights[0])))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
