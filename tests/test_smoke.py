"""The real pipeline at the smallest size that still has every part, run by DVC in a temporary copy of the checkout."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pessimism.claims.statements import CLAIMS
from pessimism.claims.wording import DOORS
from pessimism.data import embedded_world
from pessimism.experiment import rng
from pessimism.experiment.records import write_jsonl
from support.project_copy import FAN_IN, SECRETS, Project, commit, leaks, new_project
from support.stage_code import STAGES, TABLE_STAGES, needs_trl, param_keys, touches_adapters

RUN = [name for name, stage in STAGES.items() if name == stage.script]
"""The stages of this design, which has no offline cells by label."""
CHECKPOINT_STAGES = ("train_dpo", "probe_policy", "select_best_of_n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the pipeline has been run once and committed. Tests that change it take a copy."""
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    ran = project.dvc("repro")
    assert len(ran) == len(set(ran)) == 30
    commit(project, "run")
    return project


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    shutil.copytree(finished.root.parent, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy" / "project")


def test_second_run_does_nothing(finished: Project) -> None:
    assert finished.dvc("repro") == []


def test_a_run_changes_no_file_of_git_but_results(finished: Project) -> None:
    changed = finished.succeed("git", "show", "--name-only", "--format=", "HEAD").split()
    assert all(name.startswith(("metrics/", "plots/")) or name == "dvc.lock" for name in changed)
    assert finished.succeed("git", "status", "--porcelain") == ""


def test_no_secret_of_the_environment_is_in_a_file_or_said(finished: Project) -> None:
    """Records, reports, metrics, DVC's cache and Git's plain files, but for the file that plants them."""
    said = finished.pessimism("check") + finished.pessimism("summary")
    assert not any(secret in said for secret in SECRETS.values())
    assert [name for name in leaks(finished.root.parent) if not name.endswith("support/project_copy.py")] == []


def test_a_run_leaves_the_rows_that_could_be_watched(finished: Project) -> None:
    """Those of the trajectory of every online cell; one that is frozen measures its evaluations first."""
    trajectories = sorted((finished.root / "data/online").glob("*/trajectory.csv"))
    assert len(trajectories) == 4
    for path in trajectories:
        lines = (finished.root / f"run_records/{path.parent.name}.jsonl").read_text().splitlines()
        rows = pd.DataFrame([json.loads(line) for line in lines]).sort_values("step", kind="stable", ignore_index=True)
        measured = pd.read_csv(path)
        pd.testing.assert_frame_equal(rows[measured.columns], measured)


def test_report_stands_alone(finished: Project) -> None:
    page = (finished.root / "plots/report/index.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "the page must open without a network or other files"


def test_summary_names_report_and_stages(finished: Project) -> None:
    text = finished.pessimism("summary")
    assert "plots/report/index.html" in text
    assert all(re.search(rf"^{stage} ", text, re.M) for stage in RUN)


def test_verify_agrees_with_the_commit(finished: Project) -> None:
    assert "agree with HEAD" in finished.pessimism("verify")


def test_metrics_are_few_and_readable(finished: Project) -> None:
    shown = json.loads(finished.succeed(sys.executable, "-m", "dvc", "metrics", "show", "--json"))
    files = {Path(name).name: file["data"] for name, file in shown[""]["data"].items()}
    assert set(files.pop("verdicts.json")) == {claim.name for claim in CLAIMS} | set(DOORS)
    assert files["power_law.json"].pop("fit") == "fewer than three distinct betas"
    numbers = [value for file in files.values() for value in leaves(file)]
    assert all(isinstance(value, (int, float)) for value in numbers)
    assert len(numbers) <= 40  # two betas and a seed; each further beta adds two, each further seed seven


def leaves(value: Any) -> list[Any]:
    return [leaf for child in value.values() for leaf in leaves(child)] if isinstance(value, dict) else [value]


def traces(project: Project, stage: str) -> list[dict[str, list[str]]]:
    """What tests/support/traced noted of every cell of the stage."""
    paths = [path for path in project.root.parent.glob("*.json") if path.stem.partition("@")[0] == stage]
    assert paths, f"{stage} left no trace"
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.parametrize("stage", RUN)
def test_every_parameter_a_stage_read_is_tracked(finished: Project, stage: str) -> None:
    """A value that is read and not listed under the stage's params could change without a rerun."""
    for read in traces(finished, stage):
        in_paths = {"arms"} if any("${arms[0]}" in path for path in STAGES[stage].reads) else set()
        design = {name.removesuffix("_name") for name in read["Params"]} - {"protocol"} - in_paths
        check_tracked(stage, "params.yaml", design)
        check_tracked(stage, "scales/${scale}.yaml", set(read["Scale"]))
        check_tracked(stage, "protocols/${protocol}.yaml", set(read["Protocol"]))


def check_tracked(stage: str, file: str, read: set[str]) -> None:
    """Of the table of arms, a cell reads the entry of its own arm, which it tracks."""
    keys = param_keys(stage, file)
    tracked = None if keys is None else {key.removesuffix(".${item.arm}") for key in keys}
    missing = {name for name in read if tracked is not None and not {name, name.partition(".")[0]} & tracked}
    assert not missing, f"{stage} reads {sorted(missing)} of {file}"


@pytest.mark.parametrize("stage", RUN)
def test_no_stage_waits_for_a_library_it_does_not_use(finished: Project, stage: str) -> None:
    for trace in traces(finished, stage):
        assert "trl" not in trace["libraries"] or needs_trl(stage)
        assert "peft" not in trace["libraries"] or touches_adapters(stage)
        assert not trace["libraries"] or stage not in TABLE_STAGES
        assert "bitsandbytes" not in trace["libraries"], "nothing is quantised here"


@pytest.mark.slow
def test_a_percentile_more_and_back(copy: Project) -> None:
    before = copy.results()
    ran = copy.dvc("exp", "run", "-S", "beta_percentiles=[20,90,95]")
    cells = ["adapt_online@95-0-proxy", "adapt_online@95-0-placebo", *(f"{stage}@95-0" for stage in CHECKPOINT_STAGES)]
    assert sorted(ran) == sorted(["check_params", "derive_beta_grid", *cells, *FAN_IN])
    assert mentions(copy, "95")

    copy.pessimism("restore")
    copy.succeed(sys.executable, "-m", "dvc", "checkout")
    copy.pessimism("prune")
    assert copy.dvc("repro") == []
    assert copy.results() == before
    assert copy.succeed("git", "status", "--porcelain") == ""
    assert not list(copy.root.glob("*/*/p95*"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [True, False], ids=["dvc exp run", "dvc repro"])
def test_a_percentile_less(copy: Project, experiment: bool) -> None:
    """Nothing that a person reads may hold a cell that is no longer listed."""
    if experiment:
        ran = copy.dvc("exp", "run", "-S", "beta_percentiles=[20]")
    else:
        copy.design(beta_percentiles=[20])
        ran = copy.dvc("repro")
    assert sorted(ran) == sorted(["check_params", "derive_beta_grid", *FAN_IN])
    assert not mentions(copy, "90")
    if not experiment:
        assert "removed models/dpo/p90-s0" in copy.pessimism("prune")
        copy.dvc("repro")
        assert not list(copy.root.glob("*/*/p90*")) and "@90-0" not in (copy.root / "dvc.lock").read_text()


def mentions(project: Project, percentile: str) -> list[str]:
    """Results that hold a beta percentile, as a key, a cell or a legend."""
    pattern = re.compile(rf"\bp{percentile}\b|^{percentile},|\b{percentile}(th|st|nd|rd)\b".encode(), re.M)
    return [name for name, content in project.results().items() if name[-4:] != ".png" and pattern.search(content)]


@pytest.mark.slow
def test_an_arm_more_runs_only_its_cells(copy: Project) -> None:
    copy.design(arms=["proxy", "placebo", "oracle"])
    cells = ["adapt_online@20-0-oracle", "adapt_online@90-0-oracle"]
    assert sorted(set(copy.dvc("repro")) - {"check_params", *FAN_IN}) == sorted(cells)


BLOCK = [
    *(f"train_reward_model@1-{member}" for member in (0, 1)),
    *(f"{stage}@{percentile}-1" for stage in CHECKPOINT_STAGES for percentile in (20, 90)),
    *(f"adapt_online@{percentile}-1-{arm}" for percentile in (20, 90) for arm in ("proxy", "placebo")),
]
"""Every cell of seed 1."""
OVER_SEEDS = ["assess_ensemble", "measure_base"]
"""Stages that run a model for all seeds."""


@pytest.mark.slow
def test_a_seed_more_runs_its_block_and_back_leaves_nothing(copy: Project) -> None:
    before = copy.results()
    copy.design(seeds=[0, 1])
    assert sorted(copy.dvc("repro")) == sorted(["check_params", *BLOCK, *OVER_SEEDS, *FAN_IN])
    members, first = (json.loads(results["metrics/reward_members.json"]) for results in (copy.results(), before))
    assert members["s0"] == first["s0"] and members["s1"]["0"] != members["s0"]["0"], "an ensemble of its own"
    assert copy.dvc("repro") == []

    copy.design(seeds=[0])
    assert {"removed models/reward/s1", "removed run_records/train_reward_model@s1-m0.json"} <= set(
        copy.pessimism("prune").splitlines()
    )
    assert set(copy.dvc("repro")) <= {"check_params", *OVER_SEEDS, *FAN_IN}  # those not in the run cache
    assert copy.results() == before
    assert copy.succeed("git", "diff", "--name-only", "HEAD", "--", "metrics", "plots", "dvc.lock") == ""
    assert not [path for folder in ("data", "models") for path in (copy.root / folder).rglob("*s1*")]


@pytest.mark.slow
def test_ablation_turns_one_switch_and_leaves_the_project_as_it_is(copy: Project) -> None:
    before = copy.results(), copy.succeed("git", "status", "--porcelain")
    table = copy.pessimism("ablate", "gap_baseline")
    assert re.search(r"^paper \(unchanged\) ", table, re.M) and re.search(r'^gap_baseline: "heldout" ', table, re.M)
    ran = re.findall(r"^Running stage '([^']+)'", table, re.M)
    assert sorted(ran) == sorted(["check_params", *FAN_IN])
    assert (copy.results(), copy.succeed("git", "status", "--porcelain")) == before
    assert "Running stage" not in copy.pessimism("ablate", "gap_baseline"), "an experiment was made twice"
    assert re.search(r"^switch +AUGC p20 +AUGC p90 +controlled p20 +controlled p90$", table, re.M)
    copy.design(beta_percentiles=[90])
    copy.dvc("repro")
    assert "Running stage" in copy.pessimism("ablate", "gap_baseline"), "an experiment on other parameters was shown"
    assert "found no switch beta" in copy.run(sys.executable, "-m", "pessimism.cli", "ablate", "beta").stderr


@pytest.mark.slow
def test_a_new_task_runs_no_model_and_a_changed_one_all_that_judges(copy: Project) -> None:
    """DVC knows neither from the scale file: the hash beside the problems tells it."""
    room = copy.root / "src/pessimism/tasks"
    shutil.copy(room / "arithmetic.py", room / "another.py")
    assert sorted(copy.dvc("repro")) == ["check_params", "prepare_data"]
    with (room / "arithmetic.py").open("a") as task:
        task.write("# judges as before\n")
    ran = {name.partition("@")[0] for name in copy.dvc("repro")}
    assert ran == {
        "check_params",
        "prepare_data",
        "sample_pairs",
        "measure_base",
        "adapt_online",
        *CHECKPOINT_STAGES[1:],
    }


PROBE = """
from pessimism.probes.parts.declaration import Probe, ProbeColumn


def words(responses):
    return {"response_words": sum(len(text.split()) for text in responses) / len(responses)}


RESPONSE_WORDS = Probe(
    reads=("responses",),
    compute=words,
    columns=(ProbeColumn("response_words", "mean words of a response", "words", "≥ 0", "longer", "words"),),
)
"""


@pytest.mark.slow
def test_a_new_probe_runs_on_every_checkpoint_and_reaches_table_and_page(copy: Project) -> None:
    (copy.root / "src/pessimism/probes/response_words.py").write_text(PROBE)
    assert {name.partition("@")[0] for name in copy.dvc("repro")} == {"probe_policy_inputs", "probe_policy", *FAN_IN}
    assert ",response_words,response_words_online," in (copy.root / "plots/cells.csv").read_text()
    assert "words: mean words of a response" in (copy.root / "plots/report/index.html").read_text()


@pytest.mark.slow
def test_bad_parameters_lose_nothing(copy: Project) -> None:
    before = copy.succeed("git", "status", "--porcelain", "--ignored"), copy.results()
    outputs = sorted(path for folder in ("data", "models") for path in (copy.root / folder).rglob("*"))
    for percentiles in ([20, 20], [], [20.5, 90], [0, 90]):
        copy.design(beta_percentiles=percentiles)
        done = copy.run(sys.executable, "-m", "dvc", "repro")
        assert done.returncode != 0
        assert "params.yaml: beta_percentiles: found" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    copy.succeed("git", "restore", "params.yaml")
    copy.dvc("repro")
    assert outputs == sorted(path for folder in ("data", "models") for path in (copy.root / folder).rglob("*"))
    assert before == (copy.succeed("git", "status", "--porcelain", "--ignored"), copy.results())


@pytest.mark.slow
def test_a_fresh_clone_repeats_every_byte(finished: Project, tmp_path: Path) -> None:
    shutil.copy(finished.root.parent / "gitconfig", tmp_path)
    clone = Project(tmp_path / "clone")
    finished.succeed("git", "clone", "-q", str(finished.root), str(clone.root))
    assert len(clone.dvc("repro", "--force")) == 30
    assert clone.succeed("git", "status", "--porcelain") == ""
    assert clone.results() == finished.results()


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--resident",)])
def test_cells_side_by_side_give_the_bytes_of_a_plain_run(
    finished: Project, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Where threads are free to choose, too: a stage takes one, whatever its environment says."""
    project = new_project(tmp_path / "project")
    project.succeed("env", "OMP_NUM_THREADS=2", sys.executable, "-m", "pessimism.cli", "repro", "--jobs", "2", *options)
    assert (project.root / "dvc.lock").read_bytes() == (finished.root / "dvc.lock").read_bytes()
    assert project.results() == finished.results()
    assert project.dvc("repro") == []


@pytest.mark.slow
def test_local_rows_that_change_are_accepted_as_the_refusal_says(tmp_path: Path) -> None:
    """The record of the old rows is an output, and DVC keeps it in its run cache: not every command gets rid of it."""
    project = new_project(tmp_path / "project")
    (tmp_path / "rows").mkdir()
    problems = embedded_world.task_rows(rng.generator(0, "smoke"), 200)
    for split, rows in (("train", problems[:140]), ("test", problems[140:])):
        write_jsonl(tmp_path / f"rows/gsm8k_{split}.jsonl", rows)
    scale = yaml.safe_load((project.root / "scales/micro.yaml").read_text())
    scale["tasks"] |= {"kind": "gsm8k", "source": "path", "name": str(tmp_path / "rows")}
    (project.root / "scales/micro.yaml").write_text(yaml.safe_dump(scale))
    assert project.dvc("repro", "prepare_data") == ["check_params", "prepare_data"]
    kept = (project.root / "data/tasks/train.parquet").read_bytes()

    write_jsonl(tmp_path / "rows/gsm8k_train.jsonl", problems[1:140])
    project.design(aggregation="min")  # DVC asks the first stage again
    refused = project.run(sys.executable, "-m", "dvc", "repro", "prepare_data")
    assert refused.returncode != 0
    assert (project.root / "data/tasks/train.parquet").read_bytes() == kept
    (command,) = re.findall(r"accept the new ones by `(.+?)`", refused.stderr)
    project.succeed("bash", "-c", command.replace("dvc ", f"{sys.executable} -m dvc "))
    assert (project.root / "data/tasks/train.parquet").read_bytes() != kept
    project.pessimism("check")
    assert project.dvc("repro", "prepare_data") == []
