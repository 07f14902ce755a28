"""The online loop: sample, score, penalise, update; measured before each update (Eq. 8-10).

Several processes (``pessimism.machine.processes``) share the rows of every batch; what is taken over a batch, such as
advantages, kappa and gradients, is taken over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.errors import NonFiniteError, ParamsError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import Arm, Params
from pessimism.experiment.progress import Progress
from pessimism.machine import processes, sharing
from pessimism.measures.epsilon import EPS
from pessimism.models.adapters import trainable_parameters, use_adapter
from pessimism.models.compute.batching import evaluation_tokens
from pessimism.models.unfinished import Keeper, step_of
from pessimism.online.hyperparameters import OnlineHyperparameters
from pessimism.online.kept import Measured, load_state, save_state
from pessimism.online.objective import OnlineObjective
from pessimism.online.rollout import (
    ScoredRollouts,
    TaskBatch,
    response_batch,
    reward_summary,
    roll_out_batches,
    sample_table,
    shown_rollouts,
    sorted_response_batches,
    trained_response_ids,
)
from pessimism.online.stopping import stops
from pessimism.online.update import POLICY, ComparedResponses, Passes, accumulate_gradients, measure_loss
from pessimism.reward.aggregation import aggregate
from pessimism.reward.ensemble import RewardEnsemble

BATCH = "batch"
HELDOUT = "heldout"
ROLLOUTS_KEPT = 16
_REWARD_CAUSE = (
    "a reward model gives such scores, so train it with a lower reward_training.learning_rate, or the task's rewards do"
)
_POLICY_CAUSE = (
    "the policy has diverged, so lower online.learning_rate or the arm's learning_rate_factor, or its checkpoint had, "
    "so lower dpo.learning_rate"
)


@dataclass
class OnlineRun:
    """One online run of a policy against a reward ensemble.

    Attributes:
        model: one base with two adapters that start equal: POLICY, which is trained, and REFERENCE, which is not.
        beta: strength of the checkpoint's offline objective, the numerator of kappa in arms that couple it; None where
            the objective has none.
        objective: what is optimised.
        training_tasks: problems the policy is trained on; never held-out ones.
        heldout_tasks: problems the policy is evaluated on.
        live_rows: file that ``rows`` are appended to as they are measured, for who watches; None: none.
        frozen_from: step from which the policy was no longer updated; None where it was at every step.
        kept: where it keeps its unfinished work, and goes on from what lies there; None keeps nothing.
    """

    params: Params
    cell: OnlineCell
    beta: float | None
    objective: OnlineObjective
    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    ensemble: RewardEnsemble
    training_tasks: pd.DataFrame
    heldout_tasks: pd.DataFrame
    hyperparameters: OnlineHyperparameters
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[pd.DataFrame] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    live_rows: Path | None = None
    frozen_from: int | None = None
    kept: Keeper | None = None

    def train(self) -> None:
        """Run every step; fills ``rows``, ``samples`` and ``rollouts`` and changes the POLICY adapter alone.

        A policy that learns no more is measured at all further steps at once: a placebo's from step 0, that of an arm
        with a limit from the evaluation that exceeds it.
        """
        with self._progress:
            if self._arm.is_placebo:
                self._measure_frozen(0)
            else:
                self._learn()

    def _learn(self) -> None:
        if self.params.scale.online.gradient_checkpointing:
            self.model.activation_checkpointing_enable()
        chosen = self.hyperparameters
        parameters = trainable_parameters(self.model)
        optimizer = torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
        begun = self._restore(optimizer, parameters)
        for step, tasks in self._batches():
            if step < begun:
                continue
            if step in self._evaluated_steps:
                self._evaluate_heldout(step)
                if stops(self._arm, self.rows[0], self.rows[-1]):
                    self._measure_frozen(step)
                    return
            row = self._update(step, tasks, optimizer, parameters)
            if self._is_measured(step):
                self._add(row)
            self._tell(row)
            if self.kept is not None and self.kept.is_due() and processes.is_main():
                self.kept.keep(step + 1, lambda folder: save_state(folder, self._measured, parameters, optimizer))
        self._evaluate_heldout(chosen.steps)

    def _restore(self, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> int:
        """Take up the kept state of a run that was ended; the first step that is still to do."""
        state = None if self.kept is None else self.kept.latest()
        if state is None:
            return 0
        load_state(state, self._measured, parameters, optimizer)
        for row in self.rows:
            self._progress.measured(row)
        return step_of(state)

    @property
    def _measured(self) -> Measured:
        return Measured(self.rows, self.samples, self.rollouts)

    def _measure_frozen(self, since: int) -> None:
        """Fill ``rows``, ``samples`` and ``rollouts`` as learning rate 0 from ``since`` on would, without a gradient.

        The policy is the same at every step, so that the evaluations of all steps are drawn together, and the batches.
        """
        self.frozen_from = since
        done = {row["step"] for row in self.rows if row["prompt_set"] == HELDOUT}
        self._evaluate_heldout(*(step for step in self._evaluated_steps if step not in done))
        batches = {step: tasks for step, tasks in self._batches() if step >= since and self._is_measured(step)}
        for step, scored in zip(batches, self._roll_out_all(BATCH, batches), strict=True):
            self._add(self._measure_batch(step, scored, measure_loss))
            self._tell(self.rows[-1])
        self.rows.sort(key=lambda row: row["step"])  # stable: an evaluation stays before the batch of its step

    @cached_property
    def _progress(self) -> Progress:
        return Progress(f"adapt_online {self.cell.key}", self.hyperparameters.steps, self.live_rows)

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self._progress.measured(row)

    def _tell(self, row: Mapping[str, Any]) -> None:
        """Tell of a step by the row of its batch."""
        proxy, true, kl = (f"{row[name]:.3g}" for name in ("proxy_reward", "true_reward", "kl_k3"))
        self._progress.step(row["step"] + 1, proxy=proxy, true=true, KL=kl)

    def _batches(self) -> Iterator[tuple[int, pd.DataFrame]]:
        """Every step with the problems of its batch."""
        stream = rng.generator(self.params.root_seed, "online-prompts", *self._stream)
        samples = self.objective.samples_per_prompt
        prompts = self.hyperparameters.batch_size // samples
        for step in range(self.hyperparameters.steps):
            drawn = stream.choice(len(self.training_tasks), size=prompts, replace=False)
            yield step, self.training_tasks.iloc[drawn.repeat(samples)]

    @property
    def _evaluated_steps(self) -> list[int]:
        """Steps before which the held-out problems are evaluated, and the last."""
        steps = self.hyperparameters.steps
        return [*range(0, steps, self.params.scale.online.heldout_every), steps]

    def _is_measured(self, step: int) -> bool:
        return step % self.hyperparameters.measure_every == 0 or step == self.hyperparameters.steps - 1

    @property
    def _stream(self) -> tuple[int | str, ...]:
        return rng.run_stream(self.params.protocol, self.cell.label, self.cell.seed)

    def _roll_out(self, purpose: str, step: int, tasks: pd.DataFrame) -> ScoredRollouts:
        (scored,) = self._roll_out_all(purpose, {step: tasks})
        return scored

    def _roll_out_all(self, purpose: str, tasks: Mapping[int, pd.DataFrame]) -> list[ScoredRollouts]:
        """Sample and score the batches of some steps; all of them are sampled together.

        Draws are new at every step, so that their noise averages out over a run. The arms of a checkpoint meet the same
        ones, so that it cancels against the placebo's. Reward dropout, where the protocol keeps it, is for training
        batches alone.
        """
        root_seed, batches = self.params.root_seed, []
        for step, posed in tasks.items():
            mine = sharing.share(len(posed))
            seeds = rng.row_seeds(root_seed, purpose, *self._stream, step, rows=len(posed))
            dropout_seed = None
            if self.params.protocol.reward_dropout and purpose == BATCH:
                # Shares have masks of their own; that of the first row has those of the whole batch.
                first_row = [mine.start] if mine.start else []
                dropout_seed = rng.seed(root_seed, "reward-dropout", *self._stream, step, *first_row)
            rows = slice(mine.start, mine.stop)
            batches.append(TaskBatch(posed.iloc[rows], seeds[rows], dropout_seed))
        with use_adapter(self.model, POLICY):
            scored = roll_out_batches(self.model, self.tokenizer, self.ensemble, batches, self.params)
        joined = [ScoredRollouts.joined(sharing.gather([batch])) for batch in scored]
        self._progress.drew(sum(int(batch.response_tokens.sum()) for batch in joined))
        return joined

    def _update(
        self, step: int, tasks: pd.DataFrame, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
    ) -> dict[str, Any]:
        """One step on one batch; the returned row describes the batch before the update."""
        scored = self._roll_out(BATCH, step, tasks)
        optimizer.zero_grad()
        row = self._measure_batch(step, scored, accumulate_gradients)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.hyperparameters.clip_norm)
        self._check_finite(BATCH, step, {"gradient norm": float(norm)}, _POLICY_CAUSE)
        optimizer.step()
        return row

    def _measure_batch(
        self, step: int, scored: ScoredRollouts, loss_of: Callable[..., tuple[ComparedResponses, torch.Tensor, float]]
    ) -> dict[str, Any]:
        """The row of one batch.

        Args:
            loss_of: ``accumulate_gradients``, or ``measure_loss`` where nothing is trained.
        """
        protocol, device = self.params.protocol, self.model.device
        summary = reward_summary(scored)
        self._check_finite(BATCH, step, summary, _REWARD_CAUSE)
        rewards = torch.tensor(self._training_reward(step, scored), dtype=torch.float32)
        objective, disagreement = self.objective, self._relative_disagreement(summary["ensemble_std"])
        numerator = objective.numerator(self._kl_numerator, disagreement)

        def weigh(log_ratios: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            kappa = objective.coefficient(numerator, log_ratios, protocol.kl_percentile, protocol.kl_noise_floor)
            return objective.advantages(objective.penalized_rewards(rewards, log_ratios, kappa)).to(device), kappa

        responses = trained_response_ids(scored.rollouts, self.tokenizer, protocol)
        mine, size = sharing.share(len(responses)), self._micro_batch_size
        rows = [mine[start : start + size] for start in range(0, len(mine), size)]
        parts = [response_batch(scored.rollouts, responses, part, self.tokenizer, device) for part in rows]
        seeds = [rng.seed(self.params.root_seed, "policy-dropout", *self._stream, step, part[0]) for part in rows]
        compared, kappa, loss = loss_of(self._passes, parts, weigh, objective.loss, seeds)
        tokens = torch.tensor([len(ids) for ids in responses]).clamp(min=1)
        weights = objective.penalty_weights(compared.log_ratios, tokens, kappa)
        ratio = float(weights.mean() / (objective.advantages(rewards).abs().mean() + EPS))
        measured = {**compared.means(), "kappa": float(kappa), "loss": loss, "penalty_ratio": ratio}
        self._check_finite(BATCH, step, measured, _POLICY_CAUSE)
        return {"step": step, "prompt_set": BATCH, **summary, **measured}

    def _check_finite(self, prompt_set: str, step: int, values: Mapping[str, float], cause: str) -> None:
        """Refuse to go on with a number that is not finite: the next update would make every weight so.

        Raises:
            NonFiniteError: one is not; the message names the step, the quantity and the likely cause.
        """
        bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(f"step {step}, {prompt_set}: found {', '.join(bad)}; expected finite numbers: {cause}")

    @property
    def _micro_batch_size(self) -> int:
        size = self.params.scale.online.micro_batch_size
        return self.hyperparameters.batch_size if size is None else size

    @property
    def _passes(self) -> Passes:
        return Passes(self.model, self.params.protocol.policy_dropout, self.params.scale.online.gradient_checkpointing)

    @property
    def _arm(self) -> Arm:
        return self.params.arm(self.cell.arm)

    def _training_reward(self, step: int, scored: ScoredRollouts) -> np.ndarray:
        """(B,) what the arm is trained on."""
        if self._arm.reward == "random":
            noise = rng.generator(self.params.root_seed, "random-reward", *self._stream, step)
            return noise.standard_normal(len(scored.task_ids))
        if self._arm.aggregation is not None:
            return aggregate(scored.member_rewards, self._arm.aggregation)
        return {"ensemble": scored.proxy_reward, "true": scored.true_reward}[self._arm.reward]

    @property
    def _kl_numerator(self) -> float:
        if self._arm.kappa != "coupled":
            return {"fixed": self.params.protocol.kl_numerator, "none": 0.0}[self._arm.kappa]
        if self.beta is None:
            raise ParamsError(
                f"params.yaml: arms: found {self.cell.arm}, whose penalty is coupled to beta, and the offline cell "
                f"{self.cell.label}, which has none; expected arms whose kappa is fixed or none"
            )
        return self.beta

    def _relative_disagreement(self, ensemble_std: float) -> float:
        """The members' mean disagreement over a batch divided by that over the run's first: 1 there, at least 0."""
        stds = (row["ensemble_std"] for row in self.rows if row["prompt_set"] == BATCH)
        return (ensemble_std + EPS) / (next(stds, ensemble_std) + EPS)

    def _evaluate_heldout(self, *steps: int) -> None:
        """Evaluate the policy as it is before ``steps`` on every held-out problem, with dropout off.

        Args:
            steps: several where the policy does not change in between.
        """
        evaluations = self._roll_out_all(HELDOUT, dict.fromkeys(steps, self.heldout_tasks))
        for step, scored in zip(steps, evaluations, strict=True):
            mine, budget = sharing.share(len(scored.task_ids)), evaluation_tokens(self.params, "policy")
            batches = sorted_response_batches(scored.rollouts, mine, self.tokenizer, self.model.device, budget)
            compared = ComparedResponses.of([self._passes.compare(batch) for batch in batches])
            summary, divergence = reward_summary(scored), compared.means()
            self._check_finite(HELDOUT, step, summary, _REWARD_CAUSE)
            self._check_finite(HELDOUT, step, divergence, _POLICY_CAUSE)
            self._add({"step": step, "prompt_set": HELDOUT, **summary, **divergence})
            self.samples.append(sample_table(scored).assign(step=step))
            shown = shown_rollouts(scored, self.heldout_tasks, ROLLOUTS_KEPT)
            self.rollouts += [{"step": step, **rollout} for rollout in shown]


def load_training_tasks(params: Params) -> pd.DataFrame:
    """Problems of the split that the protocol trains on."""
    return records.read_table(layout.tasks(params.protocol.prompt_split))
