"""What DVC's cache holds is read before results are trusted: DVC itself restores damaged objects without a word."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pessimism import cli
from support.endings import refused
from support.repository import CHECKOUT

PIPELINE = """
stages:
  one: {cmd: "mkdir out && echo first > out/a && echo second > out/b", outs: [out]}
  two: {cmd: echo third > file, outs: [file]}
  three: {cmd: echo fourth > metric, outs: [metric: {cache: false}]}
"""


def dvc(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three stages that have run, as working directory; the cache below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    dvc("init", "--no-scm")
    dvc("config", "cache.type", "copy")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    dvc("repro")
    return tmp_path / ".dvc/cache/files/md5"


def damage(store: Path, content: bytes) -> Path:
    """Change four bytes of the object that holds ``content``, and neither its size nor its mode."""
    (path,) = [file for file in store.rglob("*") if file.is_file() and file.read_bytes() == content]
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(b"XXXX" + content[4:])
    path.chmod(mode)
    return path


def test_a_sound_cache(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", "--cache"])
    found = "4 objects in DVC's cache have the content that dvc.lock names\n"
    assert capsys.readouterr().out == found, "a directory, its two files, and a file"


def test_an_object_that_dvc_restores_damaged_is_found_and_made_again(run: Path) -> None:
    path = damage(run, b"second\n")
    Path("out/b").unlink()
    dvc("checkout")
    assert Path("out/b").read_text() == "XXXXnd\n", "DVC restores it without a word"
    message = rf"^error: 1 of 4 objects .*: out: found other bytes in {re.escape(str(path))}; expected bytes whose MD5"
    with refused(message):
        cli.main(["verify", "--cache"])
    path.unlink()
    with refused(rf"out: found no {re.escape(str(path))}; expected"):
        cli.main(["verify", "--cache"])
    dvc("repro")
    cli.main(["verify", "--cache"])
    assert Path("out/b").read_text() == "second\n"


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("[not JSON")])
def test_a_damaged_list_of_a_directory(run: Path, spoil: Callable[[Path], None]) -> None:
    (path,) = run.rglob("*.dir")
    path.chmod(0o644)
    spoil(path)
    with refused("^error: 1 of 2 objects in DVC's cache cannot be trusted: out: found"):
        cli.main(["verify", "--cache"])


def test_where_nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("^error: could not read dvc.yaml and dvc.lock as DVC does: "):
        cli.main(["verify", "--cache"])
    dvc("init", "--no-scm")
    with refused("^error: found no outputs in dvc.lock; expected those of a run"):
        cli.main(["verify", "--cache"])


def test_a_clone_has_no_cache(run: Path) -> None:
    shutil.rmtree(run)
    with refused("^error: found none of the 2 objects that dvc.lock names in DVC's cache, .*: make reproduce"):
        cli.main(["verify", "--cache"])


def test_the_cache_is_read_before_anything_is_restored_from_it() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "restore"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line.partition("/bin/")[2] for line in done.stdout.splitlines()]
    assert commands[-4:] == ["pessimism restore", "pessimism verify --cache", "dvc checkout", "pessimism prune"]
