"""Adapters, heads and tables carry a hash of what they hold; whoever loads them compares it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pessimism.errors import DataError, SourceError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, RewardCell
from pessimism.experiment.params import Params
from pessimism.models.adapters import CONFIG_FILE, WEIGHTS_FILE, attach
from pessimism.models.loading import hash_once, load_policy_base
from pessimism.reward.ensemble import RewardEnsemble

CELL = OnlineCell("p20", 0, "proxy")
TABLE = pd.DataFrame({"name": ["a", None, "c"], "value": [0.1, np.nan, 1e-300], "count": [1, 2, 3]})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked a host for what should lie here")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def overwrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flip(content: bytes) -> bytes:
    """Other bytes near the end, where a file of weights has numbers, and no other size."""
    return content[:-8] + bytes(byte ^ 1 for byte in content[-8:-4]) + content[-4:]


# Adapters and heads


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (WEIGHTS_FILE, lambda content: content[:-100], "is no whole file of weights"),
        (WEIGHTS_FILE, lambda content: content[:5], "is no whole file of weights"),
        (WEIGHTS_FILE, lambda content: b"", "is no whole file of weights"),
        (WEIGHTS_FILE, flip, "found weights and adapter_config.json of content .*, the hash that they carry"),
        (CONFIG_FILE, lambda content: b"{garbage", "found weights and adapter_config.json of content"),
        (CONFIG_FILE, lambda content: b"{}", "found weights and adapter_config.json of content"),
        (CONFIG_FILE, lambda content: content.replace(b'"r": 4', b'"r": 8'), "found weights and adapter_config.json"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(
    trained_world: Params, no_network: None, file: str, change: Callable[[bytes], bytes], message: str
) -> None:
    for directory, load in (
        (Path("models/dpo/checkpoint"), lambda path: attach(load_policy_base(trained_world), {"policy": path}, None)),
        (layout.reward_member(RewardCell(0, 1)), lambda _: RewardEnsemble.load_raw(trained_world, 0)),
    ):
        load(directory)
        overwrite(directory / file, change)
        with pytest.raises(SourceError, match=message) as raised:
            load(directory)
        assert "\n" not in str(raised.value) and str(directory) in str(raised.value)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, CONFIG_FILE])
def test_a_missing_file_of_an_adapter_is_not_looked_for_on_a_hub(
    trained_world: Params, no_network: None, file: str
) -> None:
    (layout.reward_member(RewardCell(0, 1)) / file).unlink()
    with pytest.raises(SourceError, match=f"^found no {file} in models/reward/s0/member-1; expected an adapter"):
        RewardEnsemble.load_raw(trained_world, 0)


def test_an_adapter_without_a_hash_is_refused(trained_world: Params) -> None:
    from safetensors.torch import load_file, save_file

    path = layout.reward_member(RewardCell(0, 1)) / WEIGHTS_FILE
    save_file(load_file(path), path)
    with pytest.raises(SourceError, match="expected weights that carry their hash"):
        RewardEnsemble.load_raw(trained_world, 0)


def test_a_base_trained_here_is_compared_with_its_record(tiny_world: Params) -> None:
    load_policy_base(tiny_world)
    hash_once.cache_clear()
    overwrite(layout.BASE_WEIGHTS / "model.safetensors", flip)
    with pytest.raises(SourceError, match="scales/tiny.yaml: policy: found content .*, which prepare_base recorded"):
        load_policy_base(tiny_world)


# Tables


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_equal_tables_are_equal_files(project: Path, name: str) -> None:
    for folder in ("one", "two"):
        records.write_table(layout.DATA / folder / name, TABLE)
    one, two = (sorted((layout.DATA / folder).iterdir()) for folder in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    pd.testing.assert_frame_equal(records.read_table(layout.DATA / "one" / name), TABLE, check_dtype=False)


def test_the_hash_of_a_csv_is_one_that_others_can_check(project: Path) -> None:
    records.write_table(layout.DATA / "rows.csv", TABLE)
    subprocess.run(["sha256sum", "--check", "rows.csv.sha256"], cwd=layout.DATA, check=True, capture_output=True)
    records.write_table(layout.PLOTS / "rows.csv", TABLE)
    assert [path.name for path in layout.PLOTS.iterdir()] == ["rows.csv"], "Git holds it"


@pytest.mark.parametrize("engine", ["pandas", "pyarrow"])
def test_a_parquet_table_that_something_else_wrote_is_refused(project: Path, engine: str) -> None:
    """Pandas drops the hash, pyarrow takes the old one along."""
    import pyarrow.parquet

    path = layout.DATA / "rows.parquet"
    records.write_table(path, TABLE)
    if engine == "pandas":
        pd.read_parquet(path)[:-1].to_parquet(path, index=False)
    else:
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(path)[:-1], path)
    found = {"pandas": "expected it to carry its hash", "pyarrow": "expected .*, the hash that it carries"}[engine]
    with pytest.raises(DataError, match=f"^{path}: found content .{{12}}; {found}.*: restore it by `dvc checkout`"):
        records.read_table(path)


@pytest.mark.parametrize("change", [lambda content: content[:-20], lambda _: b"", lambda _: b"PAR1" * 9])
def test_a_parquet_file_that_is_none_is_refused_in_one_line(project: Path, change: Callable[[bytes], bytes]) -> None:
    path = layout.DATA / "rows.parquet"
    records.write_table(path, TABLE)
    overwrite(path, change)
    with pytest.raises(DataError, match=f"^{path} is no whole parquet table") as raised:
        records.read_table(path)
    assert "\n" not in str(raised.value)


def test_a_csv_of_data_that_was_edited_is_refused(project: Path) -> None:
    path = layout.DATA / "rows.csv"
    records.write_table(path, TABLE)
    overwrite(path, lambda content: content.replace(b"0.1", b"0.2"))
    with pytest.raises(DataError, match=f"^{path}: found content .*, the hash that it carries"):
        records.read_table(path)
    Path(f"{path}.sha256").unlink()
    with pytest.raises(DataError, match=f"^{path}: .*expected it to carry its hash, and it has none"):
        records.read_table(path)


@pytest.mark.parametrize("content", [b"", b'a,b\n1,2,3\n"', b"\xff\xfe\x00a"])
def test_a_csv_that_is_none_is_refused_in_one_line(project: Path, content: bytes) -> None:
    path = layout.PLOTS / "rows.csv"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path} is no CSV table") as raised:
        records.read_table(path)
    assert "\n" not in str(raised.value)


# The samples of an online run
