"""What each stage has in memory and which passes it makes, how often: the stages' loops, counted."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from pessimism import cells
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import DEFAULT
from pessimism.models.training import batch_parts
from pessimism.offline.dpo import DpoHyperparameters, dpo_hyperparameters
from pessimism.online.hyperparameters import OnlineHyperparameters, online_hyperparameters
from pessimism.online.update import POLICY, REFERENCE, Passes
from pessimism.params import Params
from pessimism.planning import bases
from pessimism.planning.architectures import Rows
from pessimism.planning.hardware import Assumptions
from pessimism.planning.kernels import Target
from pessimism.planning.passes import FEWEST_PROMPT_TOKENS, Pass, Tracer
from pessimism.planning.roles import Role, find_role
from pessimism.reward.bradley_terry import RewardHyperparameters, reward_hyperparameters
from pessimism.reward.ensemble import member_name

WEIGHTS = {"policy": "policy weights", "reward": "reward weights"}


@dataclass(frozen=True)
class Use:
    """How often a stage makes a pass.

    Attributes:
        calls: of the pass, in one cell; a fraction where a call is smaller than the one that was traced.
        fill: mean share of the traced positions.
        row_share: mean share of the traced rows, where a call with fewer takes as long.
    """

    traced: Pass
    calls: float
    fill: float = 1.0
    row_share: float = 1.0


@dataclass(frozen=True)
class StageWork:
    """One cell of a stage.

    Attributes:
        roles: models that it loads.
        resident: bytes in memory all the time, by component.
    """

    name: str
    roles: tuple[str, ...]
    resident: dict[str, int] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    hyperparameters: dict[str, Any] = field(default_factory=dict)


class Workload:
    """Every stage that runs a model, in the order of dvc.yaml, traced as ``target`` would run it."""

    def __init__(self, params: Params, rows: Rows, assumed: Assumptions, target: Target = "cuda") -> None:
        self.params, self.rows, self.assumed = params, rows, assumed
        self.tracer = Tracer(target, params.scale.lengths)

    def stages(self) -> list[StageWork]:
        """The work of one cell of each stage."""
        return [
            self.prepare_base(),
            self.measure_reference(),
            self.train_reward_model(),
            self.assess_ensemble(),
            self.measure_base(),
            self.train_dpo(),
            self.adapt_online(),
            self.probe_policy(),
        ]

    @cached_property
    def policy(self) -> Role:
        return find_role(self.params, "policy", self.rows.train_pairs)

    @cached_property
    def reward(self) -> Role:
        return find_role(self.params, "reward", self.rows.train_pairs)

    @cached_property
    def dpo(self) -> DpoHyperparameters:
        """Of the first cell; beta and the seed are another cell's own."""
        cell, role = cells.dpo_cells(self.params)[0], self.policy
        return dpo_hyperparameters(
            self.params, cell, 1.0, self.rows.train_pairs, role.parameters, role.adapter, role.trainable
        )

    @cached_property
    def reward_training(self) -> RewardHyperparameters:
        role, member = self.reward, self.params.ensemble_members[0]
        return reward_hyperparameters(
            self.params, member, self.rows.train_pairs, role.parameters, role.adapter, role.trainable
        )

    @cached_property
    def online(self) -> OnlineHyperparameters:
        role = self.policy
        return online_hyperparameters(
            self.params.scale, self.params.primary_arm, role.parameters, role.trainable, self.rows.test_tasks
        )

    def prepare_base(self) -> StageWork:
        larger = max(self.policy.weight_bytes, self.reward.weight_bytes)
        return StageWork("prepare_base", ("policy", "reward"), {"weights": larger})

    def measure_reference(self) -> StageWork:
        batch, model = self.policy.evaluation_batch, self._policy_base
        drawn = max(1, derive.beta_grid_pairs(self.rows.train_pairs))
        pairs = self.tracer.logps(model, batch, (torch.float32,), FEWEST_PROMPT_TOKENS)
        grid = self.tracer.logps(model, batch, (torch.float32, torch.bfloat16), 1)
        fill = self.assumed.sorted_fill
        return StageWork(
            "measure_reference",
            ("policy",),
            self._weights("policy"),
            (
                Use(pairs, 2 * (self.rows.train_pairs + self.rows.val_pairs) / batch, fill),
                Use(grid, 2 * drawn / batch, fill),
            ),
            {"evaluation_batch_size": batch, "beta_grid_pairs": drawn},
        )

    def train_reward_model(self) -> StageWork:
        chosen, training = self.reward_training, self.params.scale.reward_training
        together, _ = batch_parts(chosen.batch_size, 1, training.micro_batch_size, self.rows.train_pairs)
        model = bases.adapted(self._base("reward"), self.reward.adapter, [DEFAULT], DEFAULT)
        step = self.tracer.reward_step(model, together, training.gradient_checkpointing)
        calls = chosen.epochs * self.rows.train_pairs / together
        return StageWork(
            "train_reward_model",
            ("reward",),
            self._weights("reward") | self.reward.training_memory(),
            (Use(step, calls, self.assumed.shuffled_fill),),
            _shown(chosen, self.reward.adapter) | {"micro_batch_size": together},
        )

    def assess_ensemble(self) -> StageWork:
        batch, members = self.reward.evaluation_batch, self.params.ensemble_members
        calls = 2 * self.rows.val_pairs * len(members) / batch
        return StageWork(
            "assess_ensemble",
            ("reward",),
            self._ensemble_weights(),
            (Use(self._score, calls, self.assumed.sorted_fill),),
            {"evaluation_batch_size": batch},
        )

    def measure_base(self) -> StageWork:
        return StageWork(
            "measure_base",
            ("policy", "reward"),
            self._weights("policy") | self._ensemble_weights(),
            (*self._generation(False, [self.rows.heldout_tasks]), *self._scoring(self.rows.heldout_tasks)),
            {"heldout": self.rows.heldout_tasks, "generation_batch_size": self.policy.evaluation_batch},
        )

    def train_dpo(self) -> StageWork:
        chosen, training = self.dpo, self.params.scale.dpo
        batch = self.policy.evaluation_batch
        together, _ = batch_parts(
            chosen.batch_size, chosen.accumulation, training.micro_batch_size, self.rows.train_pairs
        )
        model = bases.adapted(self._base("policy"), self.policy.adapter, [DEFAULT], DEFAULT)
        validation = self.tracer.logps(model, batch, (torch.float32,), FEWEST_PROMPT_TOKENS)
        step = self.tracer.dpo_step(model, together, training.gradient_checkpointing)
        return StageWork(
            "train_dpo",
            ("policy",),
            self._weights("policy") | self.policy.training_memory(),
            (
                Use(step, chosen.epochs * self.rows.train_pairs / together, self.assumed.shuffled_fill),
                Use(validation, 2 * self.rows.val_pairs / batch, self.assumed.sorted_fill),
            ),
            _shown(chosen, self.policy.adapter) | {"micro_batch_size": together, "evaluation_batch_size": batch},
        )

    def adapt_online(self) -> StageWork:
        chosen, online = self.online, self.params.scale.online
        together = min(online.micro_batch_size or chosen.batch_size, chosen.batch_size)
        evaluations = len(range(0, chosen.steps, online.heldout_every)) + 1
        batch, heldout = self.policy.evaluation_batch, self.rows.heldout_tasks
        generation = self._generation(True, [chosen.batch_size] * chosen.steps + [heldout] * evaluations)
        scoring = self._scoring(chosen.batch_size * chosen.steps + heldout * evaluations)
        passes = Passes(self._policy_pair, self.params.protocol.policy_dropout, online.gradient_checkpointing)
        compared = self.tracer.compare(passes, min(batch, heldout))
        # Of several parts, two show what all do: each is computed twice.
        step = self.tracer.online_step(passes, together, min(2, math.ceil(chosen.batch_size / together)))
        resident = self._weights("policy") | self.policy.training_memory() | self._ensemble_weights()
        resident["adapters"] = 2 * self.policy.adapter_bytes + self._ensemble_weights()["adapters"]
        return StageWork(
            "adapt_online",
            ("policy", "reward"),
            resident,
            (
                *generation,
                *scoring,
                Use(step, chosen.steps * chosen.batch_size / step.rows),
                Use(compared, evaluations * math.ceil(heldout / batch)),
            ),
            asdict(chosen) | {"micro_batch_size": together, "evaluations": evaluations, "evaluation_batch_size": batch},
        )

    def probe_policy(self) -> StageWork:
        probes, rows, batch = self.params.scale.probes, self.rows, self.policy.evaluation_batch
        prompts = min(rows.test_tasks, probes.prompts or derive.probe_size(rows.test_tasks))
        references = min(rows.train_pairs, probes.references or derive.probe_size(rows.train_pairs))
        responses, policies, lengths = prompts * probes.responses, 2, self.params.scale.lengths
        divergence = self.tracer.divergence(self._policy_pair, min(batch, rows.heldout_tasks), POLICY)
        read = self.tracer.representations(
            self._ensemble, min(self.reward.evaluation_batch, max(responses, references)), self._member
        )
        texts = len(self.params.ensemble_members) * (policies * responses + references)
        # Entropy over prompts is one forward pass over the prompts, divergence two over prompts and responses.
        over_prompts = prompts / batch * lengths.prompt / (lengths.prompt + lengths.response) / 2
        resident = self._weights("policy") | self._ensemble_weights()
        resident["adapters"] += 2 * self.policy.adapter_bytes
        return StageWork(
            "probe_policy",
            ("policy", "reward"),
            resident,
            (
                *self._generation(True, policies * [responses, rows.heldout_tasks]),
                Use(divergence, policies * (math.ceil(rows.heldout_tasks / batch) + over_prompts)),
                Use(read, texts / read.rows, self.assumed.shuffled_fill),
            ),
            {"prompts": prompts, "references": references, "responses": probes.responses},
        )

    def _generation(self, adapted: bool, requests: list[int]) -> tuple[Use, Use]:
        """Sampling of one response to each of every request's prompts; a step takes as long for fewer rows."""
        batch = min(self.policy.evaluation_batch, max(requests))
        batches = sum(math.ceil(request / batch) for request in requests)
        tokens = self.params.scale.lengths.response * self.assumed.generated_share
        return (
            Use(self._prefill(adapted, batch), sum(requests) / batch),
            Use(self._decode(adapted, batch), batches * tokens, row_share=sum(requests) / (batches * batch)),
        )

    @cache  # noqa: B019
    def _prefill(self, adapted: bool, rows: int) -> Pass:
        return self.tracer.prefill(self._policy_pair if adapted else self._policy_base, rows)

    @cache  # noqa: B019
    def _decode(self, adapted: bool, rows: int) -> Pass:
        return self.tracer.decode(self._policy_pair if adapted else self._policy_base, rows)

    def _scoring(self, texts: int) -> tuple[Use, ...]:
        return (Use(self._score, texts * len(self.params.ensemble_members) / self._score.rows),)

    @cached_property
    def _score(self) -> Pass:
        return self.tracer.scores(self._ensemble, self.reward.evaluation_batch, self._member)

    @property
    def _member(self) -> int:
        return self.params.ensemble_members[0]

    @cached_property
    def _ensemble(self) -> PeftModel:
        names = [member_name(member) for member in self.params.ensemble_members]
        return bases.adapted(self._base("reward"), self.reward.adapter, names, None)

    @cached_property
    def _policy_base(self) -> PreTrainedModel:
        return self._base("policy")

    @cached_property
    def _policy_pair(self) -> PeftModel:
        """A base with two adapters: policy and reference of the online phase, or a probe's two checkpoints."""
        return bases.adapted(self._base("policy"), self.policy.adapter, [POLICY, REFERENCE], POLICY)

    def _base(self, role: str) -> PreTrainedModel:
        return bases.base(self.params, role)

    def _weights(self, role: str) -> dict[str, int]:
        return {WEIGHTS[role]: getattr(self, role).weight_bytes}

    def _ensemble_weights(self) -> dict[str, int]:
        adapters = len(self.params.ensemble_members) * self.reward.adapter_bytes
        return self._weights("reward") | {"adapters": adapters}


def _shown(chosen: DpoHyperparameters | RewardHyperparameters, adapter: LoraConfig) -> dict[str, Any]:
    """Hyperparameters that all cells of a stage share."""
    shared = {name: value for name, value in asdict(chosen).items() if name not in ("beta", "seed")}
    return shared | {"lora_alpha": adapter.lora_alpha}
