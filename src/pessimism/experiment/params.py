"""The experiment's parameters: params.yaml, one scale file, one protocol file, validated once.

A value of None in a scale is derived by the paper's formula where it is used
(``pessimism.models.hyperparameters``); the file's own comments say what each key means.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pessimism.errors import ParamsError
from pessimism.experiment import layout
from pessimism.experiment.cells import DpoCell, OnlineCell, is_offline_cell, percentile_label, strength_in
from pessimism.experiment.schema import read_yaml

Source = Literal["embedded", "hub", "path"]
Aggregation = Literal["mean", "min", "uwo"]


@dataclass(frozen=True)
class ModelParams:
    source: Source
    name: str
    revision: str | None
    dtype: Literal["float32", "bfloat16", "mixed"]
    quantization: Literal["none", "nf4"]
    lora_targets: tuple[str, ...]
    lora_rank: int | None
    lora_dropout: float | None


@dataclass(frozen=True)
class EmbeddedParams:
    hidden_size: int
    intermediate_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class PreferenceParams:
    source: Source
    name: str
    revision: str | None
    split: str
    limit: int | None


@dataclass(frozen=True)
class TaskParams:
    kind: str
    source: Source
    name: str
    config: str
    revision: str | None
    train_limit: int | None
    test_limit: int | None
    heldout: int


@dataclass(frozen=True)
class LengthParams:
    prompt: int
    response: int
    sequence: int


@dataclass(frozen=True)
class TrainingParams:
    """Of a training on preference pairs."""

    epochs: int
    batch_size: int | None
    micro_batch_size: int | None
    learning_rate: float | None
    gradient_checkpointing: bool


@dataclass(frozen=True)
class DpoParams(TrainingParams):
    accumulation: int | None


@dataclass(frozen=True)
class OnlineParams:
    batch_size: int | None
    micro_batch_size: int | None
    steps: int | None
    learning_rate: float | None
    measure_every: int | None
    heldout_every: int
    gradient_checkpointing: bool


@dataclass(frozen=True)
class ProbeParams:
    prompts: int | None
    references: int | None
    responses: int


@dataclass(frozen=True)
class Scale:
    """How big: models, data, steps and batches of scales/<name>.yaml."""

    device: Literal["auto", "cuda"]
    gpu_memory_gb: float
    matmul_precision: Literal["highest", "high"]
    policy: ModelParams
    reward: ModelParams
    embedded: EmbeddedParams | None
    preferences: PreferenceParams
    tasks: TaskParams
    lengths: LengthParams
    evaluation_batch_size: int | None
    generation_batch_size: int | None
    dpo: DpoParams
    reward_training: TrainingParams
    online: OnlineParams
    probes: ProbeParams

    def model(self, role: str) -> ModelParams:
        """The model of ``role``: policy or reward."""
        return {"policy": self.policy, "reward": self.reward}[role]


@dataclass(frozen=True)
class Arm:
    """How an online run adapts its checkpoint.

    Attributes:
        reward: what it is trained on: the ensemble's reward, the true one, or noise.
        kappa: numerator of the penalty's coefficient (Eq. 10): the checkpoint's beta, ``kl_numerator``, or no penalty.
        learning_rate_factor: of the online learning rate; 0 makes a placebo, which is measured and never learns.
    """

    reward: Literal["ensemble", "true", "random"]
    kappa: Literal["coupled", "fixed", "none"]
    learning_rate_factor: float

    @property
    def is_placebo(self) -> bool:
        return self.learning_rate_factor == 0


@dataclass(frozen=True)
class Protocol:
    """How it is measured: every switch of protocols/<name>.yaml, and what each arm is."""

    arms: dict[str, Arm]
    kl_numerator: float
    kl_percentile: float
    kl_noise_floor: float
    prompt_split: Literal["train", "test"]
    gap_rewards: Literal["batch", "heldout"]
    gap_baseline: Literal["first_batch", "heldout"]
    paired_seeds: bool
    policy_dropout: bool
    reward_dropout: bool
    sampling: Literal["truncated", "full"]
    temperature: float
    top_p: float
    top_k: int | None
    grid_precision: Literal["bfloat16", "float32"]
    entropy_tokens: Literal["prompt", "response"]
    prompt_format: Literal["plain", "dpo"]
    enable_thinking: bool
    retokenize_responses: bool
    prompt_cut: Literal["right", "left"]
    score_eos: bool
    probe_layer: Literal["last", "penultimate"]
    probe_members: Literal["first", "all"]
    diversity_prompts: Literal["across", "within"]
    normalize_rewards: bool
    uwo_weight: float
    controlled_threshold: float


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
    offline_cells: tuple[str, ...]
    seeds: tuple[int, ...]
    ensemble_members: tuple[int, ...]
    arms: tuple[str, ...]
    aggregation: Aggregation

    @property
    def labels(self) -> list[str]:
        """Labels of the offline cells, percentiles first, in the order of params.yaml."""
        return [*map(percentile_label, self.beta_percentiles), *self.offline_cells]

    @property
    def primary_arm(self) -> str:
        """The arm that claims, probes and figures are about: the first listed."""
        return self.arms[0]

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


def load_params(root: Path = Path(), scale: str | None = None) -> Params:
    """Read and validate params.yaml, its scale file and its protocol file under ``root``.

    Args:
        scale: name of another scale than params.yaml has.

    Raises:
        ParamsError: one message that lists every problem of the three files.
    """
    problems: list[str] = []
    design = read_yaml(_File, root, layout.PARAMS, problems)
    if design is None:
        raise _error(problems)
    if scale is not None:
        design = replace(design, scale=scale)
    scale_file = _named_file(root, layout.scale_file(design.scale), "scale", problems)
    protocol_file = _named_file(root, layout.protocol_file(design.protocol), "protocol", problems)
    sizes = read_yaml(Scale, root, scale_file, problems) if scale_file else None
    protocol = read_yaml(Protocol, root, protocol_file, problems) if protocol_file else None
    problems += [f"{layout.PARAMS}: {problem}" for problem in _design_problems(design)]
    if sizes and scale_file:
        problems += [f"{scale_file}: {problem}" for problem in _scale_problems(sizes)]
    if protocol and protocol_file:
        problems += [f"{protocol_file}: {problem}" for problem in _protocol_problems(protocol)]
        problems += [f"{layout.PARAMS}: {problem}" for problem in _arm_problems(design, protocol, protocol_file)]
    if problems or sizes is None or protocol is None:
        raise _error(problems)
    return Params(
        **{field.name: getattr(design, field.name) for field in fields(Design)},
        scale_name=design.scale,
        protocol_name=design.protocol,
        scale=sizes,
        protocol=protocol,
    )


def _error(problems: list[str]) -> ParamsError:
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return ParamsError(f"{len(problems)} problem(s) in the parameters:\n{lines}")


def _named_file(root: Path, path: Path, key: str, problems: list[str]) -> Path | None:
    if (root / path).is_file():
        return path
    known = sorted(file.stem for file in (root / path.parent).glob("*.yaml"))
    problems.append(f"params.yaml: {key}: found {path.stem!r}; expected one of {known}")
    return None


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


_MAY_BE_ZERO = {"lora_dropout", "kl_noise_floor", "uwo_weight", "top_k", "learning_rate_factor"}


def _scale_problems(scale: Scale) -> list[str]:
    problems = [f"{name}: found {value}; expected a number above 0" for name, value in _non_positive(scale)]
    uses_embedded = "embedded" in (scale.policy.source, scale.reward.source)
    if uses_embedded and scale.embedded is None:
        problems.append("embedded: found null; expected the size of the embedded model that policy or reward uses")
    lengths = scale.lengths
    if lengths.sequence < lengths.prompt + lengths.response:
        problems.append(
            f"lengths.sequence: found {lengths.sequence}; expected lengths.prompt + lengths.response "
            f"({lengths.prompt + lengths.response}) or more, or reward models never see how a response ends"
        )
    problems += _count_problems(scale)
    for role in ("policy", "reward"):
        if not scale.model(role).lora_targets:
            problems.append(f"{role}.lora_targets: found an empty list; expected names of linear layers")
    return problems


def _count_problems(scale: Scale) -> list[str]:
    """Counts too small to have a spread, and a batch larger than what it is drawn from."""
    batch, limits = (
        scale.online.batch_size,
        {"train_limit": scale.tasks.train_limit, "test_limit": scale.tasks.test_limit},
    )
    counts = {
        "online.batch_size": batch,
        "tasks.heldout": scale.tasks.heldout,
        "probes.prompts": scale.probes.prompts,
        "probes.responses": scale.probes.responses,
    }
    problems = [
        f"{name}: found 1; expected 2 or more, or there is no spread to measure"
        for name, count in counts.items()
        if count == 1
    ]
    problems += [
        f"online.batch_size: found {batch}; expected at most tasks.{name} ({limit}), from which batches are drawn"
        for name, limit in limits.items()
        if batch is not None and limit is not None and batch > limit
    ]
    return problems


def _protocol_problems(protocol: Protocol) -> list[str]:
    problems = [f"{name}: found {value}; expected a number above 0" for name, value in _non_positive(protocol)]
    if not 0 < protocol.kl_percentile <= 100:
        problems.append(f"kl_percentile: found {protocol.kl_percentile}; expected a number in (0, 100]")
    if not 0 < protocol.top_p <= 1:
        problems.append(f"top_p: found {protocol.top_p}; expected a number in (0, 1]")
    return problems


def _non_positive(section: Any, prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for field in fields(section):
        value = getattr(section, field.name)
        if isinstance(value, dict):
            for name, item in value.items():
                found += _non_positive(item, f"{prefix}{field.name}.{name}.")
        elif is_dataclass(value):
            found += _non_positive(value, f"{prefix}{field.name}.")
        elif type(value) in (int, float) and (value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO)):
            found.append((f"{prefix}{field.name}", value))
    return found
