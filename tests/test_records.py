"""Records are atomic, sorted and finite; reading says what is missing."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pandas as pd
import pytest

from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, records


def test_json_is_sorted_and_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    record = {"b": 1.5, "a": {"d": None, "c": [1, 2.0]}}
    records.write_json(path, record)
    assert records.read_json(path) == record
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_not_finite_and_keeps_the_old_file(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "record.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(NonFiniteError, match=r"outer\.inner\[1\]"):
        records.write_json(path, {"outer": {"inner": [1.0, bad]}})
    assert records.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    records.write_json(path, {"a": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        records.write_json(path, {"a": 2})
    assert records.read_json(path) == {"a": 1}


def test_a_write_does_not_reach_through_a_hard_link(tmp_path: Path) -> None:
    """DVC links outputs to its cache; writing in place would change what the cache holds."""
    cached, output = tmp_path / "cached", tmp_path / "output.json"
    cached.write_text('{"a": 1}')
    output.hardlink_to(cached)
    records.write_json(output, {"a": 2})
    assert json.loads(cached.read_text()) == {"a": 1}


def test_read_json_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing; run `dvc repro`"):
        records.read_json(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list; expected a JSON object"):
        records.read_json(tmp_path / "list.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(DataError, match="is not JSON"):
        records.read_json(tmp_path / "cut.json")


def test_jsonl_keeps_the_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records.write_jsonl(path, [{"b": 2, "a": "é"}, {"a": 1}])
    assert path.read_text(encoding="utf-8") == '{"a": "é", "b": 2}\n{"a": 1}\n'


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_table_round_trips(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"step": [0, 1], "proxy_reward": [0.1, 1 / 3]})
    records.write_table(tmp_path / name, table)
    pd.testing.assert_frame_equal(records.read_table(tmp_path / name, ["step", "proxy_reward"]), table)


def test_table_without_rows_or_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(DataError, match="no rows to write"):
        records.write_table(path, pd.DataFrame({"step": []}))
    with pytest.raises(DataError, match="is missing"):
        records.read_table(path)
    path.write_text("step\n")
    with pytest.raises(DataError, match="found no rows"):
        records.read_table(path)
    path.write_text("step\n1\n")
    with pytest.raises(DataError, match=r"found columns \['step'\]; expected also \['beta'\]"):
        records.read_table(path, ["step", "beta"])


def test_run_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    with records.run_record("train_dpo", "p50-s0"):
        pass
    longest = time.perf_counter() - start
    record = records.read_json(layout.RUN_RECORDS / "train_dpo@p50-s0.json")
    assert record["stage"] == "train_dpo" and record["cell"] == "p50-s0"
    assert 0 <= record["seconds"] <= longest + 0.1 and record["peak_memory_mib"] > 1


def test_a_stage_that_fails_leaves_no_run_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError), records.run_record("train_dpo"):
        raise RuntimeError
    assert not layout.RUN_RECORDS.exists()
