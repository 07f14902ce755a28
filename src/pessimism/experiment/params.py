"""The experiment's parameters: params.yaml, one scale file, one protocol file, validated once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from pessimism.errors import ParamsError
from pessimism.experiment import extensions, layout
from pessimism.experiment.cells import DpoCell, OnlineCell, RewardCell, is_offline_cell, percentile_label, strength_in
from pessimism.experiment.protocol import Aggregation, Arm, Protocol, protocol_problems
from pessimism.experiment.scale import (
    AnnotatorParams,
    DpoParams,
    EmbeddedParams,
    LengthParams,
    ModelParams,
    PreferenceParams,
    Scale,
    TaskParams,
    TrainingParams,
    scale_problems,
)
from pessimism.experiment.schema import read_yaml

__all__ = [
    "Aggregation",
    "AnnotatorParams",
    "Arm",
    "DpoParams",
    "EmbeddedParams",
    "LengthParams",
    "ModelParams",
    "Params",
    "PreferenceParams",
    "Protocol",
    "Scale",
    "TaskParams",
    "TrainingParams",
    "load_params",
]

Ensembles = Literal["per_seed", "shared"]


@dataclass(frozen=True)
class OfflineDesign:
    """What the offline phase minimises: src/pessimism/offline/objectives/<objective>.py."""

    objective: str


@dataclass(frozen=True)
class OnlineDesign:
    """What the online phase optimises: src/pessimism/online/objectives/<objective>.py."""

    objective: str


@dataclass(frozen=True)
class Design:
    """The experiment whatever its size: what params.yaml says besides the names of the scale and the protocol."""

    launcher: str
    root_seed: int
    offline: OfflineDesign
    online: OnlineDesign
    beta_percentiles: tuple[int, ...]
    offline_cells: tuple[Annotated[str, "such as b0.05"], ...]
    seeds: tuple[int, ...]
    ensemble_members: tuple[int, ...]
    ensembles: Ensembles
    arms: tuple[str, ...]
    aggregation: Literal["mean", "min", "uwo"]

    @property
    def labels(self) -> list[str]:
        """Labels of the offline cells, percentiles first, in the order of params.yaml."""
        return [*map(percentile_label, self.beta_percentiles), *self.offline_cells]

    @property
    def primary_arm(self) -> str:
        """The arm that claims, probes and figures are about: the first listed."""
        return self.arms[0]

    def reward_cells(self) -> list[RewardCell]:
        """Every reward model of the design; the member varies fastest."""
        return [cell for seed in self.seeds for cell in self.ensemble(seed)]

    def ensemble(self, seed: int) -> list[RewardCell]:
        """The reward models of one seed."""
        return [RewardCell(seed, member) for member in self.ensemble_members]

    def dpo_cells(self) -> list[DpoCell]:
        """Every offline cell of the design; the seed varies fastest."""
        return [DpoCell(label, seed) for label in self.labels for seed in self.seeds]

    def online_cells(self) -> list[OnlineCell]:
        """Every online cell of the design; the arm varies fastest."""
        return [OnlineCell(cell.label, cell.seed, arm) for cell in self.dpo_cells() for arm in self.arms]


@dataclass(frozen=True)
class _File(Design):
    """params.yaml as written."""

    scale: str
    protocol: str


@dataclass(frozen=True)
class Params(Design):
    """The whole experiment. ``scale`` and ``protocol`` hold the files' contents, ``*_name`` their names."""

    scale_name: str
    protocol_name: str
    scale: Scale
    protocol: Protocol

    def arm(self, name: str) -> Arm:
        """What the protocol says of an arm."""
        return self.protocol.arms[name]

    @property
    def placebo(self) -> str | None:
        """The first listed arm that never learns, with which the others are compared; None without one."""
        return next((name for name in self.arms if self.arm(name).is_placebo), None)

    def uncoupled(self, name: str) -> str | None:
        """The listed arm that is this one but for its penalty, whose numerator is one for every beta.

        None where none is listed, and for an arm whose own penalty is not coupled to beta.
        """
        arm = self.arm(name)
        return next((other for other in self.arms if arm.is_coupled and self.arm(other) == arm.uncoupled), None)


