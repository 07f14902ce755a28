"""Cells of the experiment's grid. The only place that spells their keys."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class DpoCell:
    """One offline training run: a beta percentile and a seed."""

    beta_percentile: int
    seed: int

    @property
    def key(self) -> str:
        return f"p{self.beta_percentile}-s{self.seed}"


@dataclass(frozen=True, order=True)
class OnlineCell:
    """One online run: a DPO checkpoint and the arm that adapts it."""

    beta_percentile: int
    seed: int
    arm: str

    @property
    def key(self) -> str:
        return f"{self.dpo.key}-{self.arm}"

    @property
    def dpo(self) -> DpoCell:
        return DpoCell(self.beta_percentile, self.seed)


def percentile_key(beta_percentile: int) -> str:
    """Key of a percentile in metrics/beta_grid.json; it has no dot, which DVC could not address."""
    return f"p{beta_percentile}"


def parse_dpo_cell(description: str | None) -> DpoCell:
    """The cell that the command line of a stage names."""
    arguments = _parser(description).parse_args()
    return DpoCell(arguments.beta_percentile, arguments.seed)


def parse_online_cell(description: str | None) -> OnlineCell:
    """The cell that the command line of a stage names."""
    parser = _parser(description)
    parser.add_argument("--arm", choices=["proxy", "placebo", "oracle"], required=True)
    arguments = parser.parse_args()
    return OnlineCell(arguments.beta_percentile, arguments.seed, arguments.arm)


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beta-percentile", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    return parser
