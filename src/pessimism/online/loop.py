"""The online loop: sample, score, penalise, update; measured before each update (Eq. 8-10).

Several processes (``pessimism.machine.processes``) share the rows of every batch; what is taken over a batch, such as
advantages, kappa and gradients, is taken over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pessimism.errors import NonFiniteError, ParamsError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import Arm, Params
from pessimism.machine import processes, sharing
from pessimism.measures.epsilon import EPS
from pessimism.models.adapters import trainable_parameters, use_adapter
from pessimism.models.compute.batching import evaluation_tokens
from pessimism.online.hyperparameters import OnlineHyperparameters
from pessimism.online.objective import OnlineObjective
from pessimism.online.rollout import (
    ScoredRollouts,
    response_batch,
    reward_summary,
    roll_out,
    sample_table,
    sorted_response_batches,
    trained_response_ids,
)
from pessimism.online.update import POLICY, ComparedResponses, Passes, accumulate_gradients
from pessimism.reward.ensemble import RewardEnsemble

BATCH = "batch"
HELDOUT = "heldout"
ROLLOUTS_KEPT = 4
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

    def train(self) -> None:
        """Run every step; fills ``rows``, ``samples`` and ``rollouts`` and changes the POLICY adapter alone."""
        if self.params.scale.online.gradient_checkpointing:
            self.model.activation_checkpointing_enable()
        chosen = self.hyperparameters
        parameters = trainable_parameters(self.model)
        optimizer = torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
        prompt_stream = rng.generator(self.params.root_seed, "online-prompts", *self._stream)
        prompts = chosen.batch_size // self.objective.samples_per_prompt
        hidden = not processes.is_main()
        for step in tqdm(range(chosen.steps), desc=f"adapt_online {self.cell.key}", mininterval=2, disable=hidden):
            if step % self.params.scale.online.heldout_every == 0:
                self._evaluate_heldout(step)
            drawn = prompt_stream.choice(len(self.training_tasks), size=prompts, replace=False)
            tasks = self.training_tasks.iloc[drawn.repeat(self.objective.samples_per_prompt)]
            row = self._update(step, tasks, optimizer, parameters)
            if step % chosen.measure_every == 0 or step == chosen.steps - 1:
                self.rows.append(row)
        self._evaluate_heldout(chosen.steps)

    @property
    def _stream(self) -> tuple[int | str, ...]:
        return rng.run_stream(self.params.protocol, self.cell.label, self.cell.seed)

    def _roll_out(self, purpose: str, step: int, tasks: pd.DataFrame) -> ScoredRollouts:
        """Sample and score; reward dropout, where the protocol keeps it, is for training batches alone."""
        root_seed, mine = self.params.root_seed, sharing.share(len(tasks))
        seeds = rng.row_seeds(root_seed, purpose, *self._stream, step, rows=len(tasks))
        dropout_seed = None
        if self.params.protocol.reward_dropout and purpose == BATCH:
            # Shares have masks of their own; that of the first row has those of the whole batch.
            first_row = [mine.start] if mine.start else []
            dropout_seed = rng.seed(root_seed, "reward-dropout", *self._stream, step, *first_row)
        rows = slice(mine.start, mine.stop)
        with use_adapter(self.model, POLICY):
            scored = roll_out(
                self.model, self.tokenizer, self.ensemble, tasks.iloc[rows], self.params, seeds[rows], dropout_seed
            )
        return ScoredRollouts.joined(sharing.gather([scored]))

    def _update(
        self, step: int, tasks: pd.DataFrame, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
    ) -> dict[str, Any]:
        """One step on one batch; the returned row describes the batch before the update."""
        protocol, device = self.params.protocol, self.model.device
        scored = self._roll_out(BATCH, step, tasks)
        summary = reward_summary(scored)
        self._check_finite(BATCH, step, summary, _REWARD_CAUSE)
        rewards = torch.tensor(self._training_reward(step, scored), dtype=torch.float32)
        advantages = self.objective.advantages(rewards)

        def coefficient(log_ratios: torch.Tensor) -> torch.Tensor:
            numerator, floor = self._kl_numerator, protocol.kl_noise_floor
            return self.objective.coefficient(numerator, log_ratios, protocol.kl_percentile, floor)

        optimizer.zero_grad()
        responses = trained_response_ids(scored.rollouts, self.tokenizer, protocol)
        mine, size = sharing.share(len(responses)), self._micro_batch_size
        rows = [mine[start : start + size] for start in range(0, len(mine), size)]
        parts = [response_batch(scored.rollouts, responses, part, self.tokenizer, device) for part in rows]
        seeds = [rng.seed(self.params.root_seed, "policy-dropout", *self._stream, step, part[0]) for part in rows]
        compared, kappa, loss = accumulate_gradients(
            self._passes, parts, advantages.to(device), coefficient, self.objective.loss, seeds
        )
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.hyperparameters.clip_norm)
        ratio = self._penalty_ratio(compared.log_ratios, advantages, kappa)
        measured = {**compared.means(), "kappa": float(kappa), "loss": loss, "penalty_ratio": ratio}
        self._check_finite(BATCH, step, {**measured, "gradient norm": float(norm)}, _POLICY_CAUSE)
        optimizer.step()
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

    def _penalty_ratio(self, log_ratios_B: torch.Tensor, advantages_B: torch.Tensor, kappa: torch.Tensor) -> float:
        """Mean weight of the penalty on grad log pi over the mean |advantage|."""
        weight = self.objective.penalty_weights(log_ratios_B.detach(), kappa).mean()
        return float(weight / (advantages_B.abs().mean() + EPS))

    def _evaluate_heldout(self, step: int) -> None:
        """Evaluate the policy as it is before ``step`` on every held-out problem, with dropout off."""
        scored = self._roll_out(HELDOUT, step, self.heldout_tasks)
        mine, budget = sharing.share(len(scored.task_ids)), evaluation_tokens(self.params, "policy")
        batches = sorted_response_batches(scored.rollouts, mine, self.tokenizer, self.model.device, budget)
        compared = ComparedResponses.of([self._passes.compare(batch) for batch in batches])
        summary, divergence = reward_summary(scored), compared.means()
        self._check_finite(HELDOUT, step, summary, _REWARD_CAUSE)
        self._check_finite(HELDOUT, step, divergence, _POLICY_CAUSE)
        self.rows.append({"step": step, "prompt_set": HELDOUT, **summary, **divergence})
        self.samples.append(sample_table(scored).assign(step=step))
        self.rollouts += [
            {
                "step": step,
                "task_id": scored.task_ids[index],
                "prompt": scored.prompts[index],
                "response": scored.rollouts.texts[index],
                "answer": self.heldout_tasks["answer"].iloc[index],
                "proxy_reward": float(scored.proxy_reward[index]),
                **{column: float(rewards[index]) for column, rewards in scored.true_rewards.items()},
            }
            for index in range(min(ROLLOUTS_KEPT, len(scored.task_ids)))
        ]


def load_training_tasks(params: Params) -> pd.DataFrame:
    """Problems of the split that the protocol trains on."""
    return records.read_table(layout.tasks(params.protocol.prompt_split))