def load_params(root: Path = Path(), scale: str | None = None, protocol: str | None = None) -> Params:
    """Read and validate params.yaml, its scale file and its protocol file under ``root``.

    Args:
        scale, protocol: name of another one than params.yaml has.

    Raises:
        ParamsError: one message that lists every problem of the three files.
    """
    problems: list[str] = []
    design = read_yaml(_File, root, layout.PARAMS, problems)
    if design is None:
        raise _error(problems)
    design = replace(design, scale=scale or design.scale, protocol=protocol or design.protocol)
    scale_file = _named_file(root, layout.scale_file(design.scale), "scale", problems)
    protocol_file = _named_file(root, layout.protocol_file(design.protocol), "protocol", problems)
    sizes = read_yaml(Scale, root, scale_file, problems) if scale_file else None
    measured = read_yaml(Protocol, root, protocol_file, problems) if protocol_file else None
    problems += [f"{layout.PARAMS}: {problem}" for problem in _design_problems(design)]
    problems += _code_problems(design, sizes, scale_file)
    if sizes and scale_file:
        problems += [f"{scale_file}: {problem}" for problem in scale_problems(sizes)]
    if measured and protocol_file:
        problems += [f"{protocol_file}: {problem}" for problem in protocol_problems(measured)]
        problems += [f"{layout.PARAMS}: {problem}" for problem in _arm_problems(design, measured, protocol_file)]
    if problems or sizes is None or measured is None:
        raise _error(problems)
    return Params(
        **{field.name: getattr(design, field.name) for field in fields(Design)},
        scale_name=design.scale,
        protocol_name=design.protocol,
        scale=sizes,
        protocol=measured,
    )


def _error(problems: list[str]) -> ParamsError:
    if len(problems) == 1:
        return ParamsError(problems[0])
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return ParamsError(f"{len(problems)} problem(s) in the parameters:\n{lines}")


def _named_file(root: Path, path: Path, key: str, problems: list[str]) -> Path | None:
    if (root / path).is_file():
        return path
    known = sorted(file.stem for file in (root / path.parent).glob("*.yaml"))
    problems.append(f"params.yaml: {key}: found {path.stem!r}; expected one of {known}")
    return None


def _code_problems(design: Design, sizes: Scale | None, scale_file: Path | None) -> list[str]:
    """Names of files of the package that are not there."""
    named = [
        ("pessimism.offline.objectives", design.offline.objective, f"{layout.PARAMS}: offline.objective"),
        ("pessimism.online.objectives", design.online.objective, f"{layout.PARAMS}: online.objective"),
    ]
    if sizes:
        named.append(("pessimism.tasks", sizes.tasks.kind, f"{scale_file}: tasks.kind"))
    problems = (extensions.name_problem(room, name, asked_by) for room, name, asked_by in named)
    return [problem for problem in problems if problem]


def _design_problems(design: Design) -> list[str]:
    problems = [
        f"{key}: found an empty list; expected at least one value"
        for key in ("seeds", "ensemble_members", "arms")
        if not getattr(design, key)
    ]
    if not design.labels:
        problems.append("beta_percentiles: found an empty list; expected at least one value, here or in offline_cells")
    for key in ("beta_percentiles", "offline_cells", "seeds", "ensemble_members", "arms"):
        values = getattr(design, key)
        if len(set(values)) < len(values):
            problems.append(f"{key}: found duplicates in {list(values)}; expected each value once")
    outside = [p for p in design.beta_percentiles if not 1 <= p <= 99]
    if outside:
        problems.append(f"beta_percentiles: found {outside}; expected integers in 1..99")
    problems += [
        f"offline_cells: found {label!r}; expected b and a strength above 0 with a decimal point, such as b0.05, or "
        "the name of an objective that has no strength, and is not p or b with digits only"
        for label in design.offline_cells
        if not is_offline_cell(label)
    ]
    strengths = [strength for label in dict.fromkeys(design.offline_cells) if (strength := strength_in(label))]
    if len(set(strengths)) < len(strengths):
        problems.append(f"offline_cells: found a strength twice in {list(design.offline_cells)}; expected each once")
    for key in ("seeds", "ensemble_members"):
        negative = [value for value in getattr(design, key) if value < 0]
        if negative:
            problems.append(f"{key}: found {negative}; expected integers of 0 or more")
    if len(design.ensemble_members) == 1:
        problems.append("ensemble_members: found 1 member; expected 2 or more, or it cannot disagree")
    if design.root_seed < 0:
        problems.append(f"root_seed: found {design.root_seed}; expected an integer of 0 or more")
    return problems


def _arm_problems(design: Design, protocol: Protocol, protocol_file: Path) -> list[str]:
    unknown = [arm for arm in design.arms if arm not in protocol.arms]
    if unknown:
        return [
            f"arms: found {unknown}; expected some of {list(protocol.arms)}, or a new entry in {protocol_file}: arms"
        ]
    if design.arms and protocol.arms[design.primary_arm].is_placebo:
        learning = [arm for arm in protocol.arms if not protocol.arms[arm].is_placebo]
        return [f"arms: found {design.primary_arm} first; expected one of {learning}, which claims are then about"]
    return []
