"""The simulation judges as the verdicts do, finds no more than 5 % false verdicts, and finds strong trends."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import page_trend_test, permutation_test

from pessimism.claims import nulls, simulated_tables, simulation
from pessimism.claims.contrast_power import committed_arms
from pessimism.claims.invented import (
    InventedDesign,
    decisions,
    draw,
    false_verdicts,
    family,
    growing_correlations,
    growth_rate,
    jonckheere_rises,
    monte_carlo_error,
    p_values,
    page_rises,
    power,
    two_sided,
)
from pessimism.claims.nulls import EVALUATE_EVERY, NULLS, WORLD, Null, areas, false_rates, onsets, runs
from pessimism.claims.statements import CLAIMS, primary_by
from pessimism.claims.verdicts import ClaimTest, Outcome, level_and_trend_test, verdicts
from pessimism.claims.wording import DOORS
from pessimism.experiment.params import load_params
from pessimism.measures import goodhart
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER

EXPERIMENTS = 1000
LIMIT = 0.05 + 2 * monte_carlo_error(0.05, EXPERIMENTS)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("paired", [False, True])
def test_the_simulation_judges_as_the_verdicts_do(measure: str, paired: bool) -> None:
    """Each claim by its own kind's test on one table, where a third of the values rise and a third fall."""
    kinds = family()
    effects = np.array([[1, -1, 0, 2, -2, 2, -2, 2][position % 8] for position in range(len(kinds))])
    values = draw(InventedDesign(3, 4, paired), 20, np.random.default_rng(0))
    values += 0.9 * np.arange(3) * effects[:, None, None]
    stated, opposite = decisions(values, measure, paired)
    seen = set()
    for index, tables in enumerate(values):
        towards = zip(kinds.items(), tables, strict=True)
        tests = {name: kind.test_table(table * (kind.predicted or 1), paired) for (name, kind), table in towards}
        found = verdicts(tests, primary_by(measure))
        assert [verdict.outcome is Outcome.SUPPORTED for verdict in found.values()] == stated[index].tolist()
        contradicted = [verdict.outcome is Outcome.CONTRADICTED for verdict in found.values()]
        assert [is_so for is_so, name in zip(contradicted, found, strict=True) if name not in two_sided()] == [
            is_so for is_so, name in zip(opposite[index].tolist(), found, strict=True) if name not in two_sided()
        ]
        seen |= {(name, verdict.outcome) for name, verdict in found.items()}
    assert {("C1", "supported"), ("C4", "supported"), ("C7", "contradicted"), ("C3", "insufficient")} <= seen


@pytest.mark.parametrize(("correlation", "log_normal"), [(0.0, False), (0.8, True)])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("betas", "seeds"), [(3, 3), (3, 5)])
def test_false_verdicts_stay_below_five_percent(
    betas: int, seeds: int, paired: bool, correlation: float, log_normal: bool
) -> None:
    design = InventedDesign(betas, seeds, paired, correlation, log_normal)
    found = false_verdicts(design, EXPERIMENTS, np.random.default_rng(1))
    assert max(found.primary, found.supported, found.contradicted) <= LIMIT
    assert max(found.supported, found.primary) <= found.any <= 0.3


def test_without_holm_families_would_be_false_far_more_often() -> None:
    stated, _ = p_values(draw(InventedDesign(3, 5), EXPERIMENTS, np.random.default_rng(1)), paired=False)
    assert (stated <= 0.05).any(axis=1).mean() > 0.15


@pytest.mark.parametrize(("effect", "paired"), list(product(simulated_tables.EFFECTS, (False, True))))
def test_values_that_only_grow_do_not_support_a_conjunction(effect: float, paired: bool) -> None:
    values = growing_correlations(InventedDesign(3, 5, paired), effect, EXPERIMENTS, np.random.default_rng(4))
    assert 0 < growth_rate(values, paired) <= LIMIT
    tests = [level_and_trend_test(table, paired) for table in values[:20]]
    found = np.mean([isinstance(test, ClaimTest) and test.p <= 0.05 for test in tests])
    assert growth_rate(values[:20], paired) == found
    assert values.mean(axis=(0, 1)) == pytest.approx([-effect, 0.0, effect], abs=0.1)


