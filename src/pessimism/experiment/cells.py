"""Cells of the experiment's grid. The only place that spells their keys."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

_BY_PERCENTILE = re.compile(r"p(\d+)")
_BY_VALUE = re.compile(r"b(\d+\.\d+)")
_NAME = re.compile(r"(?![pb]\d+\Z)[a-z][a-z0-9_]*")  # p20 and b5 would read as a percentile and as a strength
_KEY = re.compile(r"([^-]+)-s\d+(-\w+)?")


@dataclass(frozen=True, order=True)
class DpoCell:
    """One offline training run.

    Attributes:
        label: names the strength of the offline objective; metrics/beta_grid.json says which it is. ``p20`` is the beta
            at the 20th percentile (Eq. 7), ``b0.05`` the value itself, any other label has no strength.
        seed: number of the run among those of its label.
    """

    label: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.label}-{seed_key(self.seed)}"


@dataclass(frozen=True, order=True)
class OnlineCell:
    """One online run: an offline checkpoint and the arm that adapts it."""

    label: str
    seed: int
    arm: str

    @property
    def key(self) -> str:
        return f"{self.dpo.key}-{self.arm}"

    @property
    def dpo(self) -> DpoCell:
        return DpoCell(self.label, self.seed)


@dataclass(frozen=True, order=True)
class RewardCell:
    """One reward model: a member of the ensemble of a seed."""

    seed: int
    member: int

    @property
    def key(self) -> str:
        return f"{seed_key(self.seed)}-m{self.member}"


@dataclass(frozen=True)
class StageOfCells:
    """All cells of one stage, whose common inputs are recorded once."""

    stage: str

    @property
    def key(self) -> str:
        return self.stage


Cell = DpoCell | OnlineCell | RewardCell | StageOfCells


def seed_key(seed: int) -> str:
    """What stands for a seed in names of files and in keys of metrics."""
    return f"s{seed}"


def percentile_label(beta_percentile: int) -> str:
    """Label of the cells whose beta lies at a percentile of the preference signal."""
    return f"p{beta_percentile}"


def is_offline_cell(label: str) -> bool:
    """Whether a text can name offline cells of its own: by a strength (``b0.05``), or as an objective without one."""
    return strength_in(label) is not None if _BY_VALUE.match(label) else _NAME.fullmatch(label) is not None


def is_cell_key(text: str) -> bool:
    """Whether a text is spelled as the key of an offline or online cell is, of any label, seed and arm."""
    found = _KEY.fullmatch(text)
    return found is not None and (percentile_in(found.group(1)) is not None or is_offline_cell(found.group(1)))


def strength_in(label: str) -> float | None:
    """The strength that a label spells, above 0; None where it spells none."""
    found = _BY_VALUE.fullmatch(label)
    return float(found.group(1)) or None if found else None


def percentile_in(label: str) -> int | None:
    """The percentile that a label names; None where it names none."""
    found = _BY_PERCENTILE.fullmatch(label)
    return int(found.group(1)) if found else None


def stream_name(label: str) -> int | str:
    """What tells a label's random streams apart: a percentile is its number."""
    percentile = percentile_in(label)
    return label if percentile is None else percentile


def parse_dpo_cell(description: str | None) -> DpoCell:
    """The cell that the command line of a stage names."""
    arguments = _checkpoint_parser(description).parse_args()
    return DpoCell(arguments.label, arguments.seed)


def parse_online_cell(description: str | None) -> OnlineCell:
    """The cell that the command line of a stage names."""
    parser = _checkpoint_parser(description)
    parser.add_argument("--arm", required=True)
    arguments = parser.parse_args()
    return OnlineCell(arguments.label, arguments.seed, arguments.arm)


def parse_reward_cell(description: str | None) -> RewardCell:
    """The cell that the command line of a stage names."""
    parser = _parser(description)
    parser.add_argument("--member", type=int, required=True)
    arguments = parser.parse_args()
    return RewardCell(arguments.seed, arguments.member)


def parse_stage_of_cells(description: str | None) -> StageOfCells:
    """The stage that the command line of record_inputs names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True)
    return StageOfCells(parser.parse_args().stage)


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    return parser


def _checkpoint_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser(description)
    parser.add_argument("--label", required=True)
    return parser
