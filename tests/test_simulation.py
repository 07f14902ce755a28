"""The simulation judges as the verdicts do, finds no more than 5 % false families, and finds strong trends."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from pessimism.claims import simulation
from pessimism.claims.invented import (
    InventedDesign,
    draw,
    false_verdict_rates,
    family,
    growing_correlations,
    growth_rates,
    monte_carlo_error,
    p_values,
    power,
    two_sided,
)
from pessimism.claims.statements import CLAIMS
from pessimism.claims.verdicts import ClaimTest, Outcome, correlation_and_growth_test, verdicts
from pessimism.measures.trends import holm

EXPERIMENTS = 2000


def test_the_simulation_judges_as_the_verdicts_do() -> None:
    """Each claim by its own kind's test on one table, where a third of the values rise and a third fall."""
    kinds = family()
    effects = np.array([[1, -1, 0, 2, -2, 2, -2, 2][position % 8] for position in range(len(kinds))])
    values = draw(InventedDesign(betas=3, seeds=5), 40, np.random.default_rng(0))
    values += 0.7 * np.arange(3) * effects[:, None, None]
    stated, opposite = (holm(ps) <= 0.05 for ps in p_values(values))
    seen = set()
    for index, tables in enumerate(values):
        towards = zip(kinds.items(), tables, strict=True)
        found = verdicts({name: kind.test_table(table * (kind.predicted or 1)) for (name, kind), table in towards})
        supported = [verdict.outcome is Outcome.SUPPORTED for verdict in found.values()]
        contradicted = [found[name].outcome is Outcome.CONTRADICTED for name in found if name not in two_sided()]
        assert supported == stated[index].tolist() and contradicted == opposite[index].tolist()
        seen |= {(name, verdict.outcome) for name, verdict in found.items()}
    assert {("C1", "supported"), ("C2", "contradicted"), ("C5", "supported"), ("C8", "supported")} <= seen
    assert ("C3", "insufficient") in seen


@pytest.mark.parametrize("log_normal", [False, True])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize(("betas", "seeds"), simulation.NULL_DESIGNS)
def test_false_families_stay_below_five_percent(betas: int, seeds: int, correlation: float, log_normal: bool) -> None:
    design = InventedDesign(betas, seeds, correlation, log_normal)
    error = monte_carlo_error(0.05, EXPERIMENTS)
    for rate in false_verdict_rates(design, EXPERIMENTS, np.random.default_rng(1)):
        assert 0 < rate <= 0.05 + 2 * error


def test_without_holm_families_would_be_false_far_more_often() -> None:
    stated, _ = p_values(draw(InventedDesign(betas=6, seeds=5), EXPERIMENTS, np.random.default_rng(1)))
    assert (stated <= 0.05).any(axis=1).mean() > 0.2


@pytest.mark.parametrize(("betas", "seeds"), simulation.NULL_DESIGNS)
@pytest.mark.parametrize("effect", [simulation.STRONG, simulation.MODERATE, simulation.WEAK])
def test_correlations_that_only_grow_do_not_support_c8(effect: float, betas: int, seeds: int) -> None:
    values = growing_correlations(InventedDesign(betas, seeds), effect, EXPERIMENTS, np.random.default_rng(4))
    by_seed, _ = growth_rates(values)
    assert 0 < by_seed <= 0.05 + 2 * monte_carlo_error(0.05, EXPERIMENTS)
    tests = [correlation_and_growth_test(table) for table in values[:50]]
    assert growth_rates(values[:50])[0] == np.mean([isinstance(test, ClaimTest) and test.p <= 0.05 for test in tests])


def test_runs_taken_as_independent_would_support_c8_too_often() -> None:
    values = growing_correlations(InventedDesign(6, 5), simulation.WEAK, EXPERIMENTS, np.random.default_rng(4))
    assert growth_rates(values)[1] > 0.1


def test_growing_correlations_are_0_on_average_and_half_their_other_variance_is_between_seeds() -> None:
    values = growing_correlations(InventedDesign(betas=3, seeds=4), 2.0, 4000, np.random.default_rng(5))
    assert values.mean(axis=(0, 1)) == pytest.approx([-2.0, 0.0, 2.0], abs=0.05)
    assert np.corrcoef(values[..., 0].ravel(), values[..., 1].ravel())[0, 1] == pytest.approx(0.5, abs=0.02)


def test_strong_trends_are_found_at_five_seeds() -> None:
    generator = np.random.default_rng(2)
    designs = [InventedDesign(betas=3, seeds=seeds) for seeds in (3, 5, 8)]
    at_seeds = [power(design, simulation.STRONG, False, EXPERIMENTS, generator) for design in designs]
    assert at_seeds == sorted(at_seeds) and at_seeds[0] < 0.8
    assert at_seeds[1] >= 0.8 - 2 * monte_carlo_error(0.8, EXPERIMENTS)
    assert power(designs[1], simulation.STRONG, True, EXPERIMENTS, generator) > at_seeds[1]
    assert power(designs[1], 0.0, True, EXPERIMENTS, generator) < 0.05


def test_drawn_claims_are_as_correlated_as_they_say() -> None:
    values = draw(InventedDesign(betas=3, seeds=4, correlation=0.8), 4000, np.random.default_rng(3))
    within = values - values.mean(axis=3, keepdims=True)
    first, second = within[:, 0].ravel(), within[:, 1].ravel()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.8, abs=0.02)
    between_seeds = values.mean(axis=3).var(axis=2, ddof=1).mean()
    assert between_seeds == pytest.approx(1 + 1 / 3, rel=0.05)
    assert (draw(InventedDesign(3, 4, log_normal=True), 10, np.random.default_rng(3)) > 0).all()


def test_monte_carlo_error_is_binomial() -> None:
    assert monte_carlo_error(0.05, 20_000) == pytest.approx(math.sqrt(0.05 * 0.95 / 20_000))


def test_the_page_states_how_it_was_made() -> None:
    text = simulation.page(simulation.null_table(20), simulation.growth_table(20), simulation.power_table(20), 20)
    words = " ".join(text.split())
    assert simulation.COMMAND in words and f"seed {simulation.SEED} and 20 experiments" in words
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == (1 + len(CLAIMS)) + (1 + 12) + (1 + 9) + (1 + 12)
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("| "))
    assert text == simulation.page(
        simulation.null_table(20), simulation.growth_table(20), simulation.power_table(20), 20
    )


def test_the_committed_page_is_this_programs() -> None:
    """The numbers take a minute; the words around them do not."""
    committed = (Path(__file__).parent.parent / "docs/statistics.md").read_text(encoding="utf-8")
    fresh = simulation.page(
        simulation.null_table(10), simulation.growth_table(10), simulation.power_table(10), simulation.EXPERIMENTS
    )

    def words(text: str) -> str:
        prose = " ".join(line for line in text.splitlines() if not line.startswith("| "))
        return re.sub(r"(The largest[a-z ]* is )[\d.]+%", r"\1", " ".join(prose.split()))

    assert words(committed) == words(fresh)
    claims = [line for line in fresh.splitlines() if line.startswith("| C")]
    assert [line for line in committed.splitlines() if line.startswith("| C")] == claims
    assert len(claims) == len(CLAIMS)
