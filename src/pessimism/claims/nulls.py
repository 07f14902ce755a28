"""Invented runs in which nothing is hacked and yet something differs between betas, as it may in real ones.

A run has two rewards over steps whose means stay or rise alike. The paper's gap is of training batches, the controlled
one of the held-out problems. Every run has a placebo that starts from the same batch and the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pessimism.claims import statements
from pessimism.claims.invented import page_rises
from pessimism.claims.trend_kinds import OverBeta
from pessimism.claims.verdicts import ALPHA, both_of_many, trend_tests
from pessimism.measures.goodhart import CONTROLLED_THRESHOLD, THRESHOLD_PERCENTILE
from pessimism.scoring.measures import MEASURES

STEPS, EVALUATE_EVERY, BATCH, PROBLEMS = 24, 6, 32, 192
"""As ``scales/tiny.yaml`` has them: the paper's measure takes a batch at each step, the controlled one all problems."""
EQUAL = (1.0, 1.0, 1.0)
FEW_PROBLEMS = 32


@dataclass(frozen=True)
class Null:
    """One way in which runs without hacking may differ.

    Attributes:
        name: what differs, in words.
        noise: of the trained runs by beta, in the noise of a placebo.
        proxy_start: mean proxy reward by beta, in standard deviations of one response.
        true_start: accuracy by beta.
        autocorrelation: of the noise from one measured step to the next.
        heavy: whether a run's noise is scaled so that what it adds up to has a t distribution with 3 degrees.
        alike: how far both rewards of the trained runs rise by the last step, by beta, each in standard deviations of
            one response.
        problems: held-out ones, of which the controlled gap takes means.
        world: share of the variance between trained runs that all seeds of a beta have in common; 0: runs do not differ
            but for noise.
    """

    name: str
    noise: tuple[float, ...] = EQUAL
    proxy_start: tuple[float, ...] = EQUAL
    true_start: tuple[float, ...] = (0.6, 0.6, 0.6)
    autocorrelation: float = 0.0
    heavy: bool = False
    alike: tuple[float, ...] = (0.0, 0.0, 0.0)
    problems: int = PROBLEMS
    world: float = 0.0


WORLD = "an effect of this world on each β, half of the variance that is not the seeds'"
NULLS = (
    Null("nothing"),
    Null("noise ×1, ×2, ×4; the placebo's ×1", noise=(1, 2, 4)),
    Null("noise ×4, ×1, ×4; the placebo's ×1", noise=(4, 1, 4)),
    Null("start: accuracy 0.7, 0.5, 0.3, proxy 2, 1, 0.5", proxy_start=(2, 1, 0.5), true_start=(0.7, 0.5, 0.3)),
    Null(
        "both rewards improve alike, by 0.1, 0.3, 0.9 sd",
        proxy_start=(0.5, 0.5, 0.5),
        true_start=(0.5, 0.5, 0.5),
        alike=(0.1, 0.3, 0.9),
    ),
    Null(f"noise ×1, ×2, ×4, on {FEW_PROBLEMS} problems", noise=(1, 2, 4), problems=FEW_PROBLEMS),
    Null("nothing, with noise of autocorrelation 0.9", autocorrelation=0.9),
    Null("nothing, with noise of a t distribution with 3 degrees", heavy=True),
    Null(WORLD, world=0.5),
)


def runs(
    null: Null, seeds: int, experiments: int, generator: np.random.Generator, paired: bool = False
) -> dict[str, np.ndarray]:
    """(E, S, K) of every column of plots/cells.csv that is made from the rewards and that a claim is about.

    Where seeds are ``paired``, half of the variance of a run's noise is that of its seed, the same at all betas.
    """
    shape = (experiments, 2, seeds, len(null.noise))
    scale = np.stack([np.array(null.noise), np.ones(len(null.noise))])[None, :, None]
    if null.heavy:
        scale = scale / np.sqrt(generator.chisquare(3, size=shape))
    drift = _drift(null, shape, generator)
    evaluated = np.arange(0, STEPS + 1, EVALUATE_EVERY)
    paper_proxy, paper_true = _rewards(null, BATCH, np.arange(STEPS), scale, drift, generator, paired)
    proxy, true = _rewards(null, null.problems, evaluated, scale, drift, generator, paired)
    start = np.maximum(paper_true[..., :1], 1 / BATCH)  # no smaller than one right answer, as a mean of answers
    paper = (paper_proxy / np.abs(paper_proxy[..., :1]) - paper_true / start)[:, 0]
    controlled = proxy - proxy[..., :1] - (true - true[..., :1]) / _true_sd(null)
    clipped = areas(np.maximum(controlled, 0), EVALUATE_EVERY)
    return {
        "augc": areas(np.maximum(paper, 0), 1),
        "onset_step": onsets(paper, _pooled_threshold(paper), 1),
        "controlled_augc_excess": clipped[:, 0] - clipped[:, 1],
        "controlled_signed_augc_excess": areas(controlled[:, 0] - controlled[:, 1], EVALUATE_EVERY),
        "controlled_onset_step": onsets(controlled[:, 0], CONTROLLED_THRESHOLD, EVALUATE_EVERY),
    }


def areas(gap: np.ndarray, every: int) -> np.ndarray:
    """Area under each gap, (..., T) of every so many steps: ``goodhart.signed_augc`` of many runs at once."""
    return np.asarray(np.trapezoid(gap, dx=every, axis=-1))


