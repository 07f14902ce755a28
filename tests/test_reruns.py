"""docs/reruns.md says of every file and every parameter which stages a change reruns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import reruns
from support.reruns import MODELS, NOTHING, TABLES, part_of, sources


def test_the_page_is_what_the_code_says() -> None:
    """A module that gains an import may rerun more than it did, up to every model."""
    assert reruns.PAGE.read_text() == reruns.page(), (
        "docs/reruns.md is not what imports and dvc.yaml say; look at what has grown, and if it should: make reruns"
    )


@pytest.mark.parametrize(
    ("stages", "part"),
    [
        ((), NOTHING),
        (("report",), TABLES),
        (("check_params",), TABLES),  # models come behind it, but for nothing that it writes
        (("score_hacking", "report"), TABLES),
        (("derive_beta_grid",), MODELS),  # a beta that changes trains its cells anew
        (("prepare_data",), MODELS),
        (("adapt_online",), MODELS),
        (("report", "probe_policy"), MODELS),
    ],
)
def test_a_change_costs_what_its_stages_and_those_behind_them_cost(stages: tuple[str, ...], part: str) -> None:
    assert part_of(stages) == part


def test_every_file_stands_in_one_row() -> None:
    names = re.findall(r"`([^`]+)`", reruns.page().partition("## Parameters")[0])
    braced = [re.fullmatch(r"(.*){(.*)}\.py", name) for name in names]
    listed = [f"{match[1]}{stem}.py" for match in braced if match for stem in match[2].split(",")] + names
    for file in sources():
        assert listed.count(file) + listed.count(f"{Path(file).parent}/") == 1, file
