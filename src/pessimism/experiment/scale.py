"""How big: what a scale file holds, and which of its values fit together.

A value of None is derived by the paper's formula where it is used (``pessimism.models.hyperparameters``); the comments
of scales/tiny.yaml say what each key means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pessimism.experiment.ranges import range_problems

Source = Literal["embedded", "hub", "path"]
Family = Literal["qwen3", "gpt2"]
EMBEDDED_LAYERS: dict[Family, tuple[str, ...]] = {
    "qwen3": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "gpt2": ("c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"),
}
"""Linear layers of the model that ``pessimism.models.embedded`` makes, by its family."""
EMBEDDED_CONTEXT = 512
"""Tokens that it can read."""


FEWEST_PAIRS = 10
"""Problems whose pairs can be split 80/10/10."""


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
    family: Family = "qwen3"

    @property
    def matrix_weights(self) -> int:
        """Weights of its layers' matrices, or fewer: keys and values that heads share are left out."""
        width, inner = self.hidden_size, self.intermediate_size
        return self.layers * width * {"qwen3": 3 * inner + 2 * width, "gpt2": 2 * inner + 4 * width}[self.family]


@dataclass(frozen=True)
class AnnotatorParams:
    """Who labels pairs that are made here; the defaults are those of scales/tiny.yaml."""

    exploit: Literal["filler", "length", "format"] = "filler"
    correctness: float = 1.0
    bias: float = 0.5
    discoverability: float = 0.6


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
    shots: int = 0
    stop: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    warm_start: int | None = None
    pairs: int | None = None

    @property
    def set_aside(self) -> dict[str, int]:
        """Train problems that the online phase never poses, by what they are for; what null asks for is left out."""
        asked = {"warm_start": self.warm_start, "pairs": self.pairs}
        return {purpose: count for purpose, count in asked.items() if count is not None}


@dataclass(frozen=True)
class WarmStartParams:
    """Of a supervised training of the policy's base on solutions, before everything else."""

    epochs: int
    batch_size: int
    learning_rate: float


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
class BestOfNParams:
    draws: int
    prompts: int


@dataclass(frozen=True)
class Scale:
    """How big: models, data, steps and batches of scales/<name>.yaml.

    What has a default is younger than the runs in the history, whose files have no such key; here all have it.
    """

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
    best_of_n: BestOfNParams
    annotator: AnnotatorParams | None = AnnotatorParams()
    warm_start: WarmStartParams | None = None

    def model(self, role: str) -> ModelParams:
        """The model of ``role``: policy or reward."""
        return {"policy": self.policy, "reward": self.reward}[role]


def scale_problems(scale: Scale) -> list[str]:
    """What is wrong with the values of a scale file, one text each."""
    problems = range_problems(scale)
    uses_embedded = "embedded" in (scale.policy.source, scale.reward.source)
    if uses_embedded and scale.embedded is None:
        problems.append("embedded: found null; expected the size of the embedded model that policy or reward uses")
    if scale.annotator is None and (uses_embedded or scale.preferences.source == "embedded"):
        problems.append("annotator: found null; expected the annotator of the embedded base and pairs")
    if scale.embedded is not None:
        problems += _embedded_problems(scale.embedded)
    lengths = scale.lengths
    if lengths.prompt == 1:
        problems.append(
            "lengths.prompt: found 1; expected 2 or more, for Eq. 11 reads a prompt's tokens after its first"
        )
    if lengths.sequence < lengths.prompt + lengths.response:
        problems.append(
            f"lengths.sequence: found {lengths.sequence}; expected lengths.prompt + lengths.response "
            f"({lengths.prompt + lengths.response}) or more, or reward models never see how a response ends"
        )
    if uses_embedded and lengths.sequence > EMBEDDED_CONTEXT:
        problems.append(
            f"lengths.sequence: found {lengths.sequence}; expected at most {EMBEDDED_CONTEXT}, the tokens that the "
            "embedded model can read"
        )
    problems += _warm_start_problems(scale)
    if "" in scale.tasks.stop:
        problems.append("tasks.stop: found an empty text, which ends every response before it begins; expected others")
    return problems + _count_problems(scale) + _target_problems("policy", scale) + _target_problems("reward", scale)


