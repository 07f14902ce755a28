"""CITATION.cff by its own tool, where that is installed (`pip install cffconvert`), and the hooks of pre-commit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.repository import CHECKOUT


def test_the_citation_is_valid_by_its_tool() -> None:
    cffconvert = pytest.importorskip("cffconvert")
    cffconvert.Citation((CHECKOUT / "CITATION.cff").read_text()).validate()


def test_hooks_run_the_pinned_tools_and_fetch_none() -> None:
    (repository,) = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    pinned = {line.partition("==")[0] for line in (CHECKOUT / "constraints.txt").read_text().splitlines()}
    for hook in repository["hooks"]:
        program = Path(hook["entry"].split()[0])
        assert hook["language"] == "system" and program.parent == Path(".venv/bin") and program.name in pinned
