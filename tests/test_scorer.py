"""One scorer: the pipeline's runs and a log of the same samples get the same numbers, p-values and corrected p."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pessimism import cli
from pessimism.claims.statements import CLAIMS
from pessimism.claims.trend_kinds import OverBeta
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.scoring.columns import ALL, CELL_COLUMNS, EXCESS_COLUMNS, LOG_COLUMNS
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER
from pessimism.scoring.runs import read_measurements
from support.repository import CHECKOUT
from support.synthetic_project import Invented, write_project

GROUPS = ["--arm", "arm", "--placebo", "placebo", "--beta", "beta", "--seed", "seed"]
SHARED = [
    column.name
    for column in [*CELL_COLUMNS, *EXCESS_COLUMNS]
    if column.name in {log.name for log in LOG_COLUMNS} or column.excess_of in {log.name for log in LOG_COLUMNS}
]

KINDS = {claim.name: claim.kind for claim in CLAIMS if isinstance(claim.kind, OverBeta)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project that is measured as a log is.

    The paper's measure is taken from the held-out problems, all seeds have one unit, and their betas are not paired.
    """
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(root, Invented(units_differ=False))
        protocol = layout.protocol_file("paper")
        text = protocol.read_text().replace("gap_rewards: batch ", "gap_rewards: heldout ")
        text = text.replace("paired_seeds: true ", "paired_seeds: false ")
        protocol.write_text(text.replace("gap_baseline: first_batch", "gap_baseline: heldout"))
        for stage in ("score_hacking", "fit_power_law", "trace_mechanism", "check_claims"):
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
    return root


def samples_of_the_pipeline() -> pd.DataFrame:
    """Every held-out sample of every run, with the KL of its evaluation."""
    measurements = read_measurements(load_params())
    tables = []
    for cell, run in measurements.runs.items():
        kl = run.rows("heldout")[["step", "kl_k3"]]
        identity = {"arm": cell.arm, "beta": measurements.betas[cell.label], "seed": cell.seed}
        tables.append(run.samples.merge(kl, on="step").assign(**identity))
    return pd.concat(tables)


