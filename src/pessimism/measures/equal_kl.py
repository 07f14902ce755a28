"""Runs compared at one distance: what each had gained when its KL to the DPO checkpoint first came to a given value.

An online run that moves less also hacks less. At equal KL that is taken out: what is left is how the same distance was
spent. The KL of the evaluations need not grow from one to the next. Between two evaluations it is a straight line over
the steps, and so is every reward; a run is read where this path first reaches the value, in the order of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pessimism.errors import DataError
from pessimism.measures.intervals import RESAMPLES, Interval, resample_interval, run_resamples

GRID_POINTS = 5
_RESAMPLE_SEED = 0


@dataclass(frozen=True)
class Crossing:
    """Where a run first reaches a KL.

    Attributes:
        before: evaluation that it has passed by then.
        share: of the way from there to the next evaluation, in [0, 1]; 0 where the run starts at that KL.
    """

    before: int
    share: float

    def at(self, values_T: np.ndarray) -> np.ndarray:
        """Interpolate between the two evaluations; (T,) or (T, N) in, a scalar array or (N,) out."""
        values = np.asarray(values_T, dtype=float)
        after = values[self.before + 1] if self.share else values[self.before]
        return np.asarray((1 - self.share) * values[self.before] + self.share * after)


def first_crossing(kl_T: np.ndarray, kl: float) -> Crossing | None:
    """Where a run first comes to ``kl``; None where it stays nearer.

    Args:
        kl_T: (T,) KL of each evaluation, nats per response, in the order of the steps.
        kl: a KL, nats per response.
    """
    path = np.asarray(kl_T, dtype=float)
    reached = np.flatnonzero(path >= kl)
    if not reached.size:
        return None
    first = int(reached[0])
    if first == 0:
        return Crossing(0, 0.0)
    start, end = path[first - 1], path[first]
    return Crossing(first - 1, float((kl - start) / (end - start)))


def reach_grid(kls: Sequence[np.ndarray]) -> np.ndarray:
    """(P,) KLs from the one that every run reaches to the one that a single run does, evenly spaced, at most 5.

    Args:
        kls: KL of each run's evaluations, nats per response.
    """
    farthest = [float(np.max(kl_T)) for kl_T in kls]
    # The ends are those of the runs themselves: rounding must not put one out of a run's reach.
    inner = np.linspace(min(farthest), max(farthest), GRID_POINTS)[1:-1]
    return np.unique([min(farthest), *inner, max(farthest)])


def runs_reaching(kls: Sequence[np.ndarray], grid: np.ndarray) -> list[int]:
    """How many of ``kls`` come to each KL of ``grid``."""
    farthest = np.array([np.max(kl_T) for kl_T in kls])
    return [int((farthest >= kl).sum()) for kl in grid]


def resampled_means(values_S_K_N: np.ndarray, paired: bool) -> np.ndarray:
    """(R, K) mean of each beta over resampled seeds and problems, always the same 2,000 resamples.

    A resample draws seeds, then problems. All runs answer the same problems, so that one draw of problems serves all of
    them; seeds are drawn whole where they are paired, and of each beta by themselves where they are not. With one seed
    the resamples vary the problems alone.

    Args:
        values_S_K_N: (S, K, N) one value per seed, beta and problem.
        paired: whether the betas of a seed share its random draws.

    Raises:
        DataError: a value is not finite.
    """
    values = np.asarray(values_S_K_N, dtype=float)
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise DataError(f"found values of shape {values.shape}; expected finite ones by seed, beta and problem")
    seeds, betas, problems = values.shape
    generator = np.random.default_rng(_RESAMPLE_SEED)
    counts_M_S_K, weight_M = run_resamples(seeds, betas, paired)
    seed_R_S_K = counts_M_S_K[generator.choice(len(weight_M), RESAMPLES, p=weight_M)] / seeds
    problem_R_N = generator.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES) / problems
    run_R_S_K = (problem_R_N @ values.reshape(-1, problems).T).reshape(-1, seeds, betas)
    return np.asarray((seed_R_S_K * run_R_S_K).sum(axis=1))


def central(resampled_R: np.ndarray) -> Interval:
    """Central 95 % of an estimate over resamples of equal weight."""
    interval = resample_interval(resampled_R, np.ones(len(resampled_R)))
    assert interval is not None, "there are always resamples"
    return interval
