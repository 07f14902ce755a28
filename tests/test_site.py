"""The documentation site: every page stands in its contents, and no page asks another machine for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pessimism.experiment.yaml_files import parse_yaml
from support.repository import CHECKOUT

CONFIGURATION: dict[str, Any] = parse_yaml((CHECKOUT / "mkdocs.yml").read_text(), "mkdocs.yml")
ZENSICAL = Path(sys.executable).with_name("zensical")


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()


def pages(entries: Any) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
        return
    for entry in entries:
        for named in entry.values():
            yield from pages(named)


def test_the_contents_list_every_page_once() -> None:
    assert sorted(pages(CONFIGURATION["nav"])) == tracked("*.md")


@pytest.mark.skipif(not ZENSICAL.is_file(), reason="zensical is not installed: pip install 'pessimism[docs]'")
def test_the_site_is_built_without_a_warning_and_needs_no_other_machine(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "mkdocs.yml", tmp_path)
    for name in tracked("*.md", "CITATION.cff", "LICENSE", "docs", "plots/report"):
        copied = tmp_path / CONFIGURATION["docs_dir"] / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, copied)
    subprocess.run([ZENSICAL, "build", "--strict"], cwd=tmp_path, check=True)
    built = list((tmp_path / CONFIGURATION["site_dir"]).rglob("*.html"))
    assert len(built) == len(tracked("*.md")) + 2  # the report, and the page that stands for missing ones
    for page in built:
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>", page.read_text()
        )
        assert not loaded, page
