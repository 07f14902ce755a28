"""Strengths by realised KL: what is proposed by hand, and that what is measured is the pipeline's own."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

from pessimism.commands import strengths
from pessimism.errors import NonFiniteError, ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params
from support.repository import Edit


def test_the_strength_lies_on_the_line_between_two_neighbours() -> None:
    """KL falls as 1 / strength: the logarithms lie on a line, and 2 gives half of what 1 gives."""
    at = {"b4.0": 4.0, "b1.0": 1.0}
    assert strengths.matched_strength(at, {"b1.0": 0.8, "b4.0": 0.2}, 0.4) == pytest.approx(2)
    assert strengths.matched_strength(at, {"b1.0": 0.2, "b4.0": 0.8}, 0.4) == pytest.approx(2)
    assert strengths.matched_strength(at, {"b1.0": 0.8, "b4.0": 0.2}, 0.8) == pytest.approx(1)
    assert strengths.matched_strength(at, {"b1.0": 0.8, "b4.0": 0.2}, 0.1) is None


def test_where_kl_turns_the_least_strength_is_taken() -> None:
    at = {"b1.0": 1.0, "b2.0": 2.0, "b4.0": 4.0}
    assert strengths.matched_strength(at, {"b1.0": 0.4, "b2.0": 0.1, "b4.0": 0.4}, 0.2) == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("strength", "label"), [(0.0512, "b0.051"), (1.0, "b1.0"), (12.6, "b13.0"), (1e-5, "b0.00001"), (234.0, "b230.0")]
)
def test_labels_have_two_digits(strength: float, label: str) -> None:
    assert strengths.label_of(strength) == label
    assert strengths._strengths([label]) == {label: pytest.approx(strength, rel=0.05)}


def test_what_is_out_of_reach_is_said() -> None:
    said = strengths.proposal("ipo", {"b1.0": 0.8, "b4.0": 0.2}, {"p20": 0.4, "p80": 0.1})
    assert said.splitlines() == [
        "no two candidates lie around p80: try others",
        "-S offline.objective=ipo -S 'beta_percentiles=[]' -S 'offline_cells=[b2.0]'",
    ]


def test_a_candidate_without_a_strength_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"found the candidates \['p20'\]; expected labels that spell a strength"):
        strengths._strengths(["p20", "b0.1"])


def test_a_design_without_percentiles_is_refused_before_anything_is_trained(project: Path, edit: Edit) -> None:
    edit("params.yaml", "beta_percentiles", [])
    edit("params.yaml", "offline_cells", ["b0.1"])
    with pytest.raises(ParamsError, match=r"beta_percentiles: found \[\]; expected the percentiles whose KL"):
        strengths.run(Namespace(objective="ipo", candidates=["b0.1"], seeds=[0]))


def test_a_stronger_pull_to_the_reference_is_measured_as_less_kl(referenced_world: Params) -> None:
    """And nothing of a run is written."""
    prompts = records.read_table(layout.preferences("val"))["prompt"].head(8)
    records.write_table(layout.tasks("heldout"), pd.DataFrame({"question": prompts}))
    found = strengths.measured(referenced_world, "ipo", {"b0.1": 0.1, "b50.0": 50.0}, [0])
    assert found["b0.1"] > 2 * found["b50.0"] > 0
    assert not layout.DPO_ADAPTERS.exists()


def test_a_candidate_that_diverges_leaves_the_others(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kl(params: Params, cell: DpoCell, strength: float) -> float:
        if params.offline.objective == "ipo" and strength < 1:
            raise NonFiniteError("train_dpo, step 3: found a loss of nan")
        return 1 / strength

    monkeypatch.setattr(strengths, "_kl_to_base", kl)
    monkeypatch.setattr(strengths, "_grid", lambda _: {"p20": 2.0, "p80": 8.0})
    strengths.run(Namespace(objective="ipo", candidates=["b0.5", "b1.0", "b10.0"], seeds=[0, 1]))
    out, err = capsys.readouterr()
    assert err == "ipo b0.5 diverges and is left out: train_dpo, step 3: found a loss of nan\n"
    assert [line.split()[1:] for line in out.splitlines()[1:6]] == [
        ["p20", "2", "0.5000"],
        ["p80", "8", "0.1250"],
        ["b0.5", "0.5", "diverges"],
        ["b1.0", "1", "1.0000"],
        ["b10.0", "10", "0.1000"],
    ]
    assert out.splitlines()[-1].endswith("'offline_cells=[b2.0,b8.0]'")