def test_power_grows_with_seeds_and_the_primary_claim_has_more() -> None:
    generator = np.random.default_rng(2)
    found = [power(InventedDesign(3, seeds), 1.0, False, EXPERIMENTS, generator) for seeds in (3, 5)]
    assert found[0][0] < found[1][0] and found[0][1] < found[1][1]
    assert all(primary > secondary for primary, secondary in found)
    together = power(InventedDesign(3, 5), 1.0, True, EXPERIMENTS, generator)
    assert together[1] > found[1][1] and together[0] == pytest.approx(found[1][0], abs=0.06)
    assert max(power(InventedDesign(3, 3), 0.0, True, EXPERIMENTS, generator)) <= LIMIT


def test_drawn_claims_are_as_correlated_as_they_say() -> None:
    values = draw(InventedDesign(3, 4, correlation=0.8), 4000, np.random.default_rng(3))
    first, second = values[:, 0].ravel(), values[:, 1].ravel()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.8, abs=0.02)
    shifted = draw(InventedDesign(3, 4, paired=True), 4000, np.random.default_rng(3))
    assert shifted.mean(axis=3).var(axis=2, ddof=1).mean() == pytest.approx(1 + 1 / 3, rel=0.05)
    assert (draw(InventedDesign(3, 4, log_normal=True), 10, np.random.default_rng(3)) > 0).all()


def test_the_tests_that_were_not_chosen_are_scipys() -> None:
    tables = np.random.default_rng(0).normal(size=(4, 3, 3)) + 0.5 * np.arange(3)
    pages = [page_trend_test(table, method="exact").pvalue for table in tables]
    assert page_rises(tables) == pytest.approx(pages)

    def ordered_pairs(*groups: np.ndarray) -> int:
        return sum(int((a < b).sum()) for i, a in enumerate(groups) for b in (g[:, None] for g in groups[i + 1 :]))

    exact = [
        permutation_test(list(table.T), ordered_pairs, alternative="greater", n_resamples=np.inf).pvalue
        for table in tables[:2]
    ]
    assert jonckheere_rises(tables[:2]) == pytest.approx(exact)


@pytest.mark.parametrize("null", NULLS, ids=lambda null: null.name)
@pytest.mark.parametrize(("seeds", "paired"), [(3, False), (5, False), (5, True)])
def test_no_claim_is_found_more_often_than_it_may_where_runs_differ_without_hacking(
    null: Null, seeds: int, paired: bool
) -> None:
    """All but an effect of the world, which no test of its runs can see."""
    found = false_rates(null, seeds, EXPERIMENTS, np.random.default_rng(0), paired)
    assert [(rate.claim, rate.measure) for rate in found] == [*product(("C1", "C7"), MEASURES)]
    if null.name == WORLD:
        assert max(rate.now for rate in found) > 0.1
    else:
        assert max(rate.now for rate in found) <= LIMIT


def test_these_nulls_were_false_before() -> None:
    noise, start, few = (next(null for null in NULLS if name in null.name) for name in ("×2", "accuracy", "problems"))
    before = {(rate.claim, rate.measure): rate.before for rate in false_rates(noise, 5, 500, np.random.default_rng(0))}
    assert before["C1", CONTROLLED] > 0.3 and before["C7", PAPER] > 0.5 and before["C7", CONTROLLED] > 0.1
    noisier = false_rates(few, 5, 500, np.random.default_rng(0))
    assert next(rate.before for rate in noisier if (rate.claim, rate.measure) == ("C7", CONTROLLED)) > 0.3
    started = {(rate.claim, rate.measure): rate.before for rate in false_rates(start, 5, 500, np.random.default_rng(0))}
    assert started["C1", PAPER] > 0.1


def test_areas_and_onsets_of_many_runs_are_those_of_each() -> None:
    gap = np.random.default_rng(0).normal(size=(3, 2, 5))
    steps = np.arange(5) * EVALUATE_EVERY
    area, onset = areas(gap, EVALUATE_EVERY), onsets(gap, 0.8, EVALUATE_EVERY)
    for index in np.ndindex(3, 2):
        assert area[index] == pytest.approx(goodhart.signed_augc(steps, gap[index]))
        first = goodhart.hacking_onset(steps, gap[index], 0.8)
        assert onset[index] == (math.inf if first is None else first)


