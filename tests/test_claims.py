"""The claims: estimates, tests and verdicts by both measures, every value behind them, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from pessimism.claims import statements
from pessimism.claims.claims import check_claims
from pessimism.claims.kinds import Quantity
from pessimism.claims.statements import CLAIMS
from pessimism.claims.trend_kinds import OverBeta, Trend
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.measures import power
from pessimism.measures.power import seeds_needed
from pessimism.measures.trends import spearman
from pessimism.scoring.checkpoint_columns import CHECKPOINT_COLUMNS
from pessimism.scoring.columns import ALL, EVENTS, by_seed
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER
from support.repository import CHECKOUT

BETAS = (0.3, 1.0, 2.4)
FAMILY = {claim.name: claim.kind for claim in CLAIMS if isinstance(claim.kind, OverBeta)}
# The paper's words (sections 5 to 7), written out a second time: direction, and the column of either measure.
IN_THE_PAPER = {
    "C1": (+1, "augc", "controlled_signed_augc_excess"),
    "C2": (-1, "entropy_dpo", "response_entropy_dpo"),
    "C3": (+1, "entropy_collapse", "response_entropy_collapse"),
    "C4": (-1, "response_diversity", "within_prompt_diversity"),
    "C5": (0, "ood_cosine_distance", "ood_mahalanobis_distance"),
    "C6": (+1, "mean_ensemble_std", "controlled_ensemble_std_excess"),
    "C7": (-1, "onset_step", "controlled_onset_step"),
    "C8": (+1, "uq_gap_correlation", "controlled_uq_gap_correlation_excess"),
}
STAR = {"estimate": 1.1, "interval": [1.0, 1.2], "identifying_share": 1.0, "not_identified": ""}
STARS = {measure: {"eq_15_over_grid": STAR} for measure in MEASURES}


@pytest.fixture(autouse=True)
def few_planned_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of seeds are simulated; ``test_power`` asks for the precision that these tests do without."""
    monkeypatch.setattr(power, "EXPERIMENTS", 40)


def cells(seeds: int = 3, betas: tuple[float, ...] = BETAS, **columns: Any) -> pd.DataFrame:
    """Runs in which every claim's quantity goes the way the paper says; a placebo in which it goes the other way.

    ``columns`` replace a column of the proxy arm by a function of level and seed.
    """
    rows = []
    for level, beta in enumerate(betas):
        for seed in range(seeds):
            for arm, sign in (("proxy", 1), ("placebo", -1)):
                row = {"label": 20 + 10 * level, "beta": beta, "seed": seed, "arm": arm}
                row |= {"controlled_augc": 1.0 + level**2}
                for kind in FAMILY.values():
                    for measure in MEASURES:
                        rise = 0.1 * sign * (kind.predicted or 1)
                        row[kind.quantity(measure).name] = 0.5 + rise * level + 0.001 * seed
                row |= {name: of(level, seed) for name, of in columns.items() if arm == "proxy"}
                rows.append(row)
    table = pd.DataFrame(rows)
    onsets = {name: "Float64" for name in ("onset_step", "controlled_onset_step")}
    return table.astype(onsets)


def check(table: pd.DataFrame, paired: bool = False) -> dict[str, Any]:
    return check_claims(table, {"fit": "found", "b": 2.0}, STARS, "proxy", paired)


def verdict(found: dict[str, Any], name: str, measure: str = PAPER) -> str:
    return str(found["claims"][name][measure]["verdict"])


def test_claims_are_numbered_from_one() -> None:
    """A number given twice would hide a claim."""
    assert [claim.name for claim in CLAIMS] == [*(f"C{number}" for number in range(1, len(CLAIMS))), "B1"]


