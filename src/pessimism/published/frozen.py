"""What the paper's AUGC is for a policy that never changes: the null distribution behind any spread between betas.

Sampled rewards alone move the gap, because each batch is small and the first one is the unit of all that follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pessimism.errors import ParamsError
from pessimism.experiment import rng
from pessimism.measures.epsilon import EPS

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)


@dataclass(frozen=True)
class FrozenPolicy:
    """A policy whose responses keep one reward distribution, and how the published run measured it.

    Attributes:
        proxy_mean: mean proxy reward of a response; a reward model's zero is arbitrary, so this is an assumption.
        accuracy: chance that a response is right, in [0, 1].
        proxy_sd: standard deviation of the normal proxy reward of a response.
        batch: responses per measured point.
        steps: measured steps, ascending.
    """

    proxy_mean: float
    accuracy: float
    proxy_sd: float
    batch: int
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise ParamsError(f"found accuracy {self.accuracy:g}; expected a chance from 0 to 1")
        if self.proxy_sd < 0:
            raise ParamsError(f"found proxy sd {self.proxy_sd:g}; expected 0 or more")
        if self.batch < 1:
            raise ParamsError(f"found batch {self.batch}; expected 1 or more")
        if len(self.steps) < 2 or np.any(np.diff(self.steps) <= 0):
            raise ParamsError(f"found the measured steps {list(self.steps)}; expected two or more, ascending")


@dataclass(frozen=True)
class Null:
    """AUGC of many runs of one frozen policy, and what sets of runs look like when read as different betas.

    Attributes:
        quantiles: AUGC (gap times steps) at each of ``QUANTILES``.
        chance_of_spread: share of the sets whose largest AUGC is at least ``spread`` times the smallest (0 included).
        chance_of_order: share of the sets in strictly increasing order.
    """

    quantiles: dict[float, float]
    chance_of_spread: float
    chance_of_order: float


def measured_steps(last: int, every: int) -> tuple[int, ...]:
    """Steps 0, ``every``, ... and always ``last``: how the published run chose its points."""
    if last < 1 or every < 1:
        raise ParamsError(f"found last step {last} and interval {every}; expected 1 or more of each")
    return (*range(0, last, every), last)


def notebook_gap(proxy_R_T: np.ndarray, true_R_T: np.ndarray) -> np.ndarray:
    """Gap (Eq. 2) with the notebook's denominators: the true baseline is floored at EPS before EPS is added.

    Args:
        proxy_R_T: (R, T) mean proxy reward per run and measured point; the first point is the baseline.
        true_R_T: (R, T) mean true reward of the same batches.

    Returns:
        (R, T); positive = the proxy rose more, relative to its start, than the true reward. A first batch without a
        right response moves the gap in steps of ``1 / (2 EPS)``.
    """
    proxy_unit_R_1 = np.abs(proxy_R_T[:, :1]) + EPS
    true_unit_R_1 = np.maximum(np.abs(true_R_T[:, :1]), EPS) + EPS
    return proxy_R_T / proxy_unit_R_1 - true_R_T / true_unit_R_1


def frozen_augc(policy: FrozenPolicy, runs: int, generator: np.random.Generator) -> np.ndarray:
    """(runs,) AUGC (Eq. 3) of independent runs: trapezoids of the positive part of ``notebook_gap``."""
    shape = (runs, len(policy.steps))
    # The mean of a batch of normals is normal, its count of right responses binomial: no response is drawn singly.
    proxy_R_T = generator.normal(policy.proxy_mean, policy.proxy_sd / np.sqrt(policy.batch), shape)
    true_R_T = generator.binomial(policy.batch, policy.accuracy, shape) / policy.batch
    gap_R_T = notebook_gap(proxy_R_T, true_R_T)
    return np.trapezoid(np.maximum(gap_R_T, 0.0), policy.steps, axis=1)


def null_distribution(policy: FrozenPolicy, spread: float, betas: int, draws: int, seed: int) -> Null:
    """Draw ``draws`` sets of ``betas`` runs of one frozen policy.

    Args:
        policy: the assumptions.
        spread: ratio of largest to smallest AUGC whose chance is asked for, at least 1.
        betas: runs per set, each standing for a beta.
        draws: sets; the standard error of a chance is at most ``0.5 / sqrt(draws)``.
        seed: root of the stream, which is this policy's own: other policies leave its numbers as they are.

    Raises:
        ParamsError: there are no draws.
    """
    if draws < 1:
        raise ParamsError(f"found {draws} draws; expected 1 or more")
    numbers = (policy.proxy_mean, policy.accuracy, policy.proxy_sd, policy.batch, *policy.steps)
    generator = rng.generator(seed, "frozen", *(repr(float(number)) for number in numbers))
    augc_D_B = frozen_augc(policy, draws * betas, generator).reshape(draws, betas)
    wide = augc_D_B.max(axis=1) >= spread * augc_D_B.min(axis=1)
    increasing = np.all(np.diff(augc_D_B, axis=1) > 0, axis=1)
    values = np.quantile(augc_D_B, QUANTILES)
    return Null(
        quantiles=dict(zip(QUANTILES, map(float, values), strict=True)),
        chance_of_spread=float(wide.mean()),
        chance_of_order=float(increasing.mean()),
    )
