"""A run's cache as one file: what is exported arrives in a clone, and what is damaged or of another run is refused."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pessimism import cli
from pessimism.experiment.params import load_params
from pessimism.runs import archive
from pessimism.runs.objects import locked_objects
from support.endings import refused
from support.project_copy import Project
from support.remote_project import prepared_project
from support.repository import Edit
from support.worlds import git
from test_cache import PIPELINE, damage, dvc

NAME = "run.zip"
Change = Callable[[dict[str, bytes]], None]


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project of three stages that have run, as working directory."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.parent / "site"))
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "test")
    git("init", "-q", "-b", "main")
    dvc("init")
    dvc("config", "cache.type", "copy")
    (project / "dvc.yaml").write_text(PIPELINE)
    dvc("repro")
    git("add", "-A")
    git("commit", "-q", "-m", "run")
    return project


@pytest.fixture
def clone(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone without a cache, as working directory, and the exported run beside it."""
    home = tmp_path_factory.mktemp("clone")
    cli.main(["export-run", str(home / NAME)])
    git("clone", "-q", str(run), str(home / "project"))
    monkeypatch.chdir(home / "project")
    return home / "project"


def stored(project: Path) -> dict[str, bytes]:
    store = project / ".dvc/cache/files/md5"
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def rewrite(file: Path, change: Change) -> None:
    """Another file of the members that ``change`` leaves."""
    with zipfile.ZipFile(file) as found:
        members = {name: found.read(name) for name in found.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, content)


def test_a_clone_without_a_remote_gets_the_run(clone: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(f"../{NAME}") as exported:
        assert sum(name.startswith(archive.OBJECTS) for name in exported.namelist()) == 4
    cli.main(["import-run", f"../{NAME}"])
    assert capsys.readouterr().out.startswith("4 objects put into DVC's cache, 0 were there already; `dvc checkout`")
    assert stored(clone) == stored(run)
    dvc("checkout")
    assert Path("out/b").read_text() == "second\n" and "up to date" in dvc("status") and "up to date" in dvc("repro")
    assert git("status", "--porcelain") == ""
    cli.main(["import-run", f"../{NAME}"])
    assert capsys.readouterr().out.startswith("0 objects put into DVC's cache, 4 were there already")


def test_equal_runs_give_equal_bytes(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    one, other = (tmp_path_factory.mktemp("out") / name for name in ("one.zip", "other.zip"))
    cli.main(["export-run", str(one)])
    cli.main(["export-run", str(other)])
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as found:
        manifest = json.loads(found.read(archive.MANIFEST))
        assert manifest["commit"] == git("rev-parse", "HEAD")
        held = {name for name in manifest["sha256"] if not name.startswith(archive.OBJECTS)}
        assert held == {"dvc.lock", "params.yaml", "scales/tiny.yaml", "protocols/paper.yaml"}


def test_nothing_is_exported_over_a_file_nor_of_a_run_that_nobody_can_check_out(run: Path, edit: Edit) -> None:
    Path("mine").write_text("mine")
    with refused("^error: found mine, which is there already; expected a new file"):
        cli.main(["export-run", "mine"])
    assert Path("mine").read_text() == "mine"
    edit("params.yaml", "root_seed", 7)
    with refused("^error: found params.yaml other than in the last commit; expected a committed run"):
        cli.main(["export-run", NAME])
    git("restore", "params.yaml")
    damage(run / ".dvc/cache/files/md5", b"third\n")
    with refused("^error: 1 of 4 objects in DVC's cache cannot be trusted"):
        cli.main(["export-run", NAME])
    assert not Path(NAME).exists()


def test_a_directory_that_is_not_there_is_named_and_nothing_half_written_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused("found no directory nowhere; expected one for run.zip: make it"):
        cli.main(["export-run", "nowhere/run.zip"])

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full_disk)
    with pytest.raises(OSError, match="No space left"):
        archive.write(run.parent / NAME, load_params(), locked_objects())
    assert not list(run.parent.glob(f"{NAME}*"))


def test_a_full_disk_is_no_damaged_file(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full_disk)
    with pytest.raises(OSError, match="No space left"):
        archive.read(clone.parent / NAME, locked_objects())
    assert stored(clone) == {}


def of_object(content: bytes) -> Callable[[dict[str, bytes]], str]:
    return lambda members: next(name for name, found in members.items() if found == content)


def other_bytes(members: dict[str, bytes]) -> None:
    members[of_object(b"second\n")(members)] = b"XXXXnd\n"


def other_bytes_and_hash(members: dict[str, bytes]) -> None:
    """As someone would who means it: the manifest says the new hash, the object's name does not."""
    name, content = of_object(b"second\n")(members), b"XXXXnd\n"
    members[name] = content
    rehash(members, name)


def rehash(members: dict[str, bytes], name: str) -> None:
    import hashlib

    manifest = json.loads(members[archive.MANIFEST])
    manifest["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
    members[archive.MANIFEST] = json.dumps(manifest).encode()


def without_an_object(members: dict[str, bytes]) -> None:
    name, manifest = of_object(b"second\n")(members), json.loads(members[archive.MANIFEST])
    del members[name], manifest["sha256"][name]
    members[archive.MANIFEST] = json.dumps(manifest).encode()


def one_more_member(members: dict[str, bytes]) -> None:
    members["../escaped"] = b"out of here"


def another_lock(members: dict[str, bytes]) -> None:
    members["dvc.lock"] += b"# changed\n"
    rehash(members, "dvc.lock")


def another_format(members: dict[str, bytes]) -> None:
    members[archive.MANIFEST] = members[archive.MANIFEST].replace(archive.FORMAT.encode(), b"something else")


def no_lock(members: dict[str, bytes]) -> None:
    manifest = json.loads(members[archive.MANIFEST])
    del members["dvc.lock"], manifest["sha256"]["dvc.lock"]
    members[archive.MANIFEST] = json.dumps(manifest).encode()


def hashes_that_are_a_number(members: dict[str, bytes]) -> None:
    members[archive.MANIFEST] = json.dumps(json.loads(members[archive.MANIFEST]) | {"sha256": 1}).encode()


def no_manifest(members: dict[str, bytes]) -> None:
    del members[archive.MANIFEST]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_bytes, "objects/[0-9a-f]{32}: found SHA-256 [0-9a-f]{12}; expected [0-9a-f]{12}"),
        (other_bytes_and_hash, "objects/[0-9a-f]{32}: found MD5 [0-9a-f]{32}; expected the object's name"),
        (without_an_object, "found 0 objects that dvc.lock does not name and 1 missing; expected those that it names"),
        (one_more_member, "found other members than its manifest.json lists"),
        (another_lock, "found the dvc.lock of commit [0-9a-f]{12}; expected the one here, of [0-9a-f]{12}: `git check"),
        (another_format, "found 'something else'; expected 'a finished run of pessimism, 1'"),
        (no_manifest, "found no manifest.json of ours"),
        (hashes_that_are_a_number, "found no manifest.json of ours"),
        (no_lock, "its manifest.json lacks dvc.lock or params.yaml; expected both"),
    ],
)
def test_what_is_damaged_or_of_another_run_changes_nothing(clone: Path, change: Change, said: str) -> None:
    rewrite(clone.parent / NAME, change)
    with refused(f"^error: ../{NAME}: {said}"):
        cli.main(["import-run", f"../{NAME}"])
    assert stored(clone) == {} and not (clone.parent / "escaped").exists()