def test_all_by_both_measures_from_the_primary_arm() -> None:
    found = check(cells())
    assert list(found["claims"]) == [claim.name for claim in CLAIMS]
    for measure in MEASURES:
        assert {name: verdict(found, name, measure) for name in FAMILY} == dict.fromkeys(FAMILY, "supported")
    first = found["claims"]["C1"][PAPER]
    assert first["estimate"] == pytest.approx(0.2) and first["interval"] == pytest.approx([0.2, 0.2], abs=0.01)
    ranked = spearman([0, 1, 2] * 3, [1, 4, 7, 2, 5, 8, 3, 6, 9])
    assert first["trend_correlation"] == pytest.approx(ranked)
    assert found["claims"]["C2"][PAPER]["trend_correlation"] == pytest.approx(-float(ranked or 0))
    assert first["p"] == pytest.approx(1 / 1680) and first["p_adjusted"] == pytest.approx(len(FAMILY) / 1680)
    assert found["claims"]["C5"][PAPER]["p"] == pytest.approx(2 / 1680)


def test_the_protocol_says_how_runs_are_permuted() -> None:
    found = check(cells(), paired=True)
    assert found["design"]["paired_seeds"] and found["design"]["smallest_p"] == pytest.approx(1 / 216)
    assert found["claims"]["C1"][PAPER]["p"] == pytest.approx(1 / 216)
    assert "within seeds" in found["claims"]["C1"][PAPER]["test"]
    assert "between betas" in check(cells())["claims"]["C1"][PAPER]["test"]


def test_one_claim_is_primary_and_keeps_its_own_p() -> None:
    """C1 by the controlled measure; its family of secondary claims is one smaller than that of the paper's measure."""
    found = check(cells())["claims"]
    roles = [(name, measure) for name in found for measure in MEASURES if found[name][measure]["role"] == "primary"]
    assert roles == [("C1", CONTROLLED)] == [("C1", statements.CLAIMS[0].primary)]
    first = found["C1"][CONTROLLED]
    assert first["p"] == first["p_adjusted"] == pytest.approx(1 / 1680)
    assert found["C2"][CONTROLLED]["p_adjusted"] == pytest.approx((len(FAMILY) - 1) / 1680)


def relabelled() -> Iterator[list[tuple[int, ...]]]:
    """New names of three seeds at the second and at the third of three betas: all 36 ways to tear runs apart."""
    orders = list(permutations(range(3)))
    for second, third in product(orders, repeat=2):
        yield [(0, 1, 2), second, third]


def test_verdicts_of_the_committed_runs_do_not_hang_on_the_names_of_seeds() -> None:
    """Judged as where seeds are not paired: a seed's number then says nothing about the other betas' runs."""
    table = pd.read_csv(CHECKOUT / layout.CELL_SCORES).astype({name: "Float64" for name in EVENTS})
    table = table[table["seed"] < 3]
    stars = records.read_json(CHECKOUT / layout.BETA_STAR)
    committed = check_claims(table, {}, stars, "proxy", paired=False)["claims"]
    levels = sorted(table["beta"].unique())
    for names in relabelled():
        new = [names[levels.index(beta)][seed] for beta, seed in zip(table["beta"], table["seed"], strict=True)]
        found = check_claims(table.assign(seed=new), {}, stars, "proxy", paired=False)["claims"]
        for name, measure in product(found, MEASURES):
            one, other = found[name][measure], committed[name][measure]
            same = ("verdict", "p", "p_opposite", "p_adjusted", "p_opposite_adjusted", "estimate", "seeds_needed")
            assert {key: one.get(key) for key in same} == pytest.approx({key: other.get(key) for key in same})
            assert one["interval"] == pytest.approx(other["interval"])


