"""The two measures."""

from __future__ import annotations

PAPER, CONTROLLED = "paper", "controlled"
MEASURES = (PAPER, CONTROLLED)
AUGC = {PAPER: "augc", CONTROLLED: "controlled_augc"}
"""The AUGC that is fitted over beta, by measure: never negative, as the power law is."""
