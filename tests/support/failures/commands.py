"""Options that cannot be met, models that cannot be used, and projects in another state than a command needs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from pessimism.experiment import layout, records
from support.failures.failure import Failure
from support.failures.parameters import DESIGN, SCALE
from support.yaml_edits import set_key


def _nothing(project: Path) -> None:
    """The committed parameters alone, without a repository or a run."""


def _launcher(what: str, launcher: str, said: str) -> Failure:
    return Failure(what, lambda project: set_key(project / DESIGN, "launcher", launcher), f"launcher: found {said}")


def _model(what: str, files: dict[str, str], said: str, **keys: Any) -> Failure:
    def make(project: Path) -> None:
        for key, value in {"source": "path", "name": "model", **keys}.items():
            set_key(project / SCALE, f"policy.{key}", value)
        (project / "model").mkdir()
        for name, text in files.items():
            (project / "model" / name).write_text(text)

    return Failure(what, make, f"scales/tiny.yaml: policy: {said}")


def _conflict(project: Path) -> None:
    (project / layout.LOCK).write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> other\n")


def _repository(project: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)


def _commit(project: Path) -> None:
    """A commit that holds nothing."""
    _repository(project)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "none"], cwd=project, check=True)


def _experiment(what: str, change: str, said: str) -> Failure:
    return Failure(what, _nothing, said, f"pessimism run -S '{change}'")


FAILURES = [
    _launcher("a launcher that is empty", "", "''; expected a command on the PATH, such as python"),
    _launcher("a launcher that is not there", "./run.sh", "'./run.sh'; expected a command on the PATH, such as python"),
    _launcher(
        "a launcher whose quote does not end", "python '", '"python \'" (No closing quotation); expected a command'
    ),
    _launcher("a launcher that fails", "python -m nosuch", "'python -m nosuch', which ended with status 1"),
    _launcher(
        "a launcher that starts nothing", "true", "'true', which started no script; expected a command that starts"
    ),
    _model("a model directory without a configuration", {}, "found no"),
    _model(
        "a model of no known architecture", {"config.json": '{"model_type": "resnet"}'}, "could not read the config"
    ),
    _model(
        "a configuration that is cut off", {"config.json": "{"}, "could not read the configuration or the tokenizer"
    ),
    Failure(
        "a scale that there is not", _nothing, "scale: found 'huge'; expected one of", "pessimism check --scale huge"
    ),
    Failure("a plan at a scale that there is not", _nothing, "scale: found 'huge'", "pessimism plan --scale huge"),
    Failure("a plan for no GPU", _nothing, "--gpus: found 0; expected a number above 0", "pessimism plan --gpus 0"),
    Failure(
        "figures of a run that is not finished",
        _nothing,
        "found no metrics/claims.json, plots/cells.csv, plots/heldout_rewards.csv; expected a finished run",
        "pessimism figures",
    ),
    Failure(
        "figures of a run that there is not",
        _repository,
        "no revision of Git named 'nowhere'; expected one commit",
        "pessimism figures nowhere",
    ),
    Failure("a price below 0", _nothing, "--price: found -1.0; expected a number above 0", "pessimism plan --price=-1"),
    Failure("an unknown GPU", _nothing, "--gpu: found 'abacus'; expected one of", "pessimism plan --gpu abacus"),
    Failure("an accuracy of 2", _nothing, "found accuracy 2; expected a chance", "pessimism replay --accuracy 2"),
    Failure("a batch of nothing", _nothing, "found batch 0", "pessimism replay --batch 0"),
    Failure("no draws", _nothing, "found 0 draws", "pessimism replay --draws 0"),
    Failure("a spread below 0", _nothing, "found proxy sd -1", "pessimism replay --proxy-sd=-1"),
    Failure("no steps between points", _nothing, "found last step 164 and interval 0", "pessimism replay --every 0"),
    Failure(
        "a candidate that is no strength",
        _nothing,
        "found the candidates ['p20']; expected labels that spell a strength, such as b0.05",
        "pessimism strengths ipo p20",
    ),
    Failure("an unknown switch", _nothing, "found no switch loudness; expected some of", "pessimism ablate loudness"),
    Failure("no results of arms yet", _nothing, "plots/cells.csv is missing; run `dvc repro`", "pessimism arms"),
    Failure(
        "a plot of arms that is no PNG", _nothing, "--figure: found a.pdf; expected", "pessimism arms --figure a.pdf"
    ),
    Failure("no report yet", _nothing, "is missing; run `dvc repro` to make it", "pessimism summary"),
    Failure(
        "verdicts of an older version",
        lambda _: records.write_json(layout.CLAIMS, {"claims": {"C1": {}}}),
        "found no C1.paper.role, as in a file of an older version",
        "pessimism summary",
    ),
    Failure("no repository", _nothing, "`git ls-tree` failed (fatal: not a git repository", "pessimism restore"),
    Failure(
        "a repository without a commit", _repository, "expected a Git repository with a commit", "pessimism restore"
    ),
    Failure(
        "a repository whose commit holds no parameters",
        _commit,
        "found no params.yaml of",
        "pessimism restore",
    ),
    Failure(
        "an unknown revision",
        _repository,
        "in Git revision 'v9'; expected a committed one",
        "pessimism verify --revision v9",
    ),
    Failure(
        "an option of Git in place of a revision",
        _repository,
        "in Git revision '--output=stolen'; expected a committed one",
        "pessimism verify --revision=--output=stolen",
    ),
    Failure(
        "no project of DVC", _nothing, "could not read dvc.yaml and dvc.lock as DVC does", "pessimism verify --cache"
    ),
    Failure(
        "jobs that have no time to end in",
        _nothing,
        "--hours: found 0.02; expected 0.1 or more",
        "pessimism fanout train_dpo --hours 0.02",
    ),
    Failure("no job at a time", _nothing, "--jobs: found 0; expected 1 or more", "pessimism fanout train_dpo --jobs 0"),
    Failure(
        "fewer GPUs than none", _nothing, "--gpus: found -1; expected 0 or more", "pessimism fanout train_dpo --gpus=-1"
    ),
    Failure(
        "a setting without a value",
        _nothing,
        "--set partition: found no value; expected KEY=VALUE",
        "pessimism fanout train_dpo --set partition",
    ),
    Failure(
        "a setting of SLURM that is ours",
        _nothing,
        "--set signal_delay_s: found a setting that cannot be given so",
        "pessimism fanout train_dpo --set signal_delay_s=5",
    ),
    Failure(
        "a stage that is no matrix",
        _nothing,
        "found no matrix stage report in dvc.yaml; expected some of",
        "pessimism fanout report",
    ),
    Failure(
        "a look at cells where none has run",
        _nothing,
        "found no rows of online cells in run_records",
        "pessimism watch",
    ),
    Failure(
        "a look at a cell that has not run",
        _nothing,
        "found no rows of 'p50-s0-proxy' in run_records, and nobody who runs it; expected an online cell",
        "pessimism watch p50-s0-proxy",
    ),
    Failure("no stage at a time", _nothing, "--jobs: found 0; expected 1 or more", "pessimism repro --jobs 0"),
    Failure("stages of no project of DVC", _nothing, "DVC: you are not inside of a DVC repository", "pessimism repro"),
    Failure(
        "a `dvc.lock` with the conflicts of a merge",
        _conflict,
        "dvc.lock: found text that is not YAML, as after a merge with conflicts; expected what DVC wrote",
        "pessimism repro",
    ),
    _experiment("an experiment with an unknown protocol", "protocol=controled", "found 'controled'; expected one of"),
    _experiment("one with an unknown scale", "scale=tiney", "params.yaml: scale: found 'tiney'; expected one of"),
    _experiment(
        "one with a value for a list", "beta_percentiles=20", "found 20; expected a list, each item an integer"
    ),
    _experiment("one with a name for a list", "arms=proxy", "arms: found 'proxy'; expected a list, each item a text"),
    _experiment("one with a list without brackets", "seeds=0,1", "found 2 combinations of values; expected brackets"),
    _experiment(
        "one with a list that does not end", "seeds=[0,1", "no viable alternative at input '[0,1'; expected KEY"
    ),
    _experiment("one with an unknown parameter", "sedes=[0]", "Could not override 'sedes'; expected KEY=VALUE, with a"),
    _experiment("one without a value", "seeds", "Error parsing override 'seeds'; expected KEY=VALUE, with a key of"),
    _experiment("one of a file that is not there", "protocols/papr.yaml:top_p=1", "found no such file of parameters"),
    _experiment("one that sets no parameter", "dvc.yaml:plots=1", "-S dvc.yaml: found no such file of parameters"),
]
