"""Keys of cells and the paths built from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pessimism.experiment import layout
from pessimism.experiment.cells import (
    DpoCell,
    OnlineCell,
    RewardCell,
    is_cell_key,
    is_offline_cell,
    stream_name,
    strength_in,
)
from pessimism.experiment.params import load_params
from support.repository import CHECKOUT, python_files


def test_keys() -> None:
    cell = OnlineCell("p50", 0, "proxy")
    assert cell.key == "p50-s0-proxy"
    assert cell.dpo == DpoCell("p50", 0)
    assert cell.dpo.key == "p50-s0"


def test_a_label_may_spell_its_strength() -> None:
    assert strength_in("b0.05") == 0.05 and strength_in("p50") is None and strength_in("orpo") is None
    names = ["b0.05", "b12.0", "orpo", "bee", "sft2", "cpo_v2", "p2p", "b2_c"]
    others = ["b0.0", "b1", "b12", "p50", "p5", "", "b0.05x", "2sft", "_v2", "cpo-v2"]
    assert [label for label in names + others if is_offline_cell(label)] == names


def test_every_key_of_a_cell_is_told_from_other_names() -> None:
    labels = ("p20", "b0.05", "likelihood", "sft2")
    keys = [DpoCell(label, 10).key for label in labels]
    keys += [OnlineCell(label, 0, arm).key for label in labels for arm in ("proxy", "lr_half", "proxy2", "s1")]
    others = ["notes.txt", "README.md", "p20", "p20-s", "p20-s0-", "b0-s0", "P20-s0", "p20-s0-proxy.bak", "member-0"]
    assert [text for text in keys + others if is_cell_key(text)] == keys


def test_a_percentile_keeps_the_random_streams_of_its_number() -> None:
    assert [stream_name(label) for label in ("p20", "b0.05", "ppo")] == [20, "b0.05", "ppo"]


def test_every_cell_of_the_design_once(project: Path) -> None:
    params = load_params()
    assert len(params.reward_cells()) == len(set(params.reward_cells())) == 15
    assert len(params.dpo_cells()) == len(set(params.dpo_cells())) == 15
    assert len(params.online_cells()) == len(set(params.online_cells())) == 45
    assert [cell.key for cell in params.online_cells()[:3]] == ["p20-s0-proxy", "p20-s0-uncoupled", "p20-s0-placebo"]


def test_no_two_cells_share_a_path(project: Path) -> None:
    params = load_params()
    paths = [path(cell) for cell in params.dpo_cells() for path in (layout.dpo_adapter, layout.probe)]
    paths += [path(cell) for cell in params.online_cells() for path in (layout.online_adapter, layout.online_run)]
    paths += [layout.reward_member(cell) for cell in params.reward_cells()]
    assert len(paths) == len(set(paths))


def test_paths_of_a_cell() -> None:
    cell = OnlineCell("p50", 0, "proxy")
    assert layout.trajectory(cell) == Path("data/online/p50-s0-proxy/trajectory.csv")
    assert layout.dpo_adapter(cell.dpo) == Path("models/dpo/p50-s0")
    assert layout.probe(cell.dpo) == Path("data/probes/p50-s0.json")
    assert layout.reward_member(RewardCell(4, 2)) == Path("models/reward/s4/member-2")
    assert layout.heldout_samples(cell).parent == layout.rollouts(cell).parent == layout.online_run(cell)


@pytest.mark.parametrize("folder", ["src", "stages"])
def test_only_layout_spells_paths(folder: str) -> None:
    """A file name of data/, models/, metrics/ or plots/ spelled elsewhere would drift from the layout."""
    spelled = re.compile(r"""["'](data|models|metrics|plots)/[^"'\s]*["']""")
    offenders = [
        f"{path.relative_to(CHECKOUT)}: {match.group()}"
        for path in python_files(folder)
        if path.name != "layout.py"
        for match in spelled.finditer(path.read_text())
    ]
    assert offenders == []
