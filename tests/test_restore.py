"""The way back from an experiment, and which switches are not those of the protocol that is named."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from pessimism import cli
from pessimism.checks import stage
from pessimism.commands import restore
from pessimism.experiment import layout, records, switches
from pessimism.experiment.params import load_params
from pessimism.reporting import tables
from support.endings import refused
from support.repository import CHECKOUT, Edit

PROTOCOL = "protocols/paper.yaml"


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def committed(project: Path) -> Path:
    """The project's parameters in a commit, with a time of change long before Git's own record of it."""
    git("init", "-q")
    git("config", "core.trustctime", "false")  # the test cannot set that time, an experiment within a second need not
    os.utime(PROTOCOL, (1_000_000_000, 1_000_000_000))
    git("add", "--all")
    git("commit", "-q", "-m", "design")
    return project


def change_unseen() -> str:
    """Set another value of the same length in the same second, as far as Git can tell; return the old content."""
    old = Path(PROTOCOL).read_text()
    Path(PROTOCOL).write_text(old.replace("kl_percentile: 50", "kl_percentile: 20"))
    os.utime(PROTOCOL, (1_000_000_000, 1_000_000_000))
    return old


def test_a_change_that_git_does_not_see_is_restored(committed: Path) -> None:
    old = change_unseen()
    assert git("status", "--porcelain") == ""
    git("restore", PROTOCOL)
    assert load_params().protocol.kl_percentile == 20, "Git has left the change where it was"
    said = restore.restore()
    assert Path(PROTOCOL).read_text() == old
    files = len(git("ls-files", "params.yaml", "scales", "protocols").splitlines())
    commit = git("rev-parse", "--short", "HEAD").strip()
    assert said.splitlines() == [
        f"restored {PROTOCOL}",
        f"{files} files of parameters and results have the content of commit {commit}",
    ]


def test_what_was_changed_staged_or_deleted_is_restored_and_what_git_lacks_stays(committed: Path, edit: Edit) -> None:
    before = load_params()
    edit("params.yaml", "seeds", [7])
    git("add", "params.yaml")
    Path("scales/tiny.yaml").unlink()
    Path("scales/mine.yaml").write_text("mine")
    assert restore.restore().count("restored ") == 2
    assert load_params() == before and Path("scales/mine.yaml").read_text() == "mine"
    assert git("status", "--porcelain").split() == ["??", "scales/mine.yaml"]


def test_a_file_that_git_does_not_restore_is_told(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_unseen()
    monkeypatch.setattr(os, "utime", lambda *_: None)
    with refused(f"error: found {PROTOCOL} still other than committed"):
        cli.main(["restore"])


def test_without_a_commit_there_is_no_way_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    with refused("error: `git ls-tree` failed .* expected a Git repository with a commit"):
        cli.main(["restore"])


def test_a_project_below_its_repository_is_restored_and_none_other(
    committed: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's own paths begin at the repository: read so, the outer project's files prove the inner one's."""
    copy = Path("inner")
    copy.mkdir()
    for name in ("params.yaml", "scales", "protocols"):
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, copy / name)
    git("add", "--all")
    git("commit", "-q", "-m", "inner")
    edit("params.yaml", "seeds", [7])
    edit("inner/params.yaml", "seeds", [8])
    monkeypatch.chdir(copy)
    assert restore.restore().splitlines()[:-1] == ["restored params.yaml"]
    assert git("status", "--porcelain").split() == ["M", "params.yaml"], "of the outer project"


def test_where_the_commit_holds_no_parameters_nothing_is_proved(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_unseen()
    monkeypatch.chdir("protocols")
    with refused(f"error: found no params.yaml of {Path.cwd()} in the last commit; expected the directory of a proj"):
        cli.main(["restore"])


# Switches


def test_each_name_stands_for_its_committed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change that is meant to last: python -m pessimism.experiment.switches."""
    monkeypatch.chdir(CHECKOUT)
    files = sorted(path.stem for path in layout.PROTOCOLS.glob("*.yaml"))
    assert records.read_json(switches.NAMED) == {name: asdict(load_params(protocol=name).protocol) for name in files}


def test_a_changed_switch_is_said_with_the_name(project: Path, edit: Edit) -> None:
    assert switches.protocol_sentence(load_params()) == "protocol paper"
    edit(PROTOCOL, "gap_baseline", "heldout")
    assert switches.protocol_sentence(load_params()) == "protocol paper, with gap_baseline: heldout"
    edit(PROTOCOL, "paired_seeds", False)
    edit(PROTOCOL, "arms.proxy.kappa", "fixed")
    edit(PROTOCOL, "arms.oracle.kappa", "fixed")  # an arm that does not run
    edit(PROTOCOL, "arms.mine", {"reward": "true", "kappa": "none", "learning_rate_factor": 1.0})
    edit("params.yaml", "arms", ["proxy", "mine"])
    expected = "protocol paper, with arms.proxy.kappa: fixed, gap_baseline: heldout, paired_seeds: false"
    assert switches.protocol_sentence(load_params()) == expected


def test_an_aggregation_that_an_arm_gains_or_loses_is_said(project: Path, edit: Edit) -> None:
    edit("params.yaml", "arms", ["proxy", "worst_case", "lower_bound"])
    edit(PROTOCOL, "arms.proxy.aggregation", {"kind": "uwo", "weight": 1.0})
    edit(PROTOCOL, "arms.worst_case.aggregation", None)
    edit(PROTOCOL, "arms.lower_bound.aggregation.weight", 2.0)
    found = {change.switch: change for change in switches.changes(load_params())}
    assert found.keys() == {f"arms.{name}.aggregation" for name in ("proxy", "worst_case", "lower_bound")}
    proxy, worst = found["arms.proxy.aggregation"], found["arms.worst_case.aggregation"]
    assert (str(proxy), proxy.named) == ('arms.proxy.aggregation: {"kind": "uwo", "weight": 1.0}', None)
    assert (str(worst), worst.named) == ("arms.worst_case.aggregation: null", {"kind": "min", "weight": None})
    assert found["arms.lower_bound.aggregation"].value["weight"] == 2.0


def test_a_protocol_of_ones_own_has_nothing_to_differ_from(project: Path, edit: Edit) -> None:
    (project / "protocols/mine.yaml").write_text((project / "protocols/controlled.yaml").read_text())
    edit("params.yaml", "protocol", "mine")
    assert switches.protocol_sentence(load_params()) == "protocol mine"


def test_the_record_of_a_run_says_which_switches_differ(project: Path, edit: Edit) -> None:
    edit(PROTOCOL, "gap_baseline", "heldout")
    stage.main("report")(lambda params: None)()
    record = records.read_json(layout.RUN_RECORDS / "report.json")
    assert (record["scale"], record["protocol"]) == ("tiny", "paper")
    assert record["changed_switches"] == {"gap_baseline": {"value": "heldout", "named": "first_batch"}}


def test_changed_rows_of_a_table_of_settings_are_marked() -> None:
    table = tables.settings_table({"a": 1, "arms": {"b": None}}, {"arms.b": "changed; paper: 2"})
    assert [(row[1].main, row[1].small, row[1].mark) for row in table.rows] == [
        ("1", "", ""),
        ("–", "changed; paper: 2", "warning"),
    ]
