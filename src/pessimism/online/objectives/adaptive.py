"""Eq. 8 with a beta that falls when the reward models disagree more (Appendix G, item 2, of the paper).

The paper names it as future work: scheduling of beta that "tracks" the ensemble's standard deviation u "online and
reduces" beta "when uncertainty grows". It gives no formula. Here beta_t = beta min(1, u_0 / u_t) is the numerator of
Eq. 10 at step t. u_t is the batch's mean of the members' standard deviation (Eq. 13), in the reward's unit, and u_0
that of the run's first batch. beta is halved where disagreement has doubled, and is never above its start.
"""

from __future__ import annotations

from pessimism.online.objective import OnlineObjective
from pessimism.online.terms import kl_coefficient, normalized_advantages, penalty_weights, response_loss


def numerator(numerator: float, disagreement: float) -> float:
    """beta_t from beta and u_t / u_0, which is above 0; at most beta."""
    return numerator / max(1.0, disagreement)


OBJECTIVE = OnlineObjective(
    samples_per_prompt=1,
    advantages=normalized_advantages,
    numerator=numerator,
    coefficient=kl_coefficient,
    penalty_weights=penalty_weights,
    loss=response_loss,
)
