"""docs/measures.md says what is in `pessimism.measures`, and its example prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support import measures_page
from support.repository import CHECKOUT


def test_page_is_what_the_docstrings_say() -> None:
    assert measures_page.PAGE.read_text() == measures_page.page(), "docs/measures.md is not up to date: make measures"


def test_every_public_name_has_a_sentence() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", measures_page.page(), re.MULTILINE)
    assert len(rows) > 50
    assert not [name for name, summary in rows if not summary]


def test_the_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", measures_page.PAGE.read_text(), re.DOTALL)
    exec(example, {})
    said = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
    assert said and capsys.readouterr().out.splitlines() == said


def test_the_library_loads_no_model_library_and_leaves_the_environment_alone() -> None:
    code = (
        "import os, sys; before = dict(os.environ)\n"
        "from pessimism.measures import goodhart, contrasts, pooling\n"
        "assert not {'torch', 'transformers', 'trl', 'dvc'} & sys.modules.keys()\n"
        "assert dict(os.environ) == before, set(os.environ) ^ set(before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(CHECKOUT / "src")}
    )
    assert done.returncode == 0, done.stderr
