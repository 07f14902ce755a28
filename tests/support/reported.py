"""The last stages, run on an invented project."""

from __future__ import annotations

import html
import re
import runpy
import sys
from pathlib import Path

import pytest

from pessimism.experiment import layout
from pessimism.reporting import report
from support.repository import CHECKOUT
from support.synthetic_project import Invented, write_project

STAGES = ("score_hacking", "fit_power_law", "trace_mechanism", "check_claims", "report")


def run_stages(root: Path, invented: Invented, vector_figures: bool = False) -> str:
    """Make the invented project under ``root``, run the stages there, return the page.

    Args:
        vector_figures: whether figures are written as SVG and PDF too, which takes as long as all the rest.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not vector_figures:
            patch.setattr(report, "VECTOR_FORMATS", ())
        patch.chdir(root)
        write_project(root, invented)
        for stage in STAGES:
            patch.setattr(sys, "argv", [stage])
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
        return layout.REPORT_PAGE.read_text(encoding="utf-8")


def plain(page: str) -> str:
    """A page without the marks of its terms, entities resolved."""
    return html.unescape(re.sub(r"</?abbr[^>]*>", "", page))