def _warm_start_problems(scale: Scale) -> list[str]:
    """A warm start without problems or problems without one, and weights that its adapter cannot be merged into."""
    problems = []
    if (scale.warm_start is None) != (scale.tasks.warm_start is None):
        problems.append(
            f"tasks.warm_start: found {scale.tasks.warm_start} beside the section warm_start: {scale.warm_start}; "
            "expected both, or null for both"
        )
    if scale.warm_start is not None and scale.tasks.shots:
        problems.append(
            f"tasks.shots: found {scale.tasks.shots} and a warm start; expected 0, for its demonstrations have none"
        )
    if scale.annotator is None and scale.tasks.set_aside:
        problems.append(f"annotator: found null and {scale.tasks.set_aside} problems set aside; expected the annotator")
    problems += [
        f"warm_start: found one of a {role} quantised by {scale.model(role).quantization}; expected null, for weights "
        "of 4 bits would round most of it away"
        for role in _warm_started(scale)
        if scale.model(role).quantization != "none"
    ]
    return problems


def _warm_started(scale: Scale) -> list[str]:
    """Roles whose base begins from the warm start: the policy, and reward models of its source."""
    if scale.warm_start is None:
        return []
    policy, reward = ((model.source, model.name, model.revision) for model in (scale.policy, scale.reward))
    return ["policy", "reward"] if policy == reward else ["policy"]


def _target_problems(role: str, scale: Scale) -> list[str]:
    """Linear layers that adapters cannot be put on; those of other models, their own configuration tells."""
    model = scale.model(role)
    if not model.lora_targets:
        return [f"{role}.lora_targets: found an empty list; expected names of linear layers"]
    if model.source != "embedded" or scale.embedded is None:
        return []
    layers = EMBEDDED_LAYERS[scale.embedded.family]
    unknown = sorted(set(model.lora_targets) - set(layers))
    if not unknown:
        return []
    return [
        f"{role}.lora_targets: found {unknown}; expected some of {list(layers)}, the linear layers of embedded.family "
        f"({scale.embedded.family})"
    ]


def _embedded_problems(sizes: EmbeddedParams) -> list[str]:
    """Sizes of the embedded model that do not divide one another: heads share its width and their keys."""
    width, heads, shared = sizes.hidden_size, sizes.attention_heads, sizes.key_value_heads
    problems = []
    if heads > 0 and width % (2 * heads):
        problems.append(
            f"embedded.hidden_size: found {width}; expected a multiple of {2 * heads}, an even number for each of the "
            f"{heads} attention_heads"
        )
    if shared > 0 and heads % shared:
        problems.append(
            f"embedded.key_value_heads: found {shared}; expected a divisor of attention_heads ({heads}), which share "
            "keys and values"
        )
    if sizes.family == "gpt2" and shared != heads:
        problems.append(
            f"embedded.key_value_heads: found {shared}; expected attention_heads ({heads}), for no heads of a GPT-2 "
            "share keys and values"
        )
    return problems


def _count_problems(scale: Scale) -> list[str]:
    """Counts too small to have a spread or to be split, and more problems than there are."""
    counts = {
        "online.batch_size": scale.online.batch_size,
        "tasks.heldout": scale.tasks.heldout,
        "probes.prompts": scale.probes.prompts,
        "probes.responses": scale.probes.responses,
        "best_of_n.draws": scale.best_of_n.draws,
    }
    problems = [
        f"{name}: found 1; expected 2 or more, or there is no spread to measure"
        for name, count in counts.items()
        if count == 1
    ]
    if scale.tasks.pairs is not None and scale.tasks.pairs < FEWEST_PAIRS:
        problems.append(
            f"tasks.pairs: found {scale.tasks.pairs}; expected {FEWEST_PAIRS} or more, which three splits take, or null"
        )
    if scale.best_of_n.prompts > scale.tasks.heldout:
        problems.append(
            f"best_of_n.prompts: found {scale.best_of_n.prompts}; expected at most tasks.heldout "
            f"({scale.tasks.heldout}), the first of which they are"
        )
    return problems