def scored_log(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    cli.main(["score", str(path), *GROUPS, "--kl", "kl_k3", *options, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def log(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `pessimism score` says of the pipeline's samples, told the base's spread."""
    monkeypatch.chdir(project)
    samples_of_the_pipeline().to_parquet("log.parquet")
    unit = read_measurements(load_params()).base[0].unit
    spread = spread_options([unit.proxy_sd, unit.true_sd])
    return scored_log(Path("log.parquet"), capsys, "--prompt", "task_id", *spread)


def by_run(found: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    identities = [run["identity"] for run in found["runs"]]
    keys = [(float(identity["beta"]), int(identity["seed"]), identity["arm"]) for identity in identities]
    return dict(zip(keys, (run["scores"] for run in found["runs"]), strict=True))


def compare(found: dict[str, Any], cells: pd.DataFrame, names: list[str], rel: float) -> None:
    """Every number of every run, where the log's ``never`` is the table's infinity and its null the empty cell."""
    log = by_run(found)
    assert len(log) == len(cells)
    for row in cells.to_dict(orient="records"):
        (scored,) = [
            scored
            for (beta, seed, arm), scored in log.items()
            if (seed, arm) == (row["seed"], row["arm"]) and beta == pytest.approx(row["beta"])
        ]
        for name in names:
            value = np.inf if scored[name] == "never" else np.nan if scored[name] is None else scored[name]
            expected = np.nan if pd.isna(row[name]) else row[name]
            assert value == pytest.approx(expected, rel=rel, abs=rel, nan_ok=True), (row["seed"], row["arm"], name)


def test_a_log_of_the_pipelines_samples_gets_the_pipelines_numbers(project: Path, log: dict[str, Any]) -> None:
    cells = records.read_table(layout.CELL_SCORES)
    assert {"augc", "controlled_augc_excess", "controlled_onset_high", "true_regret", "overoptimization"} < set(SHARED)
    assert cells["controlled_onset_step"].notna().any() and cells["controlled_augc"].max() > 1
    compare(log, cells, SHARED, rel=1e-12)
    paper = records.read_json(layout.HACKING)["hacking_threshold"]
    controlled = load_params().protocol.controlled_threshold
    assert log["thresholds"] == pytest.approx({PAPER: paper, CONTROLLED: controlled}, rel=1e-12)
    end = (
        f"Areas over KL end at {records.read_json(layout.HACKING)['common_kl']:.3g} nats, which every learning run (9)"
    )
    assert any(note.startswith(end) for note in log["notes"])


def test_a_log_of_the_pipelines_samples_gets_the_pipelines_p_values(project: Path, log: dict[str, Any]) -> None:
    """But for rounding; corrected ones are never below: the pipeline's family has measurements for more claims."""
    claims = records.read_json(layout.CLAIMS)["claims"]
    rows = {(row["measure"], row["claim"]): row for row in log["trends"] if row["claim"]}
    assert set(rows) == {(measure, claim) for measure in MEASURES for claim in ("C1", "C7")}
    for (measure, claim), row in rows.items():
        found = claims[claim][measure]
        assert row["number"] == found["quantity"] == KINDS[claim].quantity(measure).name
        guarded = (row["p_guarded"], row["p_opposite_guarded"])
        assert guarded == pytest.approx((found["p"], found["p_opposite"]), rel=1e-12)
        assert row["guard"] == found["guard"] and row["p"] <= row["p_guarded"]
        assert row["p_adjusted"] >= found["p_adjusted"] and row["p_opposite_adjusted"] >= found["p_opposite_adjusted"]
        assert row["spearman"] == pytest.approx(found["spearman"])
    assert min(row["p"] for row in rows.values()) < 0.01


def test_claims_are_about_columns_and_state_their_units() -> None:
    for kind in KINDS.values():
        for quantity in (kind.quantity(measure) for measure in MEASURES):
            assert quantity.unit == ALL[quantity.name].unit, quantity.name


def test_in_the_unit_of_their_own_start_the_same_runs_have_other_numbers(
    project: Path, log: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By one factor per reward, so that the paper's measure does not change."""
    own = scored_log(Path("log.parquet"), capsys, "--prompt", "task_id")
    assert own["unit"] != log["unit"]
    for key, run in by_run(log).items():
        assert by_run(own)[key]["augc"] == run["augc"]
        ratio = own["unit"]["proxy_sd"] / log["unit"]["proxy_sd"]
        change = by_run(own)[key]["controlled_proxy_change"] * ratio
        assert change == pytest.approx(run["controlled_proxy_change"], abs=1e-12)


def test_a_seed_of_the_committed_run_scored_as_a_log_gives_the_committed_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the unit of its own ensemble, as docs/score.md says; areas over KL end where all seeds' runs have been."""
    base = records.read_json(CHECKOUT / layout.BASE_METRICS)
    shown = re.search(r"--proxy-sd ([\d.]+) --true-sd ([\d.]+)", (CHECKOUT / "docs/score.md").read_text())
    assert shown is not None
    sds = [base["proxy_reward_sd"], base["true_reward_sd"]]
    assert [float(sd) for sd in shown.groups()] == pytest.approx(sds, abs=1e-6)
    cells = pd.read_csv(CHECKOUT / layout.CELL_SCORES)
    names = [name for name in controlled_means() if not name.removesuffix("_excess").endswith("_over_kl")]
    for seed, runs in pd.read_csv(CHECKOUT / layout.HELDOUT_REWARDS).groupby("seed"):
        runs.to_csv(tmp_path / "log.csv", index=False)
        sds = [base["seeds"][f"s{seed}"]["proxy_reward_sd"], base["true_reward_sd"]]
        found = scored_log(tmp_path / "log.csv", capsys, *spread_options(sds))
        compare(found, cells[cells["seed"] == seed], names, rel=1e-6)


def test_a_run_scored_by_its_tables_gives_its_numbers(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    unit, cells = read_measurements(load_params()).base[0].unit, pd.read_csv(layout.CELL_SCORES)
    found = scored_log(layout.HELDOUT_REWARDS, capsys, *spread_options([unit.proxy_sd, unit.true_sd]))
    compare(found, cells, controlled_means(), rel=1e-6)
    compare_claims(project, found, CONTROLLED)
    found = scored_log(layout.GOODHART_GAP, capsys)
    shared = [name for name in SHARED if ALL[name].measure == PAPER]
    compare(found, cells, shared, rel=1e-9)
    compare_claims(project, found, PAPER)


def spread_options(sds: list[float]) -> list[str]:
    """The unit as it is told on the command line."""
    return ["--proxy-sd", repr(sds[0]), "--true-sd", repr(sds[1])]


def controlled_means() -> list[str]:
    """Columns of the controlled measure that means over prompts determine."""
    return [name for name in SHARED if ALL[name].measure == CONTROLLED and "prompts" not in ALL[name].needs]


def compare_claims(root: Path, found: dict[str, Any], measure: str) -> None:
    """P-values with their guards; corrected ones are never below, as other claims count with p = 1.

    Rewards of batches lack the guard of the paper's claims, which is of the held-out problems: they count with p = 1.
    """
    claims = records.read_json(root / layout.CLAIMS)["claims"]
    rows = [row for row in found["trends"] if row["claim"] and row["measure"] == measure]
    assert {row["claim"] for row in rows} == {"C1", "C7"}
    for row in rows:
        expected = claims[row["claim"]][measure]
        assert row["guard"] == expected["guard"] and row["spearman"] == pytest.approx(expected["spearman"])
        for name in ("p", "p_opposite"):
            guarded = expected[name] if measure == CONTROLLED else 1.0
            assert row[f"{name}_guarded"] == pytest.approx(guarded, rel=1e-12), (row["claim"], name)
            assert row[name] <= expected[name] * (1 + 1e-12), (row["claim"], name)
            assert row[f"{name}_adjusted"] >= expected[f"{name}_adjusted"] - 1e-12, (row["claim"], name)


NEW_ENTRY = """
from pessimism.scoring import run_columns
from pessimism.scoring.column import LOG, MORE, Column

run_columns.MEASURE_COLUMNS.append(
    Column(
        "controlled_widest_gap",
        "max of the controlled gap",
        unit="base sd",
        hacking=+1,
        heading="widest gap",
        note="Widest gap: its maximum.",
        shown={LOG: 14, MORE: 9},
        measure="controlled",
        compute=lambda found: found.gap_T.max(),
    )
)

from pathlib import Path
from pessimism.claims.log_trends import log_trends
from pessimism.commands.score import scored
from pessimism.experiment.params import load_params
from pessimism.reporting import measure_tables
from pessimism.reporting.curves import Arms
from pessimism.reporting.tables import over_seeds
from pessimism.scoring import columns, scores
from pessimism.scoring.log_scores import LogDesign, score_log
from pessimism.scoring.log_table import LogColumns
from pessimism.scoring.run_log import read_log
from pessimism.scoring.runs import read_measurements

cells = scores.cell_table(read_measurements(load_params()))
table = measure_tables.more_of_the_controlled_measure(cells, Arms(("proxy", "placebo"), "placebo"))
lowest = cells[(cells["beta"] == cells["beta"].min()) & (cells["arm"] == "proxy")]["controlled_widest_gap"]
assert table.headers[-1] == "widest gap" and table.rows[0][-1] == over_seeds(lowest)
assert measure_tables.notes(MORE).endswith("Widest gap: its maximum.")
document = columns.documented("<!-- columns: runs -->\\n<!-- end -->")
assert "| `controlled_widest_gap` | max of the controlled gap | base sd | more hacking |" in document
log = LogColumns(groups=("arm", "beta", "seed"))
design = LogDesign("beta", "seed", "arm", "placebo")
text = scored(score_log(read_log([Path("log.parquet")], log), design), log, design, as_json=False)
assert "  widest gap: max of the controlled gap [base sd; higher = more hacking]" in text
assert "proxy  controlled_widest_gap" in text
"""


def test_a_new_measure_is_one_entry(project: Path, log: dict[str, Any]) -> None:
    """It alone puts the measure into the table of cells, the report, docs/metrics.md and `pessimism score`."""
    done = subprocess.run([sys.executable, "-c", NEW_ENTRY], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
