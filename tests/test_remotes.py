"""Pushed, cloned, pulled: nothing is left to run. Through a directory and through a server of the S3 protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.project_copy import new_project
from support.remote_project import DVC, Project, add_directory_remote, add_s3_remote, commit, s3_server

STAGES = ["check_params", "prepare_data", "prepare_base", "sample_pairs", "measure_reference", "derive_beta_grid"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pipeline's first stages, outputs in the cache and in Git among them, run and committed."""
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    pipeline = yaml.safe_load((project.root / "dvc.yaml").read_text())
    pipeline = {"stages": {name: pipeline["stages"][name] for name in STAGES}}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    assert project.dvc("repro") == STAGES
    commit(project, "run")
    return project


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_clone_pulls_and_has_nothing_to_run(kind: str, finished: Project, endpoint: str, tmp_path: Path) -> None:
    shutil.copytree(finished.root.parent, tmp_path, symlinks=True, dirs_exist_ok=True)
    project = Project(tmp_path / "project")
    add_remote(project, kind, endpoint)
    commit(project, "remote")
    assert "pushed" in project.succeed(*DVC, "push", "--run-cache")
    assert "Everything is up to date" in project.succeed(*DVC, "push")

    clone = cloned(project, tmp_path / "clone")
    clone.succeed(*DVC, "pull")
    assert clone.dvc("repro") == []
    assert clone.succeed("git", "status", "--porcelain") == ""
    content = "data/reference/dpo_logps.parquet"
    assert (clone.root / content).read_bytes() == (project.root / content).read_bytes()

    # Without dvc.lock, results are found by what went into them. Outputs that Git keeps are not in the run cache.
    forgetful = cloned(project, tmp_path / "forgetful")
    (forgetful.root / "dvc.lock").unlink()
    assert forgetful.dvc("repro", "--pull") == ["derive_beta_grid"]
    assert forgetful.succeed("git", "status", "--porcelain") == ""


def add_remote(project: Project, kind: str, endpoint: str) -> None:
    add_s3_remote(project, endpoint) if kind == "s3" else add_directory_remote(project)


def cloned(project: Project, home: Path) -> Project:
    """A clone beside nothing of the original but its remote; addresses and credentials are given to it by hand."""
    home.mkdir()
    shutil.copy(project.root.parent / "gitconfig", home)
    project.succeed("git", "clone", "--quiet", str(project.root), str(home / "project"))
    settings = project.root / ".dvc/config.local"
    if settings.is_file():
        shutil.copy(settings, home / "project/.dvc")
    else:
        (home / "storage").symlink_to(project.root.parent / "storage")
    return Project(home / "project")
