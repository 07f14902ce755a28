"""Log-probabilities of the policy and its reference, and the gradient of a loss over a batch that may come in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel

from pessimism.machine import sharing
from pessimism.models.adapters import use_adapter
from pessimism.models.compute.logprobs import ResponseBatch, TokenLogps, response_logps
from pessimism.online.divergence import kl_k1, kl_k3

POLICY = "policy"
REFERENCE = "reference"


@dataclass(frozen=True)
class ComparedResponses:
    """What policy and reference say of B responses; (B,) float32 on the CPU, the rows of all processes.

    Attributes:
        log_ratios: log pi_theta - log pi_ref of whole responses, nats.
        k1, k3: estimates of the KL divergence to the reference, nats per response.
        entropy: of the policy, nats per token.
    """

    log_ratios: torch.Tensor
    k1: torch.Tensor
    k3: torch.Tensor
    entropy: torch.Tensor

    @classmethod
    def of(cls, pairs: Sequence[tuple[TokenLogps, TokenLogps]]) -> ComparedResponses:
        """Gather the (policy, reference) pairs of this and all other processes."""
        rows = [row for policy, reference in pairs for row in _compared_rows(policy, reference)]
        return cls(*torch.tensor(sharing.gather(rows), dtype=torch.float32).T)

    def means(self) -> dict[str, float]:
        """Mean divergence and entropy over all responses."""
        return {"kl_k1": float(self.k1.mean()), "kl_k3": float(self.k3.mean()), "entropy": float(self.entropy.mean())}


def _compared_rows(policy: TokenLogps, reference: TokenLogps) -> list[list[float]]:
    logps_B_T = policy.logps_B_T.detach()
    columns = (
        policy.sums.detach() - reference.sums,
        kl_k1(logps_B_T, reference.logps_B_T),
        kl_k3(logps_B_T, reference.logps_B_T),
        policy.mean_entropy,
    )
    return torch.stack(columns, dim=1).tolist()


@dataclass(frozen=True)
class Passes:
    """Forward passes of the two adapters on one base.

    Attributes:
        model: the base with the adapters POLICY and REFERENCE, in eval mode outside these passes.
        dropout: whether passes of the policy that are trained on carry dropout; all others have none.
        checkpointing: whether those compute their layers again for the backward pass instead of keeping them.
    """

    model: PeftModel
    dropout: bool
    checkpointing: bool

    def compare(self, batch: ResponseBatch) -> tuple[TokenLogps, TokenLogps]:
        """Policy and reference on one batch tensor, where nothing is trained."""
        with torch.no_grad(), use_adapter(self.model, POLICY):
            policy = response_logps(self.model, batch)
        return policy, self.reference(batch)

    def reference(self, batch: ResponseBatch) -> TokenLogps:
        with torch.no_grad(), use_adapter(self.model, REFERENCE):
            return response_logps(self.model, batch)

    def trained_policy(self, batch: ResponseBatch, dropout_seed: int) -> TokenLogps:
        """The policy as it is trained; equal seeds give equal dropout."""
        torch.manual_seed(dropout_seed)
        with self.training():
            return response_logps(self.model, batch)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Policy active, in the mode it is trained in; ``backward`` belongs inside, where layers are computed again."""
        with use_adapter(self.model, POLICY):
            # Layers are computed again in training mode alone.
            self.model.train(self.dropout or self.checkpointing)
            for module in self.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.train(self.dropout)
            try:
                yield
            finally:
                self.model.eval()


def accumulate_gradients(
    passes: Passes,
    parts: Sequence[ResponseBatch],
    weigh: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    loss_of: Callable[[TokenLogps, TokenLogps, torch.Tensor, torch.Tensor], torch.Tensor],
    dropout_seeds: Sequence[int],
) -> tuple[ComparedResponses, torch.Tensor, float]:
    """Gradients of an online objective over a whole batch, on every process.

    What is weighed needs the whole batch first. A single part is kept for its backward pass; of several, each is
    computed a second time, so that the memory of one is enough.

    Args:
        parts: this process's share of the batch, in order.
        weigh: from the (B,) log-ratios of the whole batch, its (B,) advantages (Eq. 9) and kappa (Eq. 10).
        loss_of: mean over a part's responses (:class:`pessimism.online.objective.OnlineObjective`).
        dropout_seeds: one per part.

    Returns:
        The compared responses of the whole batch before the update, kappa, and the loss.
    """
    keep = len(parts) == 1
    pairs = []
    for part, seed in zip(parts, dropout_seeds, strict=True):
        with torch.set_grad_enabled(keep):
            policy = passes.trained_policy(part, seed)
        pairs.append((policy, passes.reference(part)))
    compared = ComparedResponses.of(pairs)
    advantages_B, kappa = weigh(compared.log_ratios)
    loss = 0.0
    of_parts = _of_parts(advantages_B, parts)
    for part, advantages, seed, (policy, reference) in zip(parts, of_parts, dropout_seeds, pairs, strict=True):
        policy = policy if keep else passes.trained_policy(part, seed)
        with passes.training():
            part_loss = loss_of(policy, reference, advantages, kappa)
            part_loss = part_loss * (len(advantages) / len(advantages_B))
            part_loss.backward()
        loss += part_loss.item()
    sharing.sum_gradients(parameter for parameter in passes.model.parameters() if parameter.requires_grad)
    return compared, kappa, sharing.total(loss)


def measure_loss(
    passes: Passes,
    parts: Sequence[ResponseBatch],
    weigh: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    loss_of: Callable[[TokenLogps, TokenLogps, torch.Tensor, torch.Tensor], torch.Tensor],
    dropout_seeds: Sequence[int],
) -> tuple[ComparedResponses, torch.Tensor, float]:
    """What :func:`accumulate_gradients` returns, without a gradient: of a policy that is not trained."""
    with torch.no_grad():
        pairs = [
            (passes.trained_policy(part, seed), passes.reference(part))
            for part, seed in zip(parts, dropout_seeds, strict=True)
        ]
        compared = ComparedResponses.of(pairs)
        advantages_B, kappa = weigh(compared.log_ratios)
        loss = sum(
            loss_of(policy, reference, advantages, kappa).item() * len(advantages) / len(advantages_B)
            for advantages, (policy, reference) in zip(_of_parts(advantages_B, parts), pairs, strict=True)
        )
    return compared, kappa, sharing.total(loss)


def _of_parts(advantages_B: torch.Tensor, parts: Sequence[ResponseBatch]) -> tuple[torch.Tensor, ...]:
    """Advantages of each of this process's parts."""
    mine = sharing.share(len(advantages_B))
    return advantages_B[mine.start : mine.stop].split([len(part.input_ids) for part in parts])
