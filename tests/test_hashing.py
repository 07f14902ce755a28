"""Hashes of files and rows, and who may reach the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

import import_closure
from conftest import CHECKOUT
from pessimism.data.hashing import content_hash, rows_hash
from pessimism.errors import SourceError


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
    assert files.isdisjoint({"sources.py", "gsm8k.py", "preferences.py", "arithmetic.py"})
