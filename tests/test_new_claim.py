"""A claim is one entry of the statements: everything that lists, counts or tests claims then has it."""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pessimism.claims import invented, simulated_tables, simulation, statements
from pessimism.claims.curve_kinds import Exponent, Identified
from pessimism.claims.kinds import Kind, Quantity
from pessimism.claims.statements import CLAIMS, Claim
from pessimism.claims.trend_kinds import LevelAndTrend, Trend
from pessimism.claims.verdicts import EITHER, FALLS, ClaimTest, trend_test
from pessimism.claims.wording import listed, spelled
from pessimism.commands.summary import summary
from pessimism.experiment import layout, records
from pessimism.measures.beta_star import EQ_15_OVER_OBSERVED
from pessimism.scoring.measures import MEASURES
from support.repository import CHECKOUT
from support.synthetic_project import write_project

STAGES = ("score_hacking", "fit_power_law", "trace_mechanism", "check_claims", "report")
FAMILY = list(invented.family())
KL = {"paper": Quantity("final_kl_k1", "nats"), "controlled": Quantity("final_kl_k3", "nats")}
CORRELATION = Quantity("controlled_uq_gap_correlation", "Pearson r")


def numbered(place: int, statement: str, kind: Kind) -> Claim:
    """The claim at this place behind those that there are."""
    return Claim(f"C{len(CLAIMS) + place}", statement, "nowhere", kind, f"note {place}")


FALLING = numbered(1, "The final KL falls with beta", Trend(FALLS, **KL))
EITHER_WAY = numbered(2, "The final KL depends on beta", Trend(EITHER, **KL))
GROWING = numbered(3, "Both correlations grow", LevelAndTrend(CORRELATION, CORRELATION))
STEEP = numbered(4, "The exponent is above 2", Exponent(above=2.0))
SAFE = numbered(5, "The other beta* is identified", Identified(EQ_15_OVER_OBSERVED))
NEW = (FALLING, EITHER_WAY, GROWING, STEEP, SAFE)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An invented project after the stages that score and report, with one more claim of every kind."""
    root = tmp_path_factory.mktemp("new_claims")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(statements, "CLAIMS", (*CLAIMS, *NEW))
        write_project(root)
        shutil.copy(CHECKOUT / layout.PIPELINE, layout.PIPELINE)
        for stage in STAGES:
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
        yield root


@pytest.fixture
def found(project: Path) -> dict[str, Any]:
    return dict(records.read_json(project / layout.CLAIMS))


def test_every_kind_is_judged_by_both_measures(found: dict[str, Any]) -> None:
    assert set(found["claims"]) == {claim.name for claim in (*CLAIMS, *NEW)}
    for claim in NEW:
        record = found["claims"][claim.name]
        assert (record["statement"], record["note"]) == (claim.statement, claim.note)
        assert [record[measure]["test"] for measure in MEASURES] == [claim.kind.method(True)] * 2
    falling, either_way, _, steep, safe = (found["claims"][claim.name] for claim in NEW)
    assert falling["predicted"] == "falls with beta" and either_way["predicted"] == "depends on beta"
    assert falling["paper"]["quantity"] == "final_kl_k1" and len(falling["paper"]["values"]) == 9
    two_sided = 2 * min(falling["paper"]["p"], falling["paper"]["p_opposite"])
    assert either_way["paper"]["p"] == pytest.approx(min(1.0, two_sided))
    assert "against 2" in steep["paper"]["test"] and safe["paper"]["quantity"] == "beta_star"


def test_the_family_is_larger(found: dict[str, Any]) -> None:
    assert found["design"]["claims_in_family"] == len(FAMILY) + 3
    tested = [claim["paper"] for claim in found["claims"].values() if claim["paper"]["p"] is not None]
    first = min(tested, key=lambda record: record["p"])
    assert first["p_adjusted"] == pytest.approx(min(1.0, len(tested) * first["p"])) and len(tested) > len(FAMILY)


def test_the_report_and_the_summary_have_it(project: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    for claim in NEW:
        assert len(re.findall(rf"<tr><td[^>]*>{claim.name}<", html)) == 1 + len(MEASURES)
        assert claim.statement in html
    assert f"and {FALLING.name} (final_kl_k1 0.137, 0.167, 0.197). Its section" in html
    assert summary().count(f"of {len(CLAIMS) + len(NEW)} claims") == len(MEASURES)


def test_the_simulated_family_has_it(project: Path) -> None:
    assert list(invented.family()) == [*FAMILY, *(claim.name for claim in NEW[:3])]
    values = invented.draw(invented.InventedDesign(betas=3, seeds=4), 20, np.random.default_rng(0))
    stated, opposite = invented.p_values(values, paired=False)
    assert stated.shape == opposite.shape == (20, len(FAMILY) + 3)
    assert np.all(opposite[:, invented.positions(invented.two_sided())] == 1)
    falling = trend_test(-values[0, len(FAMILY)], FALLS, paired=False)
    assert isinstance(falling, ClaimTest) and stated[0, len(FAMILY)] == pytest.approx(falling.p)


def test_the_document_has_it(project: Path) -> None:
    """Counts and names in its sentences, and the line in the table of claims."""
    text = simulation.page(simulated_tables.tables(4), experiments=4)
    words, count = " ".join(text.split()), spelled(len(FAMILY) + 3)
    for claim in NEW:
        assert f"| {claim.name} | {claim.statement} | nowhere |" in text
    both_ways, conjunctions = listed(invented.two_sided()), listed(invented.conjunctions())
    assert EITHER_WAY.name in both_ways and GROWING.name in conjunctions
    assert f"Each experiment has {count} claims by each measure" in words
    assert f"in one direction, {both_ways} in either, and {conjunctions} by the larger p" in words
    assert f"{count} by the paper measure and {spelled(len(FAMILY) + 2)} by the controlled measure" in words
    assert f"opposite ones ({both_ways} have none)" in words
    assert f"and {SAFE.name}, about curves over beta, are not among them" in words
    others = listed(invented.conjunctions()[1:])
    assert f"{others} are tested in the same way" in words
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("| "))
