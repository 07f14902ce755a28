"""An experiment with parameters that nothing can use ends in the project's own words, by DVC and by `pessimism run`."""

from __future__ import annotations

import sys

import pytest

from support.project_copy import Project, new_project

DVC = (sys.executable, "-m", "dvc", "exp", "run")
RUN = (sys.executable, "-m", "pessimism.cli", "run")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project(tmp_path_factory.mktemp("new") / "project")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "protocol=controled",
            "error: params.yaml: protocol: found 'controled'; expected one of ['controlled', 'paper']",
        ),
        ("scale=tiney", "error: params.yaml: scale: found 'tiney'; expected one of ["),
        ("arms=[proxy,contrl]", "error: params.yaml: arms: found ['contrl']; expected some of ["),
    ],
)
def test_what_dvc_can_read_reaches_the_check_of_parameters(new: Project, change: str, said: str) -> None:
    done = new.run(*DVC, "--temp", "-S", change)
    assert done.returncode and said in done.stdout + done.stderr
    assert "Running stage 'check_params'" in done.stdout and done.stdout.count("Running stage") == 1


def test_what_is_refused_leaves_the_working_tree_as_it_was(new: Project) -> None:
    done = new.run(*RUN, "-S", "beta_percentiles=20")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: params.yaml: beta_percentiles: found 20; expected a list, each item an integer\n"
    assert new.succeed("git", "status", "--porcelain") == ""


def test_what_is_usable_goes_to_dvc(new: Project) -> None:
    new.succeed(
        *RUN, "--queue", "--name", "few", "-S", "beta_percentiles=[20]", "-S", "scales/micro.yaml:online.steps=2"
    )
    new.succeed(*RUN, "--queue", "--name", "world", "-S", "root_seed=1,2")
    queued = new.succeed(sys.executable, "-m", "dvc", "queue", "status")
    assert all(name in queued for name in ("few", "world-1", "world-2"))
    assert new.succeed("git", "status", "--porcelain") == ""


def test_what_dvc_refuses_ends_with_its_status(new: Project) -> None:
    done = new.run(*RUN, "--name", "no name?", "-S", "root_seed=1")
    assert done.returncode == 2
    assert "`dvc exp run` ended with status 255; expected 0: what it said stands above" in done.stderr
