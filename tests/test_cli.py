"""The console script: what each command prints, what it refuses, and that refusals are short."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pessimism import cli, commands
from pessimism.checks import preflight
from pessimism.commands import ablate, prune, verify
from pessimism.data.hashing import content_hash
from pessimism.data.preferences import load_preferences
from pessimism.errors import DataError, ParamsError, SourceError, ending_on_errors
from pessimism.experiment import layout, pipeline, records
from pessimism.experiment.params import Params, load_params
from pessimism.tasks.parts.problems import load_problems
from support.endings import failure
from support.repository import CHECKOUT, Edit


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.main(arguments)
    return capsys.readouterr().out


def test_an_error_in_a_process_is_one_message_and_status_2(project: Path, edit: Edit) -> None:
    edit("params.yaml", "beta_percentiles", 50)
    command = [sys.executable, "-m", "pessimism.cli", "check"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(CHECKOUT / "src")})
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: beta_percentiles: found 50")
    assert "Traceback" not in done.stderr


def test_a_reader_that_closes_early_sees_no_traceback(project: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pessimism.cli", "dag"]
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(CHECKOUT / "src")}
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["score", "log.csv"], ["score", "none.csv"]])
def test_a_closed_pipe_is_quiet_whatever_the_command_does(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "log.csv").write_text("step,proxy_reward,true_reward\n0,1,0\n1,2,1\n")
    read, write = os.pipe()
    os.close(read)
    done = ended(tmp_path, arguments, stdout=write)
    os.close(write)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (done.returncode, done.stderr) == (1, "") or "found no such file" in done.stderr


def test_a_closed_output_is_refused(tmp_path: Path) -> None:
    done = ended(tmp_path, ["dag"], preexec_fn=lambda: os.close(1))
    assert done.returncode == 2
    assert done.stderr.startswith("error: found standard output closed; expected") and done.stderr.count("\n") == 1


def test_what_the_encoding_of_a_terminal_lacks_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,proxy_reward,true_reward\n0,1,0\n1,2,1\n")
    done = ended(tmp_path, ["score", "log.csv"], stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "[gap \\xd7 steps, \\u2265 0;" in done.stdout


def ended(folder: Path, arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, whose variables are those options in capitals."""
    names = [name for name in options if name.isupper()]
    env = {"PYTHONPATH": str(CHECKOUT / "src"), **{name: options.pop(name) for name in names}}
    command = [sys.executable, "-m", "pessimism.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True, **options)


def test_debug_shows_where_a_refusal_comes_from(project: Path, edit: Edit) -> None:
    edit("params.yaml", "beta_percentiles", 50)
    with pytest.raises(ParamsError, match="beta_percentiles: found 50"):
        cli.main(["--debug", "check"])


def test_only_errors_raised_on_purpose_lose_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        ending_on_errors(lambda: 1 / 0)


def test_every_module_that_can_be_run_is_a_command() -> None:
    """The table of the console script names them, so that `pessimism --help` imports none."""
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    modules = {name: importlib.import_module(f"pessimism.commands.{name}") for name in names}
    assert {name for name, module in modules.items() if hasattr(module, "run")} == {
        name.replace("-", "_") for name in cli.COMMANDS
    }


def test_a_command_imports_its_own_module_and_no_other() -> None:
    code = "import sys; from pessimism import cli; cli.main(['dag', '--format', 'mermaid']); print(*sys.modules)"
    environment = {"PYTHONPATH": str(CHECKOUT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert [name for name in loaded if name.startswith("pessimism.commands.")] == ["pessimism.commands.dag"]
    assert "pandas" not in loaded


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"pessimism {metadata.version('pessimism')}\n")


def test_no_command_needs_torch() -> None:
    code = "import sys, pessimism.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "src")}).returncode == 0


# check


def test_check_passes_the_committed_parameters(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = output(capsys, "check").splitlines()  # no hours: this scale needs no GPU
    assert "3 betas x 5 seeds x 3 arms" in line


def paper_scale(edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale that needs a GPU, as if everything that it names were in order."""
    monkeypatch.setattr(preflight, "check", lambda params: None)
    edit("params.yaml", "scale", "paper")


@pytest.mark.slow
def test_check_prints_the_hours_of_a_scale_that_needs_a_gpu(
    project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper_scale(edit, monkeypatch)
    assert re.search(r"\n.*planned on one .*: [\d.]+ h \(reward models \d", output(capsys, "check"))


def test_check_goes_on_where_the_hours_cannot_be_planned(
    project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper_scale(edit, monkeypatch)
    edit("scales/paper.yaml", "preferences.name", "someone/pairs")
    usable, plan = output(capsys, "check").splitlines()
    assert usable.startswith("parameters are usable: scale paper")
    assert plan.startswith("no plan of the hours, and a run goes on without one: scales/paper.yaml: ")
    assert "the number of rows of 'someone/pairs' is not known" in plan


PAIR = {
    "prompt": "What is 2 + 2?",
    "chosen": [{"role": "assistant", "content": "4"}],
    "rejected": [{"role": "assistant", "content": "5"}],
}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def use_path(edit: Edit, section: str, name: str) -> None:
    if section == "tasks":
        edit("scales/tiny.yaml", "tasks.kind", "gsm8k")
    edit("scales/tiny.yaml", f"{section}.source", "path")
    edit("scales/tiny.yaml", f"{section}.name", name)


def test_check_reads_local_pairs(project: Path, edit: Edit) -> None:
    use_path(edit, "preferences", "pairs.jsonl")
    write_rows(project / "pairs.jsonl", [{**PAIR, "prompt": f"What is {number} + 2?"} for number in range(30)])
    cli.main(["check"])


def test_check_reads_local_problems(project: Path, edit: Edit) -> None:
    rows = [{"question": f"{number} + 1?", "answer": f"#### {number + 1}"} for number in range(400)]
    use_path(edit, "tasks", "gsm8k")
    assert "gsm8k_train.jsonl" in failure("check")
    for split, part in (("train", rows[:300]), ("test", rows[300:])):
        write_rows(project / f"gsm8k/gsm8k_{split}.jsonl", part)
    cli.main(["check"])
    write_rows(project / "gsm8k/gsm8k_test.jsonl", rows[108:300])
    assert "tasks: found every test problem in another split too" in failure("check")
    write_rows(project / "gsm8k/gsm8k_test.jsonl", [*rows[300:306], {"question": "1 + 1?", "answer": "two"}])
    assert re.search(r"gsm8k_test.jsonl, row 7: found .*'two'; expected a number after ####", failure("check"))


@pytest.fixture
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a directory with a config.json pass for a model."""
    monkeypatch.setattr("pessimism.models.support.check_support", lambda *_: None)


def test_check_looks_at_local_models(project: Path, edit: Edit, any_model: None) -> None:
    use_path(edit, "policy", "model")
    assert "scales/tiny.yaml: policy: found no" in failure("check")
    write_rows(project / "model/config.json", [{"hidden_size": 8}])
    cli.main(["check"])


def refusal() -> str:
    """Message of the first stage, which must refuse; `pessimism check` says the same."""
    with pytest.raises(SourceError) as raised:
        preflight.check(load_params())
    assert failure("check") == f"error: {raised.value}"
    return str(raised.value)


def test_a_local_model_that_changed_is_refused_until_its_record_is_gone(
    project: Path, edit: Edit, any_model: None
) -> None:
    use_path(edit, "policy", "model")
    write_rows(project / "model/config.json", [{"hidden_size": 8}])
    identity = {"source": "path", "name": "model", "content_sha256": content_hash(project / "model")}
    records.write_json(layout.base_record("policy"), {**identity, "architecture": "Qwen3ForCausalLM"})
    preflight.check(load_params())
    write_rows(project / "model/config.json", [{"hidden_size": 16}])
    text = refusal()
    assert "scales/tiny.yaml: policy: found content" in text and f"expected {identity['content_sha256']}" in text
    assert "by `rm -rf models/base && dvc repro --force prepare_base` and then" in text
    shutil.rmtree(layout.BASE)
    preflight.check(load_params())


@pytest.mark.parametrize(
    "left_over",
    [
        {"source": "hub", "name": "model", "content_sha256": None, "architecture": "Qwen3ForCausalLM"},
        {"source": "path", "name": "other", "content_sha256": "0" * 64, "architecture": "Qwen3ForCausalLM"},
        {"source": "path", "name": "model", "content_sha256": "0" * 64},
    ],
    ids=["of a hub", "of another directory", "of a stage that failed"],
)
def test_a_record_left_over_is_not_compared(project: Path, edit: Edit, left_over: dict, any_model: None) -> None:
    use_path(edit, "policy", "model")
    write_rows(project / "model/config.json", [{"hidden_size": 8}])
    records.write_json(layout.base_record("policy"), left_over)
    preflight.check(load_params())


@pytest.mark.parametrize("section", ["preferences", "tasks"])
def test_local_rows_that_changed_are_refused_until_their_record_is_gone(
    project: Path, edit: Edit, section: str
) -> None:
    pairs = [{**PAIR, "prompt": f"What is {number} + 2?"} for number in range(30)]
    problems = [{"question": f"{number} + 1?", "answer": f"#### {number + 1}"} for number in range(400)]
    write_rows(project / "pairs.jsonl", pairs)
    for split, part in (("train", problems[:300]), ("test", problems[300:])):
        write_rows(project / f"gsm8k/gsm8k_{split}.jsonl", part)
    use_path(edit, "preferences", "pairs.jsonl")
    use_path(edit, "tasks", "gsm8k")
    scale = load_params().scale
    found = {
        "preferences": load_preferences(scale.preferences, 42).record,
        "tasks": load_problems(scale.tasks, 42).record,
    }
    records.write_json(layout.DATA_RECORD, found)
    preflight.check(load_params())
    changed = {"preferences": ("pairs.jsonl", pairs), "tasks": ("gsm8k/gsm8k_test.jsonl", problems[300:])}[section]
    write_rows(project / changed[0], changed[1][:-1])
    text = refusal()
    hashes = {"preferences": "sha256", "tasks": "sha256_test"}[section]
    assert f"scales/tiny.yaml: {section}: found rows in" in text and f"data/sources.json records ({hashes})" in text
    assert "by `rm -rf data/sources.json && dvc repro --force prepare_data` and then" in text
    records.write_json(layout.DATA_RECORD, found | {section: {"source": "embedded", "name": "arithmetic"}})
    preflight.check(load_params())
    layout.DATA_RECORD.unlink()
    preflight.check(load_params())


# dag


def test_dag_has_one_node_per_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "dag")
    boxes = re.findall(r"\| (\w+) \|", text)
    assert sorted(boxes) == sorted({stage.script for stage in pipeline.load_stages()} - {"record_inputs"})
    assert re.search(r"^train_dpo .* \[label, seed\]$", text, re.M)
    assert max(map(len, text.splitlines())) <= 132
    assert text.index("| check_params |") < text.index("| report |")


def test_dag_as_mermaid(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "dag", "--format", "mermaid").splitlines()
    assert lines[0] == "flowchart TD"
    assert '    train_dpo["train_dpo<br/>per label x seed"]' in lines
    assert "    train_dpo --> adapt_online" in lines
    assert "    train_dpo --> report" not in lines


def test_results_show_the_dag_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^```mermaid\n(.*?)^```", (CHECKOUT / "docs/results.md").read_text(), re.M | re.S)
    assert [output(capsys, "dag", "--format", "mermaid")] == shown


def test_reduction_keeps_the_order_and_nothing_more() -> None:
    full = {("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("a", "e")}
    assert pipeline.reduced(full) == {("a", "b"), ("b", "c"), ("c", "d"), ("a", "e")}


def test_edges_see_directories_templates_and_parameter_files(project: Path) -> None:
    pairs = pipeline.edges(pipeline.load_stages())
    assert ("train_reward_model", "assess_ensemble") in pairs, "a directory that holds the cells"
    assert ("adapt_online", "probe_policy") in pairs, "a cell of another matrix"
    assert ("derive_beta_grid", "train_dpo") in pairs, "a key of a file"
    assert ("report", "train_dpo") not in pairs


def test_names_in_the_lock_are_dvcs(project: Path) -> None:
    """DVC joins a cell's values in the order of the axes."""
    lists = {
        "beta_percentiles": [20, 80],
        "offline_cells": ["b0.05"],
        "seeds": [7],
        "arms": ["proxy"],
        "ensemble_members": [3],
    }
    names = pipeline.lock_names(pipeline.load_stages(), lists)
    assert {"check_params", "train_reward_model@7-3", "train_dpo@80-7", "adapt_online@20-7-proxy"} <= set(names)
    assert len(names) == len(set(names))


# ablate


@pytest.mark.parametrize("protocol", ["paper", "controlled"])
def test_a_switch_on_which_the_protocols_agree_is_turned_to_its_opposite(project: Path, protocol: str) -> None:
    turned = ablate.turned_values(protocol)
    assert turned["paired_seeds"] is False
    assert turned["retokenize_responses"] is (protocol == "controlled")
    assert {"top_k", "uwo_weight", "arms.proxy.reward"}.isdisjoint(turned)


def test_only_arms_that_both_protocols_train_are_compared(project: Path, edit: Edit) -> None:
    arm = {"reward": "ensemble", "kappa": "fixed", "learning_rate_factor": 0.5}
    shared = ablate.turned_values("paper")
    edit("protocols/paper.yaml", "arms.lr_half", arm)
    edit("protocols/paper.yaml", "arms.oracle.kappa", "none")
    edit("protocols/controlled.yaml", "arms.proxy.learning_rate_factor", 0.0)
    edit("params.yaml", "arms", ["oracle", "lr_half", "proxy"])
    turned = ablate.turned_values("paper")
    assert turned.keys() - shared.keys() == {"arms.oracle.kappa"}
    assert not [key for key in turned if key.startswith(("arms.lr_half", "arms.proxy"))]


# prune


def make_cells(params: Params) -> set[Path]:
    """Every matrix output and one run record per cell."""
    directories = [layout.reward_member(cell) for cell in params.reward_cells()]
    directories += [layout.dpo_adapter(cell) for cell in params.dpo_cells()]
    directories += [path(cell) for cell in params.online_cells() for path in (layout.online_adapter, layout.online_run)]
    files = [path / "content" for path in directories] + [layout.probe(cell) for cell in params.dpo_cells()]
    files += [layout.RUN_RECORDS / f"adapt_online@{cell.key}.json" for cell in params.online_cells()]
    files += [layout.RUN_RECORDS / f"train_reward_model@{cell.key}.json" for cell in params.reward_cells()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return set(files)


def make_lock(params: Params) -> list[str]:
    """A dvc.lock as DVC lays it out."""
    names = pipeline.lock_names(
        pipeline.load_stages(),
        {key: list(getattr(params, key)) for stage in pipeline.load_stages() for key in stage.axes.values()},
    )
    entry = (
        "    cmd: python stage.py\n    deps:\n    - path: data/a\n      hash: md5\n      md5: aa.dir\n      size: 3\n"
    )
    layout.LOCK.write_text("schema: '2.0'\nstages:\n" + "".join(f"  {name}:\n{entry}" for name in names))
    return names


def everything() -> set[Path]:
    return {path for folder in ("data", "models", "run_records") for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_percentiles", [20, 50]),
        ("seeds", [1]),
        ("arms", ["proxy"]),
        ("ensemble_members", [0, 2]),
        ("beta_percentiles", [5, 20]),
    ],
)
def test_prune_leaves_the_listed_cells_and_what_is_no_cell(project: Path, edit: Edit, key: str, value: list) -> None:
    before = load_params()
    make_cells(before)
    make_lock(before)
    foreign = {Path("data/online/notes.txt"), Path("models/dpo/README.md"), Path("data/preferences/train.parquet")}
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    edit("params.yaml", key, value)
    after = load_params()
    wanted_lock = set(pipeline.lock_names(pipeline.load_stages(), {**_axes(before), key: value})) & set(_lock())
    kept = _matching(everything() - foreign, after)

    removed = prune.prune()

    assert everything() == kept | foreign
    assert set(_lock()) == wanted_lock
    assert removed and all(not Path(name).exists() for name in removed)
    assert prune.prune() == []


def test_prune_tells_the_cells_of_labels_and_of_arms_by_their_whole_keys(project: Path, edit: Edit) -> None:
    arm = {"reward": "ensemble", "kappa": "fixed", "learning_rate_factor": 0.5}
    edit("protocols/paper.yaml", "arms.lr_half", arm)
    edit("protocols/paper.yaml", "arms.proxy2", arm)
    edit("params.yaml", "arms", ["proxy", "proxy2", "lr_half"])
    edit("params.yaml", "offline_cells", ["b0.05", "b0.1", "likelihood", "sft2"])
    before = make_cells(load_params())
    edit("params.yaml", "arms", ["proxy", "proxy2"])
    edit("params.yaml", "offline_cells", ["b0.05", "sft2"])
    gone = re.compile(r"b0\.1-|likelihood-|-lr_half")

    prune.prune()

    assert everything() == {path for path in before if not gone.search(str(path))}
    assert {"b0.05-s0-proxy2.json", "p20-s0-proxy.json"} <= {
        path.name.partition("@")[2] for path in layout.RUN_RECORDS.iterdir()
    }


def _axes(params: Params) -> dict[str, list]:
    keys = ("beta_percentiles", "offline_cells", "seeds", "arms", "ensemble_members")
    return {key: list(getattr(params, key)) for key in keys}


def _lock() -> dict[str, dict]:
    return yaml.safe_load(layout.LOCK.read_text())["stages"]


def _matching(files: set[Path], params: Params) -> set[Path]:
    """Files whose every part is spelled with listed values only; told without the package's own rules."""
    products = itertools.product(params.beta_percentiles, params.seeds)
    names = [f"p{percentile}-s{seed}" for percentile, seed in products]
    names += [f"{name}-{arm}" for name in names for arm in params.arms]
    members = list(itertools.product(params.seeds, params.ensemble_members))
    names += [name for seed, member in members for name in (f"s{seed}/member-{member}", f"s{seed}-m{member}")]
    known = {file: (*file.parent.parts[-2:], file.stem, file.stem.partition("@")[2]) for file in files}
    return {file for file, parts in known.items() if {"/".join(parts[:2]), *parts[1:]} & set(names)}


def test_prune_of_a_complete_run_removes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = make_cells(load_params())
    make_lock(load_params())
    text = layout.LOCK.read_text()
    assert output(capsys, "prune") == "nothing left over\n"
    assert everything() == files and layout.LOCK.read_text() == text


def test_prune_with_bad_parameters_removes_nothing(project: Path, edit: Edit) -> None:
    files = make_cells(load_params())
    edit("params.yaml", "beta_percentiles", [])
    with pytest.raises(ParamsError):
        prune.prune()
    assert everything() == files


def test_prune_keeps_the_bytes_of_other_lock_entries() -> None:
    text = (
        "schema: '2.0'\nstages:\n  a@1:\n    cmd: x\n  a@2:\n    cmd: y\n    outs:\n    - path: p\n  b:\n    cmd: z\n"
    )
    assert prune.without_entries(text, ["a@2"]) == text.replace("  a@2:\n    cmd: y\n    outs:\n    - path: p\n", "")
    assert yaml.safe_load(prune.without_entries(text, ["a@1", "a@2", "b"])) == {"schema": "2.0", "stages": None}


def test_prune_refuses_a_lock_that_it_cannot_tell_apart() -> None:
    with pytest.raises(DataError, match="by hand"):
        prune.without_entries("schema: '2.0'\nstages: {a@1: {cmd: x}, b: {cmd: y}}\n", ["a@1"])


# summary


def make_results() -> None:
    rows = [
        {
            "label": f"p{percentile}",
            "beta": percentile / 50,
            "arm": arm,
            "seed": seed,
            "augc": percentile + seed,
            "onset_step": 4 if seed == 0 and arm == "proxy" else None,
            "controlled_augc": 2 * (percentile + seed),
            "controlled_signed_augc_excess": 0.0 if arm == "placebo" else percentile / 10,
            "controlled_onset_step": 6 if seed < 2 and arm == "proxy" else None,
            "heldout_proxy_reward_change": 0.25,
            "heldout_true_reward_start": 0.75,
            "heldout_true_reward_change": -0.5,
        }
        for percentile, seed, arm in itertools.product([20, 50], [0, 1, 2], ["proxy", "placebo"])
    ]
    records.write_table(layout.CELL_SCORES, pd.DataFrame(rows))
    verdicts = {"C1": ("supported", "insufficient"), "C2": ("insufficient", "contradicted")}
    test = {"p": 0.01, "p_opposite": 0.99, "reason": "", "role": "secondary"}
    claims = {
        name: {"paper": {"verdict": paper, **test}, "controlled": {"verdict": controlled, **test}}
        for name, (paper, controlled) in verdicts.items()
    }
    contrast = {
        **{"contrast": "proxy", "estimate": -9.4, "interval": [-19.0, 0.3], "spread": 4.0, "reason": ""},
        **{"p_rises": 0.997, "p_falls": 0.003, "verdict": "falls with beta"},
        **{"seeds_needed": 4, "seeds_needed_for": "falls with beta"},
    }
    contrasts = {"unit": "base sd", **dict.fromkeys(("total", "offline", "coupling"), contrast)}
    records.write_json(layout.CLAIMS, {"claims": claims, "contrasts": contrasts})
    layout.REPORT_PAGE.parent.mkdir(parents=True)
    layout.REPORT_PAGE.write_text("<html></html>")


def test_summary(project: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    make_results()
    for key, seconds in (("p20-s0", 30.0), ("p50-s0", 90.0), ("p95-s0", 1000.0)):
        record = {"stage": "train_dpo", "cell": key, "seconds": seconds, "peak_memory_mib": 700.0}
        records.write_json(layout.RUN_RECORDS / f"train_dpo@{key}.json", record)
    edit("protocols/paper.yaml", "gap_baseline", "heldout")
    text = output(capsys, "summary")
    assert "\n\nMeasured: scale tiny, protocol paper, with gap_baseline: heldout\n\n" in text
    assert str(layout.REPORT_PAGE) in text and layout.REPORT_PAGE.absolute().as_uri() in text
    assert text.startswith("Does offline conservatism change hacking in this world?")
    answer, claims, *_ = text.split("\n\n")
    assert "\nThrough the checkpoint alone (proxy): falls with beta, -9.4 [-19, 0.3], p 0.003.\n" in answer
    assert answer.endswith("Beta works through both doors, the checkpoint and the penalty, the same way.")
    assert max(map(len, answer.splitlines())) <= 110
    assert claims.startswith("Every verdict is in this world: one base policy and one data set, which")
    paper, controlled = (line for line in text.splitlines() if line.startswith("By "))
    assert "paper's measure these runs support 1 of 2 claims (C1), contradict 0" in paper
    assert "controlled measure these runs support 0 of 2 claims, contradict 1 (C2)" in controlled
    rows = {tuple(line.split()[:3]): re.split(r"  +", line) for line in text.splitlines() if line}
    assert rows["0.4", "(p20)", "proxy"][2:] == [
        *("21 (20 to 22)", "4 (1 of 3)"),
        *("42 (40 to 44)", "+2", "6 (2 of 3)"),
        *("+0.250", "-0.500 from 0.750"),
    ]
    assert rows["1", "(p50)", "placebo"][2:] == [
        *("51 (50 to 52)", "none of 3"),
        *("102 (100 to 104)", "none of 3"),
        *("+0.250", "-0.500 from 0.750"),
    ]
    assert re.search(r"train_dpo +2 +120 s +700 MiB", text)
    assert "Total: 2.0 minutes" in text, "cells that are no longer listed do not count"


def test_summary_of_an_older_version_is_refused(project: Path) -> None:
    make_results()
    claims = records.read_json(layout.CLAIMS)
    del claims["claims"]["C2"]["controlled"]["role"]
    before = {"claims": records.read_json(layout.CLAIMS)["claims"]}
    for found, said in ((claims, "C2.controlled.role"), ({}, "claims"), (before, "contrasts")):
        records.write_json(layout.CLAIMS, found)
        message = failure("summary")
        assert f"metrics/claims.json: found no {said}, as in a file of an older version" in message
        assert message.endswith("expected the verdicts of this one: run `make reproduce`")


def test_summary_before_a_run(project: Path) -> None:
    assert "metrics/claims.json is missing; run `dvc repro`" in failure("summary")


# verify

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]


@pytest.fixture
def committed(project: Path) -> Path:
    """A repository whose last commit holds one value per metrics file."""
    for path in verify.EXACT_FILES:
        records.write_json(path, {})
    records.write_json(layout.BETA_GRID, {"p50": 1.0})
    make_cells(load_params())
    make_lock(load_params())
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*GIT, *arguments], check=True)
    return project


def test_verify_agrees_with_itself(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "verify")
    assert "beta_grid.json: p50" in text
    assert "1 metrics agree with HEAD" in text


def test_verify_exact_accepts_no_difference(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 metrics" in output(capsys, "verify", "--exact")
    records.write_json(layout.BETA_GRID, {"p50": 1.0 + 1e-12})
    cli.main(["verify"])
    assert "1 of 1 metrics differ" in failure("verify", "--exact")


def test_verify_exact_compares_verdicts_too(committed: Path) -> None:
    records.write_json(layout.CLAIMS, {"claims": {"C1": {"controlled": {"verdict": "supported"}}}})
    cli.main(["verify"])
    assert "claims.json: claims.C1.controlled.verdict" in failure("verify", "--exact")


def test_a_metric_that_is_only_shown_may_be_absent(committed: Path) -> None:
    records.write_json(layout.HACKING, {"augc": {"proxy": {"p50": 1e6}}})
    cli.main(["verify"])
    failure("verify", "--exact")


def test_verify_tells_what_differs(committed: Path) -> None:
    records.write_json(layout.BETA_GRID, {"p50": 3.0})
    text = failure("verify")
    assert "1 of 1 metrics differ from HEAD" in text
    assert re.search(r"beta_grid.json: p50 +3 +1 ", text)


def test_verify_tells_what_is_absent(committed: Path) -> None:
    records.write_json(layout.BETA_GRID, {"p80": 1.0})
    text = failure("verify")
    assert re.search(r"p50 +absent +1 ", text) and re.search(r"p80 +1 +absent ", text)


def test_verify_compares_runs_of_the_same_parameters_only(committed: Path, edit: Edit) -> None:
    edit("params.yaml", "beta_percentiles", [20, 50, 80])
    verify.verify("HEAD")  # reformatted by the edit, not changed
    edit("params.yaml", "seeds", [0, 1])
    assert "found params.yaml changed since HEAD; expected the committed parameters" in failure("verify")
    assert "found no params.yaml in Git revision 'v9'; expected a committed one" in failure(
        "verify", "--revision", "v9"
    )


def test_a_run_that_trained_nothing_online_is_not_verified(committed: Path, checkout: Path) -> None:
    found = records.read_json(checkout / layout.HACKING)
    records.write_json(layout.HACKING, found)
    subprocess.run([*GIT, "commit", "-qam", "x"], check=True)
    cli.main(["verify"])
    nothing = {name: dict.fromkeys(values, 0.0) for name, values in found.items() if name.endswith("_excess")}
    records.write_json(layout.HACKING, {**found, **nothing, "final_kl_k1": 0.0})
    assert "heldout_proxy_excess.p20" in failure("verify")


@pytest.mark.parametrize(
    ("key", "compared"),
    [
        ("heldout_true_excess.p20", True),
        ("heldout_proxy_excess.p80", True),
        ("true_sd_smoothed", True),
        ("augc.p20", False),
        ("controlled_signed_augc_excess.p20", False),
        ("spearman_beta_controlled_augc", False),
    ],
)
def test_what_the_gap_is_made_of_is_compared_and_the_gap_is_shown(key: str, compared: bool) -> None:
    assert math.isfinite(verify.tolerance(f"hacking.json: {key}").absolute) == compared


def test_verify_wants_a_run_of_its_own(committed: Path) -> None:
    shutil.rmtree(layout.ONLINE_RUNS)
    assert "found no data/online; expected the outputs of a run" in failure("verify")


def test_verify_refuses_the_metrics_of_another_design(committed: Path) -> None:
    lock = yaml.safe_load(layout.LOCK.read_text())
    del lock["stages"]["train_dpo@20-0"]
    layout.LOCK.write_text(yaml.safe_dump(lock))
    assert "0 stages in dvc.lock that params.yaml does not list and 1 missing" in failure("verify")


def test_tolerance_is_absolute_plus_relative() -> None:
    tolerance = verify.Tolerance("*", absolute=0.1, relative=0.5, reason="")
    assert tolerance.accepts(1.59, 1.0) and not tolerance.accepts(1.61, 1.0)
    assert tolerance.accepts(-0.09, 0.0) and not tolerance.accepts(-0.11, 0.0)
    assert tolerance.accepts(-1.59, -1.0)


def test_a_metric_without_a_tolerance_is_refused() -> None:
    with pytest.raises(DataError, match="found no tolerance"):
        verify.tolerance("new.json: score")


def test_every_committed_metric_has_a_tolerance(checkout: Path) -> None:
    present = [path for path in verify.FILES if (checkout / path).is_file()]
    if not present:
        pytest.skip("metrics/ is empty: run `dvc repro`")
    for path in present:
        for key, _ in verify.leaves(records.read_json(checkout / path)):
            verify.tolerance(f"{path.name}: {key}")
