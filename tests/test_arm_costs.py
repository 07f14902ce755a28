"""What arms save and cost, on planted runs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pessimism import cli
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.measures.intervals import t_quantile
from pessimism.reporting.arm_costs import HACKING, TRUE, arm_costs, cost_figure, markdown
from support.repository import CHECKOUT, Edit

ARMS = ["proxy", "placebo", "early_stop"]
PLANTED = {"proxy": ((10.0, -0.2), (14.0, -0.4)), "early_stop": ((4.0, -0.1), (6.0, -0.1))}
"""Hacking and true reward above the placebo by arm and seed, mean over two betas."""


@pytest.fixture
def params(project: Path, edit: Edit) -> Params:
    for key, value in (("arms", ARMS), ("seeds", [0, 1]), ("beta_percentiles", [20, 80])):
        edit("params.yaml", key, value)
    return load_params()


def planted() -> pd.DataFrame:
    rows = [{"label": label, "seed": seed, "arm": "placebo"} for seed in (0, 1) for label in ("p20", "p80")]
    for arm, seeds in PLANTED.items():
        for seed, (hacking, true) in enumerate(seeds):
            for label, off in (("p20", 1.0), ("p80", -1.0)):
                named = {"label": label, "seed": seed, "arm": arm}
                rows.append(named | {HACKING: hacking + off, TRUE: true + off / 10})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_savings_and_costs_by_hand(params: Params) -> None:
    costs = arm_costs(planted(), params).set_index("arm")
    assert costs.index.tolist() == ["proxy", "early_stop"], "a placebo saves nothing"
    assert costs["hacking"].tolist() == pytest.approx([12.0, 5.0])
    assert costs["true_reward"].tolist() == pytest.approx([-0.3, -0.1])
    stop = costs.loc["early_stop"]
    assert (stop["hacking_saved"], stop["true_reward_gained"]) == pytest.approx((7.0, 0.2))
    # Seeds save 6 and 8; they gain 0.1 and 0.3. A standard error of two values is half their difference.
    saved, gained = t_quantile(1) * 1.0, t_quantile(1) * 0.1
    assert (stop["hacking_saved_low"], stop["hacking_saved_high"]) == pytest.approx((7 - saved, 7 + saved))
    assert (stop["true_reward_gained_low"], stop["true_reward_gained_high"]) == pytest.approx(
        (0.2 - gained, 0.2 + gained)
    )
    assert stop["described"] == "trained on the ensemble's reward, until its gap exceeds 0.5 sd"


def test_the_table_says_nothing_of_an_arm_against_itself(params: Params) -> None:
    proxy, stop = markdown(arm_costs(planted(), params), "proxy").splitlines()[2:]
    assert proxy.startswith("| proxy | +12 [") and proxy.endswith(" |  |  |")
    assert stop.startswith("| early_stop | +5 [") and "| +7 [" in stop and "| +0.2 [" in stop


def test_one_seed_has_no_interval(params: Params, edit: Edit) -> None:
    edit("params.yaml", "seeds", [1])
    cells = planted()
    costs = arm_costs(cells[cells["seed"] == 1], load_params())
    assert math.isnan(costs["hacking_low"].iloc[0]) and "[" not in markdown(costs, "proxy")
    assert cost_figure(costs).axes[0].get_title() == "one seed"


def test_a_point_stands_where_its_arm_does(params: Params) -> None:
    axes = cost_figure(arm_costs(planted(), params)).axes[0]
    points = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    assert [point for (point,) in points] == [pytest.approx([12.0, -0.3]), pytest.approx([5.0, -0.1])]


def test_results_of_another_design_and_runs_without_a_placebo_are_refused(params: Params, edit: Edit) -> None:
    with pytest.raises(DataError, match="found other runs than params.yaml lists"):
        arm_costs(planted().iloc[1:], params)
    edit("params.yaml", "arms", ["proxy", "early_stop"])
    with pytest.raises(DataError, match="found no placebo"):
        arm_costs(planted(), load_params())


def test_the_command_writes_table_and_plot(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    records.write_table(layout.CELL_SCORES, planted())
    cli.main(["arms", "--figure", "out/arms.png", "--csv", "out/arms.csv"])
    assert "| early_stop | +5 [" in capsys.readouterr().out
    assert Path("out/arms.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv("out/arms.csv")["hacking"].tolist() == pytest.approx([12.0, 5.0])


@pytest.mark.parametrize("protocol", ["paper", "controlled"])
def test_the_templates_of_dvc_have_a_mark_of_its_own_for_every_arm(protocol: str) -> None:
    arms = set(yaml.safe_load((CHECKOUT / f"protocols/{protocol}.yaml").read_text())["arms"])
    found = 0
    for template in (CHECKOUT / ".dvc/plots").glob("*.json"):
        text = template.read_text()
        for domain, marks in re.findall(r'"domain": \[("proxy", "placebo".*?)\],\s+"range": \[(.*)\]', text):
            names, marks = re.findall(r'"(\w+)"', domain), re.findall(r'\[.*?\]|"[\w-]+"', marks)
            assert set(names) == arms and len(marks) == len(set(marks)) == len(names), template.name
            assert all(f"'{name} ')" in text for name in names), "the legend lists those that ran"
            found += 1
    assert found == 18
