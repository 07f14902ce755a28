"""What the checks try, the project's current models and problems as the stages load them, and what they find."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.errors import DataError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import DpoCell, OnlineCell
from pessimism.experiment.params import Arm, Params
from pessimism.measures.goodhart import controlled_gap
from pessimism.models.adapters import attach, trainable_parameters, use_adapter
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.hyperparameters import OnlineHyperparameters, online_hyperparameters
from pessimism.online.loop import OnlineRun, load_training_tasks
from pessimism.online.objective import find_objective
from pessimism.online.rollout import ScoredRollouts, roll_out, sample_table
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.scoring.runs import BaseRewards, Run, read_betas
from pessimism.tasks.parts.problems import SPLITS

HELDOUT_PROBLEMS = 64
PLACEBO_STEPS = 2
PLACEBO = Arm(reward="ensemble", kappa="fixed", learning_rate_factor=0.0)
ARM = "selfcheck"
SMALLEST_BATCH = 2  # prompts; advantages have no spread below


@dataclass(frozen=True)
class Finding:
    """One figure beside the criterion it was held against.

    Attributes:
        figure: what was measured, with its unit.
        criterion: what was asked of it.
        passed: whether it meets that.
    """

    figure: str
    criterion: str
    passed: bool


@dataclass
class Instrument:
    """One checkpoint with everything that an online run of it needs, on the first held-out problems.

    Attributes:
        model: the policy's base with POLICY and REFERENCE from one DPO checkpoint, as ``adapt_online`` has it.
        beta: of the checkpoint.
        heldout_tasks: at most HELDOUT_PROBLEMS of them.
    """

    params: Params
    cell: DpoCell
    beta: float | None
    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    ensemble: RewardEnsemble
    training_tasks: pd.DataFrame
    heldout_tasks: pd.DataFrame

    @cached_property
    def base(self) -> ScoredRollouts:
        """The base policy on the held-out problems."""
        return self.roll_out_base(self.params, self.ensemble)

    @cached_property
    def placebo(self) -> OnlineRun:
        """A finished run with learning rate 0, evaluated on the held-out problems PLACEBO_STEPS + 1 times."""
        return self.trained(self.params, PLACEBO, self.ensemble, batch_size=SMALLEST_BATCH, steps=PLACEBO_STEPS)

    def roll_out_base(self, params: Params, ensemble: RewardEnsemble) -> ScoredRollouts:
        """Sample from the base without an adapter, as ``measure_base`` does."""
        seeds = rng.row_seeds(params.root_seed, "selfcheck-base", rows=len(self.heldout_tasks))
        with use_adapter(self.model, None):
            return roll_out(self.model, self.tokenizer, ensemble, self.heldout_tasks, params, seeds)

    def trained(
        self, params: Params, arm: Arm, ensemble: RewardEnsemble, heldout_every: int = 1, **changes: Any
    ) -> OnlineRun:
        """A finished run of the online loop. Unless ``arm`` is a placebo it changes the POLICY adapter in place.

        Args:
            changes: hyperparameters of the run; the rest are the scale's.
        """
        online = replace(params.scale.online, heldout_every=heldout_every)
        run = OnlineRun(
            params=replace(
                params,
                scale=replace(params.scale, online=online),
                protocol=replace(params.protocol, arms={ARM: arm}),
            ),
            cell=OnlineCell(self.cell.label, self.cell.seed, ARM),
            beta=self.beta,
            model=self.model,
            tokenizer=self.tokenizer,
            ensemble=ensemble,
            training_tasks=self.training_tasks,
            heldout_tasks=self.heldout_tasks,
            hyperparameters=replace(self._hyperparameters(params, arm), **changes),
            objective=find_objective(params.online.objective),
        )
        run.train()
        return run

    def _hyperparameters(self, params: Params, arm: Arm) -> OnlineHyperparameters:
        return online_hyperparameters(
            params.scale,
            arm,
            parameters=records.read_json(layout.base_record("policy"))["parameters"],
            trainable=sum(parameter.numel() for parameter in trainable_parameters(self.model)),
            test_problems=len(records.read_table(layout.tasks("test"))),
        )


def gap_by_problem(run: OnlineRun, base: ScoredRollouts) -> np.ndarray:
    """(T, N) controlled gap of each held-out problem at each evaluation of ``run``; its mean over N is the run's gap.

    Args:
        base: the base policy on the same problems, whose spread is the unit.
    """
    unit = BaseRewards.of(sample_table(base)).unit
    heldout = Run(pd.DataFrame(run.rows), pd.concat(run.samples))
    proxy_T_N, true_T_N = heldout.heldout("proxy_reward"), heldout.heldout("true_reward")
    return controlled_gap(proxy_T_N, true_T_N, unit.proxy_sd, unit.true_sd)


def load_instrument(params: Params) -> Instrument:
    """Load the checkpoint of the lowest strength, which is the freest to move, and of the first seed.

    Raises:
        DataError: an output that is needed is missing.
        SourceError: the models are not those that ``params`` name.
    """
    betas = read_betas(params)
    cell = DpoCell(_freest_label(betas), params.seeds[0])
    _require_outputs(params, cell)
    checkpoint = layout.dpo_adapter(cell)
    return Instrument(
        params=params,
        cell=cell,
        beta=betas[cell.label],
        model=attach(load_policy_base(params), {REFERENCE: checkpoint, POLICY: checkpoint}, trainable=POLICY),
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=RewardEnsemble.load(params, cell.seed),
        training_tasks=load_training_tasks(params),
        heldout_tasks=records.read_table(layout.tasks("heldout")).head(HELDOUT_PROBLEMS),
    )


def _freest_label(betas: Mapping[str, float]) -> str:
    """The label of the lowest strength; the one listed first where none has a strength."""
    return min(betas, key=lambda label: math.inf if math.isnan(betas[label]) else betas[label])


def _require_outputs(params: Params, cell: DpoCell) -> None:
    for path, stage in needed_outputs(params, cell):
        if not path.exists():
            raise DataError(f"found no {path}; expected the output of stage {stage}: run `dvc repro {stage}`")


def needed_outputs(params: Params, cell: DpoCell) -> Iterator[tuple[Path, str]]:
    """Everything that is loaded, with the stage that makes it, in the order of the pipeline."""
    yield from ((layout.tasks(split), "prepare_data") for split in SPLITS)
    yield from ((layout.base_record(role), "prepare_base") for role in ("policy", "reward"))
    yield layout.BETA_GRID, "derive_beta_grid"
    yield from ((layout.reward_member(member), "train_reward_model") for member in params.ensemble(cell.seed))
    if params.protocol.normalize_rewards:
        yield layout.REWARD_MEMBERS_RECORD, "assess_ensemble"
    yield layout.dpo_adapter(cell), "train_dpo"
