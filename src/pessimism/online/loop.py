"""The online loop: sample, score, penalise, update; measured before each update (Eq. 8-10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from pessimism import layout, records, rng
from pessimism.cells import OnlineCell
from pessimism.models.adapters import trainable_parameters, use_adapter
from pessimism.models.logprobs import ResponseBatch, ResponseLogps, response_logps
from pessimism.online.hyperparameters import OnlineHyperparameters
from pessimism.online.objective import (
    kl_coefficient,
    kl_k1,
    kl_k3,
    normalized_advantages,
    online_loss,
    penalty_ratio,
)
from pessimism.online.rollout import (
    ScoredRollouts,
    response_batches,
    reward_summary,
    roll_out,
    sample_table,
    trained_response_ids,
)
from pessimism.params import Params
from pessimism.reward.ensemble import RewardEnsemble

POLICY = "policy"
REFERENCE = "reference"
BATCH = "batch"
HELDOUT = "heldout"
ROLLOUTS_KEPT = 4


@dataclass
class OnlineRun:
    """One online run of a policy against a reward ensemble.

    Attributes:
        model: one base with two adapters that start equal: POLICY, which is trained, and REFERENCE, which is not.
        beta: numerator of kappa where the protocol couples it to the checkpoint's beta.
        training_tasks: problems the policy is trained on; never held-out ones.
        heldout_tasks: problems the policy is evaluated on.
    """

    params: Params
    cell: OnlineCell
    beta: float
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
        chosen = self.hyperparameters
        parameters = trainable_parameters(self.model)
        optimizer = torch.optim.AdamW(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
        prompt_stream = rng.generator(self.params.root_seed, "online-prompts", *self._stream)
        for step in tqdm(range(chosen.steps), desc=f"adapt_online {self.cell.key}", mininterval=2):
            if step % self.params.scale.online.heldout_every == 0:
                self._evaluate_heldout(step)
            drawn = prompt_stream.choice(len(self.training_tasks), size=chosen.batch_size, replace=False)
            row = self._update(step, self.training_tasks.iloc[drawn], optimizer, parameters)
            if step % chosen.measure_every == 0 or step == chosen.steps - 1:
                self.rows.append(row)
        self._evaluate_heldout(chosen.steps)

    @property
    def _stream(self) -> tuple[int, ...]:
        return rng.run_stream(self.params.protocol, self.cell.beta_percentile, self.cell.seed)

    def _roll_out(self, purpose: str, step: int, tasks: pd.DataFrame) -> ScoredRollouts:
        """Sample and score; reward dropout, where the protocol keeps it, is for training batches alone."""
        root_seed = self.params.root_seed
        rng.seed_torch(root_seed, purpose, *self._stream, step)
        dropout_seed = None
        if self.params.protocol.reward_dropout and purpose == BATCH:
            dropout_seed = rng.seed(root_seed, "reward-dropout", *self._stream, step)
        with use_adapter(self.model, POLICY):
            return roll_out(self.model, self.tokenizer, self.ensemble, tasks, self.params, dropout_seed)

    def _update(
        self, step: int, tasks: pd.DataFrame, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
    ) -> dict[str, Any]:
        """One step on one batch; the returned row describes the batch before the update."""
        protocol = self.params.protocol
        scored = self._roll_out(BATCH, step, tasks)
        responses = trained_response_ids(scored.rollouts, self.tokenizer, protocol)
        (batch,) = response_batches(scored.rollouts, responses, self.tokenizer, self.model.device, len(tasks))
        policy, reference = self._policy_and_reference(batch, policy_dropout=protocol.policy_dropout)
        log_ratios = policy.sums - reference.sums
        rewards = torch.tensor(self._training_reward(scored), dtype=torch.float32, device=self.model.device)
        advantages = normalized_advantages(rewards)
        kappa = kl_coefficient(self._kl_numerator, log_ratios, protocol.kl_percentile, protocol.kl_noise_floor)
        loss = online_loss(policy.sums, reference.sums, advantages, kappa)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, self.hyperparameters.clip_norm, error_if_nonfinite=True)
        optimizer.step()
        return {
            "step": step,
            "prompt_set": BATCH,
            **reward_summary(scored),
            **divergence([policy], [reference]),
            "kappa": float(kappa),
            "loss": loss.item(),
            "penalty_ratio": penalty_ratio(log_ratios, advantages, kappa),
        }

    def _training_reward(self, scored: ScoredRollouts) -> np.ndarray:
        return scored.true_reward if self.cell.arm == "oracle" else scored.proxy_reward

    @property
    def _kl_numerator(self) -> float:
        protocol = self.params.protocol
        return self.beta if protocol.kl_coupling == "coupled" else protocol.kl_numerator

    def _policy_and_reference(self, batch: ResponseBatch, policy_dropout: bool) -> tuple[ResponseLogps, ResponseLogps]:
        """Both log-probs of one batch tensor; only the adapter differs, and dropout where the protocol keeps it."""
        with use_adapter(self.model, POLICY):
            self.model.train(policy_dropout)
            policy = response_logps(self.model, batch)
        self.model.eval()
        with use_adapter(self.model, REFERENCE), torch.no_grad():
            reference = response_logps(self.model, batch)
        return policy, reference

    def _evaluate_heldout(self, step: int) -> None:
        """Evaluate the policy as it is before ``step`` on every held-out problem, with dropout off."""
        scored = self._roll_out(HELDOUT, step, self.heldout_tasks)
        rollouts, size = scored.rollouts, self.params.scale.evaluation_batch_size
        batches = response_batches(rollouts, rollouts.response_ids, self.tokenizer, self.model.device, size)
        with torch.no_grad():
            pairs = [self._policy_and_reference(batch, policy_dropout=False) for batch in batches]
        row = {"step": step, "prompt_set": HELDOUT, **reward_summary(scored)}
        row |= divergence([policy for policy, _ in pairs], [reference for _, reference in pairs])
        self.rows.append(row)
        self.samples.append(sample_table(scored).assign(step=step))
        self.rollouts += [
            {
                "step": step,
                "task_id": scored.task_ids[index],
                "prompt": scored.prompts[index],
                "response": scored.rollouts.texts[index],
                "answer": self.heldout_tasks["answer"].iloc[index],
                "proxy_reward": float(scored.proxy_reward[index]),
                "true_reward": float(scored.true_reward[index]),
                "true_reward_flexible": float(scored.true_reward_flexible[index]),
            }
            for index in range(min(ROLLOUTS_KEPT, len(scored.task_ids)))
        ]


def load_training_tasks(params: Params) -> pd.DataFrame:
    """Problems of the split that the protocol trains on."""
    return records.read_table(layout.tasks(params.protocol.prompt_split))


def divergence(policy: list[ResponseLogps], reference: list[ResponseLogps]) -> dict[str, float]:
    """Mean KL to the reference (nats per response) and mean entropy (nats per token) over all responses."""
    pairs = list(zip(policy, reference, strict=True))
    return {
        "kl_k1": float(torch.cat([kl_k1(p.logps_B_R.detach(), r.logps_B_R) for p, r in pairs]).mean()),
        "kl_k3": float(torch.cat([kl_k3(p.logps_B_R.detach(), r.logps_B_R) for p, r in pairs]).mean()),
        "entropy": float(torch.cat([p.mean_entropy for p in policy]).mean()),
    }