def test_another_commit_is_named(clone: Path) -> None:
    lock = clone / "dvc.lock"
    lock.write_text(lock.read_text() + "# of another run\n")
    git("commit", "-q", "-a", "-m", "another")
    there, here = git("rev-parse", "HEAD~1")[:12], git("rev-parse", "HEAD")[:12]
    with refused(f"found the dvc.lock of commit {there}; expected the one here, of {here}: `git checkout {there}`"):
        cli.main(["import-run", f"../{NAME}"])


def test_a_file_that_is_cut_off(clone: Path) -> None:
    file = clone.parent / NAME
    file.write_bytes(file.read_bytes()[:-100])
    with refused(f"^error: ../{NAME}: .*; expected a whole file of `pessimism export-run`"):
        cli.main(["import-run", f"../{NAME}"])
    with refused("^error: found no file nothing.zip; expected one that `pessimism export-run` wrote"):
        cli.main(["import-run", "nothing.zip"])


def test_nothing_that_the_cache_holds_is_replaced(clone: Path) -> None:
    cli.main(["import-run", f"../{NAME}"])
    path = damage(clone / ".dvc/cache/files/md5", b"second\n")
    gone = clone / ".dvc/cache/files/md5" / damage_free(clone, b"third\n")
    gone.unlink()
    with refused(f"^error: found other bytes in {re.escape(str(path))}; expected those of its name, or nothing"):
        cli.main(["import-run", f"../{NAME}"])
    assert path.read_bytes() == b"XXXXnd\n" and not gone.exists()


def damage_free(project: Path, content: bytes) -> str:
    return next(name for name, found in stored(project).items() if found == content)


@pytest.mark.slow
def test_a_clone_of_the_pipeline_has_nothing_to_run(tmp_path: Path) -> None:
    """The first stages of the pipeline in a micro project, through a file, to a clone that has no remote."""
    project = prepared_project(tmp_path / "home", "derive_beta_grid")
    project.pessimism("export-run", str(tmp_path / NAME))
    clone = Project(tmp_path / "away/project")
    clone.root.parent.mkdir()
    shutil.copy(project.root.parent / "gitconfig", clone.root.parent)
    project.succeed("git", "clone", "--quiet", str(project.root), str(clone.root))
    assert not (clone.root / "data/reference").exists()
    clone.pessimism("import-run", str(tmp_path / NAME))
    clone.dvc("checkout", "--allow-missing")
    assert clone.dvc("repro", "derive_beta_grid") == []
    assert clone.succeed("git", "status", "--porcelain") == ""