def test_no_mean_moves_where_nothing_is_hacked_and_the_noise_is_as_it_says() -> None:
    for null in NULLS:
        columns = runs(null, 3, 400, np.random.default_rng(1))
        signed = columns["controlled_signed_augc_excess"]
        error = signed.std(axis=(0, 1)) / math.sqrt(400 if null.world else 1200)
        assert np.all(np.abs(signed.mean(axis=(0, 1))) < 4 * error)
    spread = runs(NULLS[1], 3, 2000, np.random.default_rng(1))["controlled_signed_augc_excess"].std(axis=(0, 1))
    assert spread / spread[0] == pytest.approx(np.sqrt([1, (4 + 1) / 2, (16 + 1) / 2]), rel=0.1)


def test_the_invented_runs_have_the_sizes_of_the_default_design() -> None:
    scale = load_params(scale="tiny").scale
    sizes = (scale.online.steps, scale.online.heldout_every, scale.online.batch_size, scale.tasks.heldout)
    assert sizes == (nulls.STEPS, nulls.EVALUATE_EVERY, nulls.BATCH, nulls.PROBLEMS)


def test_monte_carlo_error_is_binomial() -> None:
    assert monte_carlo_error(0.05, 20_000) == pytest.approx(math.sqrt(0.05 * 0.95 / 20_000))


def test_the_page_states_how_it_was_made_and_names_the_primary_claim_first() -> None:
    text = simulation.page(simulated_tables.tables(10), 10)
    words = " ".join(text.split())
    assert simulation.COMMAND in words and f"seed {simulated_tables.SEED} and 10 experiments" in words
    assert words.index("One claim is primary: C1 by the controlled measure") < words.index("All tables but the first")
    assert "6 passes of 5%" in words and "at most 30%" in words
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == (1 + len(CLAIMS)) + (1 + 12) + (1 + 18) + (1 + 6 * len(NULLS)) + (1 + 8) + (1 + 18) + (1 + 18)
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("| "))


def test_the_committed_page_is_this_programs() -> None:
    """The numbers take minutes; the words around them do not."""
    committed = (Path(__file__).parent.parent / "docs/statistics.md").read_text(encoding="utf-8")
    observed = committed_arms()
    fresh = simulation.page(simulated_tables.tables(4, observed), simulated_tables.EXPERIMENTS, observed)

    def words(text: str) -> str:
        prose = " ".join(line for line in text.splitlines() if not line.startswith("| "))
        found = re.sub(r"([Tt]he largest[a-z ]* (is|are)|in up to) [\d.]+%", r"\1", " ".join(prose.split()))
        return re.sub(r"[\d.]+% for any verdict", "for any verdict", found)

    assert words(committed) == words(fresh)
    names = tuple(f"| {claim.name} |" for claim in CLAIMS)
    claims = [line for line in fresh.splitlines() if line.startswith(names)]
    assert [line for line in committed.splitlines() if line.startswith(names)] == claims
    assert len(claims) == len(CLAIMS)
    shown = [
        [line.split(" | ")[:3] for line in text.splitlines() if line[2:].startswith(tuple(DOORS))]
        for text in (committed, fresh)
    ]
    assert shown[0] == shown[1] and len(shown[1]) == len(DOORS)


def test_the_committed_rates_keep_their_level() -> None:
    """Every null of the page but an effect of the world, in the program's own table."""
    committed = (Path(__file__).parent.parent / "docs/statistics.md").read_text(encoding="utf-8")
    rows = [line for line in committed.splitlines() if any(line.startswith(f"| {null.name} |") for null in NULLS)]
    assert len(rows) == len(NULLS) * len(simulated_tables.NULL_SEEDS) * len(simulated_tables.PAIRING)
    limit = 5 + 300 * monte_carlo_error(0.05, simulated_tables.EXPERIMENTS)
    for row in rows:
        now = [float(rate) for rate in re.findall(r"([\d.]+)% \(", row)]
        assert len(now) == 4 and (WORLD in row or max(now) <= limit)