def test_paired_verdicts_do_hang_on_them() -> None:
    """Relabelling tears runs apart that share their draws: it is another table."""
    table = cells(entropy_dpo=lambda level, seed: 10.0 * seed - level)
    runs = table.assign(
        seed=[(seed + level) % 3 for seed, level in zip(table["seed"], table["label"] // 10, strict=True)]
    )
    assert verdict(check(table, paired=True), "C2") == "supported"
    assert verdict(check(runs, paired=True), "C2") == "insufficient"
    assert verdict(check(table), "C2") == verdict(check(runs), "C2") == "insufficient"


def test_a_guarded_claim_is_refused_where_the_signed_area_does_not_rise() -> None:
    """A larger clipped area and an earlier onset are what more noise gives."""
    flat = check(cells(controlled_signed_augc_excess=no_trend))["claims"]
    for name, measure in (("C1", PAPER), ("C7", PAPER), ("C7", CONTROLLED)):
        assert flat[name][measure]["guard"] == "controlled_signed_augc_excess"
        assert flat[name][measure]["verdict"] == "insufficient"
    assert flat["C2"][PAPER]["guard"] is None and flat["C2"][PAPER]["verdict"] == "supported"
    without = check(cells(controlled_signed_augc_excess=lambda level, seed: None))["claims"]["C1"][PAPER]
    assert without["verdict"] == "insufficient" and without["reason"] == "a run has no value"


def no_trend(level: int, seed: int) -> float:
    return [0.1, -0.2, 0.1][level] * (-1) ** seed


@pytest.mark.parametrize(
    ("name", "guard"), [("C6", "controlled_ensemble_std_excess"), ("C8", "controlled_uq_gap_correlation_excess")]
)
def test_the_ensembles_std_counts_only_beyond_the_placebo_by_the_papers_measure_too(name: str, guard: str) -> None:
    """Checkpoints differ in it before they learn anything online."""
    assert verdict(check(cells()), name) == "supported"
    flat = check(cells(**{guard: no_trend}))
    assert flat["claims"][name][PAPER]["guard"] == guard and verdict(flat, name) == "insufficient"


def test_directions_and_columns_are_the_papers() -> None:
    listed = {name: (kind.predicted, kind.paper.name, kind.controlled.name) for name, kind in FAMILY.items()}
    assert {name: listed[name] for name in IN_THE_PAPER} == IN_THE_PAPER


def test_a_claim_about_a_column_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    misspelled = Trend(+1, Quantity("agc", "gap"), Quantity("controlled_augc", "sd"))
    monkeypatch.setattr("pessimism.claims.statements.CLAIMS", (replace(CLAIMS[0], kind=misspelled), *CLAIMS[1:]))
    with pytest.raises(DataError, match=r"'agc' in plots/cells.csv; .* claims/statements.py"):
        check(cells())


def test_a_falling_claim_has_its_own_small_p() -> None:
    claim = check(cells())["claims"]["C2"][PAPER]
    assert claim["spearman"] == -1.0 and claim["spearman_p"] == pytest.approx(1 / 6)
    assert claim["p"] == pytest.approx(1 / 1680)
    two_sided = check(cells())["claims"]["C5"][PAPER]
    assert two_sided["spearman_p"] == pytest.approx(2 / 6)


NOISE = [[0, 0.9, 0.2], [0.8, 0, 0.5], [0.1, 0.6, 1.1]]


PLANNED = ("response_diversity", "controlled_signed_augc_excess")


def test_seeds_are_planned_at_the_first_step_of_holm_and_for_the_primary_claim_at_the_level() -> None:
    """A claim that needs two tests, because of a guard or of its own, has no such plan."""
    noisy = cells(**{name: lambda level, seed: level + NOISE[seed][level] for name in PLANNED})
    values = by_seed(noisy[noisy["arm"] == "proxy"], PLANNED[0])
    found = check(noisy)["claims"]
    strict, level = seeds_needed(values, 0.05 / len(FAMILY), False), seeds_needed(values, 0.05, False)
    assert (found["C4"][PAPER]["seeds_needed"], found["C1"][CONTROLLED]["seeds_needed"]) == (strict, level)
    assert int(strict) > int(level)
    for name, measure in (("C1", PAPER), ("C6", PAPER), ("C7", PAPER), ("C7", CONTROLLED), ("C8", CONTROLLED)):
        assert found[name][measure]["seeds_needed"] == "not planned: two tests must hold"
        assert found[name][measure]["seeds_needed_for"] is None


def test_seeds_that_would_contradict_a_claim_are_planned_too() -> None:
    name = "controlled_signed_augc_excess"
    down = check(cells(**{name: lambda level, seed: NOISE[seed][level] - level}))["claims"]["C1"][CONTROLLED]
    up = check(cells(**{name: lambda level, seed: NOISE[seed][level] + level}))["claims"]["C1"][CONTROLLED]
    assert (down["seeds_needed_for"], up["seeds_needed_for"]) == ("contradicted", "supported")
    assert isinstance(down["seeds_needed"], int)


def test_a_skewed_area_has_a_ratio_where_it_is_positive() -> None:
    table = cells(augc=lambda level, seed: (1 + seed) * 10.0**level)
    areas = check(table, paired=True)["claims"]["C1"][PAPER]
    assert areas["ratio"] == pytest.approx(100) and areas["ratio_interval"] == pytest.approx([100, 100])
    unpaired = check(table)["claims"]["C1"][PAPER]
    logs = np.log([1, 2, 3])
    bounds = ttest_ind(logs + np.log(100), logs, equal_var=False).confidence_interval(0.95)
    assert unpaired["ratio"] == pytest.approx(100) and unpaired["ratio_interval"] == pytest.approx(np.exp(bounds))
    zero = check(cells(augc=lambda level, seed: 10.0 * level))["claims"]["C1"][PAPER]
    assert zero["ratio"] is None and zero["ratio_interval"] is None


def test_the_measures_are_judged_apart() -> None:
    found = check(cells(response_entropy_dpo=lambda level, seed: 0.1 * level + 0.001 * seed))
    assert verdict(found, "C2", PAPER) == "supported"
    assert verdict(found, "C2", CONTROLLED) == "contradicted"
    assert found["claims"]["C2"][CONTROLLED]["estimate"] == pytest.approx(0.2)


def test_the_opposite_trend_contradicts_and_no_trend_does_nothing() -> None:
    falls = {name: lambda level, seed: -float(level) for name in ("augc", "controlled_signed_augc_excess")}
    found = check(cells(**falls, entropy_dpo=lambda level, seed: (level + seed) % 3))
    assert verdict(found, "C1") == "contradicted" and verdict(found, "C2") == "insufficient"


def test_two_paired_seeds_can_support_the_primary_claim_alone() -> None:
    found = check(cells(seeds=2), paired=True)
    assert found["design"]["can_support_the_primary_claim"] and not found["design"]["can_support_a_claim"]
    assert found["design"]["smallest_p"] == pytest.approx(1 / 36)
    assert {verdict(found, name) for name in found["claims"]} == {"insufficient"}
    assert verdict(found, "C1", CONTROLLED) == "supported"


def test_one_seed_can_support_nothing() -> None:
    found = check(cells(seeds=1))
    assert found["design"]["smallest_p"] is None and not found["design"]["can_support_the_primary_claim"]
    assert found["claims"]["C2"][PAPER]["reason"] == "fewer than two seeds have no spread"
    assert {verdict(found, name, measure) for name in found["claims"] for measure in MEASURES} == {"insufficient"}


def test_the_design_says_what_it_can_reach() -> None:
    design = check(cells())["design"]
    assert design["smallest_p"] == pytest.approx(1 / 1680)
    assert design["smallest_adjusted_p"] == pytest.approx(len(FAMILY) / 1680)
    assert check(cells(betas=(0.5, 1, 1.5, 2, 2.5, 3)))["design"]["claims_in_family"] == len(FAMILY) + 1
    assert design["can_support_a_claim"] and (design["seeds"], design["betas"]) == (3, 3)
    assert design["can_support_a_two_sided_claim"]
    assert not check(cells(), paired=True)["design"]["can_support_a_two_sided_claim"]


def test_every_run_stands_behind_the_estimate() -> None:
    values = check(cells())["claims"]["C1"][PAPER]["values"]
    assert [(value["label"], value["seed"]) for value in values] == [(p, s) for p in (20, 30, 40) for s in range(3)]
    assert values[-1]["value"] == pytest.approx(0.702)


def test_a_run_without_onset_ranks_last(tmp_path: Path) -> None:
    earlier = check(cells(onset_step=lambda level, seed: [pd.NA, 9, 3][level]))["claims"]["C7"][PAPER]
    assert earlier["verdict"] == "supported" and earlier["estimate"] is None
    assert [value["value"] for value in earlier["values"][:4]] == [None, None, None, 9.0]
    later = check(
        cells(
            onset_step=lambda level, seed: [3, 9, pd.NA][level],
            controlled_signed_augc_excess=lambda level, seed: -level,
        )
    )["claims"]["C7"][PAPER]
    assert later["verdict"] == "contradicted"
    never = check(cells(onset_step=lambda level, seed: pd.NA))["claims"]["C7"][PAPER]
    assert never["verdict"] == "insufficient" and never["p"] == 1.0
    records.write_json(tmp_path / "claims.json", check(cells(onset_step=lambda level, seed: pd.NA)))


def test_by_seed_orders_betas_and_keeps_missing_apart_from_never() -> None:
    table = cells(betas=(2.4, 0.3), augc=lambda level, seed: 10 * level + seed)
    table.loc[(table["seed"] == 1) & (table["beta"] == 0.3), ["augc", "onset_step"]] = pd.NA
    runs = table[table["arm"] == "proxy"]
    augc_S_K, onset_S_K = by_seed(runs, "augc"), by_seed(runs, "onset_step")
    assert augc_S_K[0].tolist() == [10.0, 0.0]
    assert np.isnan(augc_S_K[1, 0]) and onset_S_K[1, 0] == np.inf


def test_a_missing_value_leaves_its_claim_untested_and_the_family_smaller(tmp_path: Path) -> None:
    found = check(cells(uq_gap_correlation=lambda level, seed: None if (level, seed) == (1, 1) else 0.1 * level))
    claim = found["claims"]["C8"][PAPER]
    assert claim["verdict"] == "insufficient" and claim["reason"] == "a run has no value" and claim["p"] is None
    assert found["claims"]["C1"][PAPER]["p_adjusted"] == pytest.approx((len(FAMILY) - 1) / 1680)
    records.write_json(tmp_path / "claims.json", found)


def test_disagreement_must_both_correlate_and_grow() -> None:
    grows_below_zero = check(cells(uq_gap_correlation=lambda level, seed: -0.9 + 0.1 * level + 0.01 * seed), True)
    claim = grows_below_zero["claims"]["C8"][PAPER]
    assert claim["verdict"] == "insufficient" and claim["mean"] == pytest.approx(-0.79)
    assert claim["trend_correlation"] == 1.0
    flat_above_zero = check(cells(uq_gap_correlation=lambda level, seed: 0.8 + 0.01 * ((level + seed) % 3)))
    assert verdict(flat_above_zero, "C8") == "insufficient"


def test_a_gain_of_entropy_that_shrinks_is_no_collapse() -> None:
    """Nine negative values that rise with beta in every seed, and nine positive ones."""
    for quantity, measure in (("entropy_collapse", PAPER), ("response_entropy_collapse", CONTROLLED)):
        shrinks = check(cells(**{quantity: lambda level, seed: -0.03 + 0.01 * level + 0.001 * seed}))["claims"]["C3"]
        assert shrinks[measure]["verdict"] == "insufficient" and shrinks[measure]["p"] > 0.9
        assert shrinks[measure]["trend_correlation"] > 0.9 and shrinks[measure]["mean"] == pytest.approx(-0.019)
        grows = check(cells(**{quantity: lambda level, seed: 0.01 + 0.01 * level + 0.001 * seed}))["claims"]["C3"]
        assert grows[measure]["verdict"] == "supported" and grows[measure]["mean"] == pytest.approx(0.021)


def test_what_happens_online_is_judged_beyond_the_placebo_by_the_controlled_measure() -> None:
    """But for the onset, an event: a placebo has none to subtract, and its threshold is fixed in its place."""
    judged = {name: ALL[kind.controlled.name] for name, kind in FAMILY.items()}
    of_a_checkpoint = {column.name for column in CHECKPOINT_COLUMNS}
    online = {name: column for name, column in judged.items() if column.name not in of_a_checkpoint}
    assert set(online) == {"C1", "C6", "C7", "C8"}
    assert {name for name, column in online.items() if not column.excess_of} == {"C7"} and online["C7"].event


def test_exponent_and_beta_star_need_six_betas() -> None:
    few = check(cells())["claims"]
    assert few["C9"][PAPER]["estimate"] == 2.0 and few["C9"][CONTROLLED]["estimate"] is None
    for name in ("C9", "C10"):
        assert few[name][PAPER]["verdict"] == "insufficient" and few[name][PAPER]["reason"].startswith("fewer than 6")
    betas = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    table = cells(
        betas=betas,
        augc=lambda level, seed: 1.0 + 0.5 * betas[level] ** (2 + 0.1 * seed),
        controlled_augc=lambda level, seed: 1.0 + 0.5 * betas[level] ** (0.5 + 0.01 * seed),
    )
    many = check(table, paired=True)["claims"]
    assert [value["value"] for value in many["C9"][PAPER]["values"]] == pytest.approx([2.0, 2.1, 2.2], abs=1e-3)
    assert many["C9"][PAPER]["verdict"] == "supported" and many["C9"][CONTROLLED]["verdict"] == "insufficient"
    assert many["C9"][CONTROLLED]["p"] > 0.99 and many["C9"][CONTROLLED]["p_opposite"] is None
    assert many["C9"][CONTROLLED]["estimate"] == pytest.approx(0.51, abs=1e-2)
    assert many["C9"][PAPER]["estimate"] == pytest.approx(2.1, abs=1e-3)  # of the seeds, as its interval
    assert many["C10"][PAPER]["verdict"] == "supported" and many["C10"][PAPER]["interval"] == [1.0, 1.2]
    unpaired, renamed = check(table)["claims"]["C9"], check(torn(table))["claims"]["C9"]
    for measure in MEASURES:
        assert unpaired[measure]["verdict"] == many["C9"][measure]["verdict"] and unpaired[measure]["values"] == []
        assert unpaired[measure]["p"] == pytest.approx(renamed[measure]["p"])
        assert unpaired[measure]["interval"] == pytest.approx(renamed[measure]["interval"])
    assert unpaired[PAPER]["estimate"] == pytest.approx(2.1, abs=0.02)


def torn(table: pd.DataFrame) -> pd.DataFrame:
    """The same runs under other names: at every other beta the seeds are numbered the other way round."""
    odd = table["beta"].rank(method="dense") % 2 == 1
    return table.assign(seed=table["seed"].where(odd, table["seed"].max() - table["seed"]))


def test_one_beta_has_values_and_no_estimate(tmp_path: Path) -> None:
    found = check(cells(betas=(1.0,)))
    for name in FAMILY:
        claim = found["claims"][name][PAPER]
        assert claim["estimate"] is None and claim["verdict"] == "insufficient" and len(claim["values"]) == 3
    assert found["design"]["smallest_p"] is None and found["design"]["claims_in_family"] == 0
    records.write_json(tmp_path / "claims.json", found)
