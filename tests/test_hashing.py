"""Hashes of files and rows, and who may reach the hub."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pessimism.data import hashing
from pessimism.data.hashing import content_hash, rows_hash
from pessimism.errors import SourceError
from pessimism.experiment import layout
from support import import_closure
from support.repository import CHECKOUT


def test_content_hash_sees_names_and_bytes_but_not_caches(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("1")
    before = content_hash(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.txt").write_text("2")
    assert content_hash(tmp_path) == before
    (tmp_path / "sub" / "a.txt").rename(tmp_path / "sub" / "b.txt")
    renamed = content_hash(tmp_path)
    (tmp_path / "sub" / "b.txt").write_text("3")
    assert len({before, renamed, content_hash(tmp_path)}) == 3
    with pytest.raises(SourceError, match="found nothing at"):
        content_hash(tmp_path / "nowhere")


def test_rows_hash_sees_values_and_their_order_but_not_the_order_of_keys() -> None:
    rows = [{"a": "1", "b": "é"}, {"a": "2", "b": ""}]
    assert rows_hash(rows) == rows_hash([{"b": "é", "a": "1"}, rows[1]])
    assert len({rows_hash(rows), rows_hash(rows[::-1]), rows_hash(rows[:1]), rows_hash([])}) == 4


@pytest.mark.parametrize("stage", ["train_dpo", "train_reward_model", "adapt_online", "measure_base", "probe_policy"])
def test_model_stages_do_not_depend_on_how_rows_are_fetched(stage: str) -> None:
    """A new error message of a loader must not retrain a model."""
    files = {file.name for file in import_closure.closure(CHECKOUT / "stages" / f"{stage}.py")}
    assert files.isdisjoint({"sources.py", "gsm8k.py", "preferences.py", "embedded_world.py"})


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files read by ``content_hash``, where each of 4 bytes or more counts as large."""
    read: list[Path] = []
    digest = hashing.file_digest
    monkeypatch.setattr(hashing, "REMEMBERED_FROM_BYTES", 4)
    monkeypatch.setattr(hashing, "file_digest", lambda path: read.append(path) or digest(path))
    monkeypatch.chdir(tmp_path)
    return read


def settle(path: Path) -> None:
    """Wait out the time in which a change might not show."""
    while not hashing.is_settled(path.stat()):
        time.sleep(0.1)


def test_a_large_file_is_read_once_until_it_changes(
    tmp_path: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "SETTLED_AFTER_SECONDS", 0.2)
    weights = tmp_path / "model" / "weights"
    weights.parent.mkdir()
    weights.write_text("first")
    (tmp_path / "model" / "tiny").write_text("1")
    settle(weights)
    first = content_hash(weights.parent)
    assert content_hash(weights.parent) == first
    assert counted.count(weights) == 1 and counted.count(weights.with_name("tiny")) == 2

    status = weights.stat()
    weights.write_text("other")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    changed = content_hash(weights.parent)
    assert changed != first and counted.count(weights) == 2

    moved = weights.with_name("moved")
    moved.write_text("first")
    settle(moved)
    os.replace(moved, weights)
    assert content_hash(weights.parent) == first


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, counted: list[Path]) -> None:
    """Its next change may fall into the same step of the file system's clock."""
    weights = tmp_path / "weights"
    weights.write_text("first")
    assert content_hash(weights) == content_hash(weights)
    assert len(counted) == 2 and not layout.CONTENT_HASHES.exists()


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "is_settled", lambda _: True)
    weights = tmp_path / "weights"
    weights.write_text("first")
    digest = hashing.file_digest
    monkeypatch.setattr(hashing, "file_digest", lambda path: (digest(path), path.write_text("later"))[0])
    content_hash(weights)
    assert not layout.CONTENT_HASHES.exists()


def test_what_is_remembered_is_in_nobodys_git() -> None:
    assert f"/{layout.CONTENT_HASHES}" in (CHECKOUT / ".gitignore").read_text().splitlines()
