"""Epsilon-DPO (Lee et al. 2025, arXiv 2502.13177): DPO whose beta is chosen for each pair, and follows the training.

A policy trained at beta / (1 + epsilon) or beta / (1 - epsilon) is estimated by moving the policy's logits away from
the base's, or towards them, by the share epsilon. Where the log-likelihood ratio of a pair rises all the way with a
smaller beta, the pair takes beta / (1 + epsilon); where it falls all the way, beta / (1 - epsilon); else beta. After
every step beta is divided by 1 + epsilon times the mean of these signs, +1, -1 and 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from pessimism.models.adapters import use_adapter
from pessimism.models.compute.logprobs import ROWS, capped_logits, hidden_states, spread
from pessimism.offline.objective import OfflineObjective, PairScores
from pessimism.offline.trainer import ReferencedDpoTrainer

EPSILON = 0.01
"""Size of the perturbation, and of a step of beta; of the authors' own configuration."""


class EpsilonDpoTrainer(ReferencedDpoTrainer):
    """TRL's DPO loss with one beta per pair; the perturbed policies are measured in a pass without dropout."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.beta: Any = self.args.beta
        self.signs_of_step: list[torch.Tensor] = []

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[dict[str, Any]], Any]:
        """The parts of the next step, at the beta that the last one leads to."""
        if self.signs_of_step:
            mean = self.accelerator.gather(torch.cat(self.signs_of_step)).mean()
            self.beta /= 1 + EPSILON * float(mean)
            self.signs_of_step = []
        return super().get_batch_samples(*arguments, **options)

    def counts(self) -> dict[str, Any]:
        return super().counts() | {"beta": self.beta, "signs": [signs_P.tolist() for signs_P in self.signs_of_step]}

    def set_counts(self, counts: dict[str, Any]) -> None:
        super().set_counts(counts)
        self.beta, signs = counts["beta"], counts["signs"]
        self.signs_of_step = [torch.tensor(signs_P, device=self.args.device) for signs_P in signs]

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool) -> torch.Tensor:
        signs_P = relaxations(
            self.accelerator.unwrap_model(model), inputs["input_ids"], inputs["completion_mask"].bool()
        )
        self.signs_of_step.append(signs_P)
        shared = self.beta
        self.beta = shared / (1 + EPSILON * signs_P)
        try:
            return super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.beta = shared


def relaxations(model: PeftModel, input_ids: torch.Tensor, scored_2P_T: torch.Tensor) -> torch.Tensor:
    """(P,) +1 where a pair asks for a smaller beta, -1 for a greater one, else 0.

    Args:
        input_ids: (2P, T) padded on the right, the chosen texts first.
        scored_2P_T: Boolean, the tokens of the responses.
    """
    further_P, here_P, nearer_P = perturbed_ratios(model, input_ids, scored_2P_T)
    rises = (further_P > here_P) & (here_P > nearer_P)
    falls = (further_P < here_P) & (here_P < nearer_P)
    return rises.float() - falls.float()


@torch.no_grad()
def perturbed_ratios(model: PeftModel, input_ids: torch.Tensor, scored_2P_T: torch.Tensor) -> torch.Tensor:
    """(3, P) log-likelihood ratio of chosen and rejected, nats: of the policy moved away from the base, as it is, and
    moved towards it. Without dropout.
    """
    predicting_2P_T, training = scored_2P_T.roll(-1, dims=1), model.training
    model.eval()
    policy_N_H = hidden_states(model, input_ids)[predicting_2P_T]
    with use_adapter(model, None):
        base_N_H = hidden_states(model, input_ids)[predicting_2P_T]
    model.train(training)
    parts = zip(policy_N_H.split(ROWS), base_N_H.split(ROWS), input_ids[scored_2P_T].split(ROWS), strict=True)
    logps_3_N = torch.cat([_perturbed_logps(model, *part) for part in parts], dim=1)
    sums = [spread(logps_N, scored_2P_T).sum(dim=1) for logps_N in logps_3_N]
    return torch.stack([chosen_P - rejected_P for chosen_P, rejected_P in (sum_2P.chunk(2) for sum_2P in sums)])


def _perturbed_logps(
    model: PeftModel, policy_R_H: torch.Tensor, base_R_H: torch.Tensor, targets_R: torch.Tensor
) -> torch.Tensor:
    """(3, R) log-probabilities of tokens, by logits 1 + epsilon, 1 and 1 - epsilon of the way from base to policy."""
    policy_R_V, base_R_V = (capped_logits(model, states).float() for states in (policy_R_H, base_R_H))
    rows = []
    for share in (1 + EPSILON, 1.0, 1 - EPSILON):
        logps_R_V = torch.lerp(base_R_V, policy_R_V, share).log_softmax(dim=-1)
        rows.append(logps_R_V.gather(-1, targets_R.unsqueeze(-1)).squeeze(-1))
    return torch.stack(rows)


def arguments(beta: float) -> dict[str, Any]:
    return {"loss_type": ["sigmoid"], "beta": beta}


def losses(beta: float, scores: PairScores) -> np.ndarray:
    """(N,) loss of each pair at the beta that the training starts with."""
    return np.logaddexp(0, -beta * scores.margins())


def first_loss(beta: float) -> float:
    return math.log(2)


OBJECTIVE = OfflineObjective(
    strength="beta: with which the training starts, how much of a margin, in nats, counts; higher = closer to the "
    "reference",
    couples=True,
    needs_reference=True,
    arguments=arguments,
    margins=PairScores.margins,
    losses=losses,
    first_loss=first_loss,
    trainer=EpsilonDpoTrainer,
    final_strength=lambda trainer: float(trainer.beta),
    further_forwards=2,
)