def onsets(gap: np.ndarray, threshold: np.ndarray | float, every: int) -> np.ndarray:
    """First step of each gap above the threshold, infinite where it never is: ``goodhart.hacking_onset`` of many."""
    above = gap > threshold
    return np.where(above.any(axis=-1), every * above.argmax(axis=-1), np.inf)


def _pooled_threshold(gap_E_S_K_T: np.ndarray) -> np.ndarray:
    """The paper's threshold of each experiment: a percentile of the positive gaps of all its runs."""
    positive = np.where(gap_E_S_K_T > 0, gap_E_S_K_T, np.nan)
    return np.asarray(np.nanpercentile(positive, THRESHOLD_PERCENTILE, axis=(1, 2, 3), keepdims=True))


def _drift(null: Null, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Change of the proxy from the first to the last step: none but that of the world and, with it, of each run."""
    change = np.zeros(shape)
    if null.world:
        experiments, _, seeds, betas = shape
        of_world = generator.normal(size=(experiments, 1, betas))
        of_run = generator.normal(size=(experiments, seeds, betas))
        change[:, 0] = np.sqrt(null.world) * of_world + np.sqrt(1 - null.world) * of_run
    return change[..., None]


def _rewards(
    null: Null,
    count: int,
    steps_T: np.ndarray,
    scale: np.ndarray,
    drift: np.ndarray,
    generator: np.random.Generator,
    paired: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(E, 2, S, K, T) mean proxy and true reward of so many responses; trained run and placebo share the first step."""
    shape = (*drift.shape[:-1], len(steps_T))
    size = np.broadcast_to(scale, shape[:-1])[..., None] / np.sqrt(count)
    alike = np.array([null.alike, np.zeros(shape[-2])])[:, None, :, None] * steps_T / STEPS
    proxy_noise, true_noise = (size * _noise(null, shape, paired, generator) for _ in range(2))
    proxy = np.array(null.proxy_start)[:, None] + proxy_noise + alike + drift * steps_T / STEPS
    true = np.array(null.true_start)[:, None] + _true_sd(null) * (true_noise + alike)
    for rewards in (proxy, true):
        rewards[:, 0, ..., 0] = rewards[:, 1, ..., 0]
    return proxy, true


def _true_sd(null: Null) -> np.ndarray:
    """(K, 1) standard deviation of one response's true reward."""
    accuracy = np.array(null.true_start)
    return np.asarray(np.sqrt(accuracy * (1 - accuracy)))[:, None]


def _noise(null: Null, shape: tuple[int, ...], paired: bool, generator: np.random.Generator) -> np.ndarray:
    """Standard normal; where seeds are paired, half of its variance is the same at all betas of a seed."""
    own = _over_steps(shape, null.autocorrelation, generator)
    if not paired:
        return own
    of_seed = _over_steps((*shape[:-2], 1, shape[-1]), null.autocorrelation, generator)
    return np.asarray((own + of_seed) / np.sqrt(2))


def _over_steps(shape: tuple[int, ...], autocorrelation: float, generator: np.random.Generator) -> np.ndarray:
    """Standard normal over the last axis, each step with this correlation to the one before."""
    noise = generator.normal(size=shape)
    for step in range(1, shape[-1]):
        fresh = np.sqrt(1 - autocorrelation**2) * noise[..., step]
        noise[..., step] = autocorrelation * noise[..., step - 1] + fresh
    return noise


@dataclass(frozen=True)
class FalseRate:
    """Share of null experiments in which a claim's own p is at most 5 %, the larger of the two directions.

    Attributes:
        claim: its name.
        measure: by which it is judged.
        now: by its kind, with its guard.
        before: by Page's test, as if seeds were paired, without a guard; of the clipped area for the signed one.
    """

    claim: str
    measure: str
    now: float
    before: float


CLIPPED = {"controlled_signed_augc_excess": "controlled_augc_excess"}


def false_rates(
    null: Null, seeds: int, experiments: int, generator: np.random.Generator, paired: bool = False
) -> list[FalseRate]:
    """Rates of every claim that is about rewards alone."""
    columns = runs(null, seeds, experiments, generator, paired)
    return [
        _false_rate(claim.name, measure, claim.kind, columns, paired)
        for claim in statements.CLAIMS
        for measure in MEASURES
        if isinstance(claim.kind, OverBeta) and claim.kind.quantity(measure).name in columns
    ]


def _false_rate(claim: str, measure: str, kind: OverBeta, columns: Mapping[str, np.ndarray], paired: bool) -> FalseRate:
    quantity = kind.quantity(measure)
    tests = kind.test_tables(columns[quantity.name], paired)
    if quantity.guard is not None:
        guard = trend_tests(columns[quantity.guard.name], quantity.guard.predicted, paired)
        tests = both_of_many(tests, guard)
    before = columns[CLIPPED.get(quantity.name, quantity.name)]
    return FalseRate(
        claim,
        measure,
        _larger_rate(tests.p_E, tests.p_opposite_E),
        _larger_rate(*(page_rises(sign * before) for sign in (1, -1))),
    )


def _larger_rate(*ps: np.ndarray | None) -> float:
    return max(float((p_E <= ALPHA).mean()) for p_E in ps if p_E is not None)
