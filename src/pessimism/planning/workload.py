"""What each stage has in memory and which passes it makes, how often: the stages' loops, counted."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from pessimism.experiment.params import Params
from pessimism.models import hyperparameters as derive
from pessimism.models.adapters import DEFAULT
from pessimism.models.compute import generation
from pessimism.models.compute.prefix_sharing import shares_prefixes
from pessimism.models.precision import BLOCK_DTYPES
from pessimism.models.training import TrainingHyperparameters, batch_parts
from pessimism.offline.training import OfflineHyperparameters, offline_hyperparameters
from pessimism.online.hyperparameters import OnlineHyperparameters, online_hyperparameters
from pessimism.online.update import POLICY, REFERENCE, Passes
from pessimism.planning import bases
from pessimism.planning.architectures import Rows
from pessimism.planning.hardware import Assumptions
from pessimism.planning.kernels import Target
from pessimism.planning.lengths import Load, TextLengths
from pessimism.planning.passes import FEWEST_PROMPT_TOKENS, Pass, Tracer
from pessimism.planning.roles import Role, find_role
from pessimism.planning.tracing import FUSED_4BIT_ROWS, Fill
from pessimism.reward.bradley_terry import reward_hyperparameters
from pessimism.reward.ensemble import member_name

FULL = Fill()
WEIGHTS = {"policy": "policy weights", "reward": "reward weights"}


@dataclass(frozen=True)
class Use:
    """How often a stage makes a pass.

    Attributes:
        calls: of the pass, in one cell.
        fill: how full they are on average, beside the one that was traced.
    """

    traced: Pass
    calls: float
    fill: Fill = FULL


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
        self.tracer = Tracer(target, params.scale.lengths, BLOCK_DTYPES[params.scale.policy.dtype])
        self.texts = TextLengths(params.scale.lengths)

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

    def assumptions(self) -> list[tuple[str, float, str]]:
        """Name, value and meaning of what the counted work rests on and no file of the project says."""
        return [
            *self.texts.described(self.online.batch_size, self.drawn_together),
            ("fewest_prompt_tokens", FEWEST_PROMPT_TOKENS, "of a pair, at the largest moment: all others are scored"),
            ("fused_4bit_rows", FUSED_4BIT_ROWS, "rows up to which a 4-bit product does not unpack its weights first"),
        ]

    @cached_property
    def policy(self) -> Role:
        return find_role(self.params, "policy", self.rows.train_pairs)

    @cached_property
    def reward(self) -> Role:
        return find_role(self.params, "reward", self.rows.train_pairs)

    @cached_property
    def dpo(self) -> OfflineHyperparameters:
        """Of the first cell; beta and the seed are another cell's own."""
        cell, role = self.params.dpo_cells()[0], self.policy
        return offline_hyperparameters(
            self.params, cell, 1.0, self.rows.train_pairs, role.parameters, role.adapter, role.trainable
        )

    @cached_property
    def reward_training(self) -> TrainingHyperparameters:
        role, member = self.reward, self.params.ensemble_members[0]
        return reward_hyperparameters(
            self.params, member, self.rows.train_pairs, role.parameters, role.adapter, role.trainable
        )

    @cached_property
    def online(self) -> OnlineHyperparameters:
        role = self.policy
        return online_hyperparameters(
            self.params.scale,
            self.params.arm(self.params.primary_arm),
            role.parameters,
            role.trainable,
            self.rows.test_tasks,
        )

    def prepare_base(self) -> StageWork:
        larger = max(self.policy.weight_bytes, self.reward.weight_bytes)
        return StageWork("prepare_base", ("policy", "reward"), {"weights": larger})

    def measure_reference(self) -> StageWork:
        batch, model = self.policy.evaluation_batch, self._policy_base
        drawn = max(1, derive.beta_grid_pairs(self.rows.train_pairs))
        grid = self.tracer.logps(model, batch, (torch.float32, torch.bfloat16), 1)
        pairs, load = self._pair_logps(model, self.rows.train_pairs + self.rows.val_pairs)
        whole = self.texts.whole_texts(self._budget(self.policy))
        return StageWork(
            "measure_reference",
            ("policy",),
            self._weights("policy"),
            (pairs, _use(grid, 2 * drawn, whole)),
            {"evaluation_batch_size": batch, "beta_grid_pairs": drawn, "padded_over_real": load.padding},
        )

    def train_reward_model(self) -> StageWork:
        chosen, training = self.reward_training, self.params.scale.reward_training
        together, _ = batch_parts(chosen.batch_size, 1, training.micro_batch_size, self.rows.train_pairs)
        model = bases.adapted(self._base("reward"), self.reward.adapter, [DEFAULT], DEFAULT)
        step = self.tracer.reward_step(model, together, training.gradient_checkpointing)
        load = self.texts.trained_pairs(chosen.batch_size, together, shares_prefixes(model))
        return StageWork(
            "train_reward_model",
            ("reward",),
            self._weights("reward") | self.reward.training_memory(),
            (_use(step, chosen.epochs * self.rows.train_pairs, load),),
            _shown(chosen, self.reward.adapter) | _parts(together, load),
        )

    def assess_ensemble(self) -> StageWork:
        batch, members = self.reward.evaluation_batch, self.params.ensemble_members
        load = self.texts.pairs(self._budget(self.reward))
        return StageWork(
            "assess_ensemble",
            ("reward",),
            self._ensemble_weights(),
            (_use(self._score, 2 * self.rows.val_pairs * len(members), load),),
            {"evaluation_batch_size": batch, "padded_over_real": load.padding},
        )

    def measure_base(self) -> StageWork:
        heldout = self.rows.heldout_tasks
        return StageWork(
            "measure_base",
            ("policy", "reward"),
            self._weights("policy") | self._ensemble_weights(),
            (
                *self._generation(False, [heldout], generation.protocol_sampling(self.params.protocol)),
                *self._scoring(heldout),
            ),
            {"heldout": self.rows.heldout_tasks, "generation_batch_size": self.drawn_together},
        )

    def train_dpo(self) -> StageWork:
        chosen, training = self.dpo, self.params.scale.dpo
        batch = self.policy.evaluation_batch
        together, _ = batch_parts(
            chosen.batch_size, chosen.accumulation, training.micro_batch_size, self.rows.train_pairs
        )
        model = bases.adapted(self._base("policy"), self.policy.adapter, [DEFAULT], DEFAULT)
        validation, _ = self._pair_logps(model, self.rows.val_pairs)
        step = self.tracer.dpo_step(model, together, training.gradient_checkpointing)
        load = self.texts.trained_pairs(chosen.batch_size * chosen.accumulation, together, shares_prefixes(model))
        return StageWork(
            "train_dpo",
            ("policy",),
            self._weights("policy") | self.policy.training_memory(),
            (
                _use(step, chosen.epochs * self.rows.train_pairs, load),
                validation,
            ),
            _shown(chosen, self.policy.adapter) | _parts(together, load) | {"evaluation_batch_size": batch},
        )

    def adapt_online(self) -> StageWork:
        chosen, online = self.online, self.params.scale.online
        together = min(online.micro_batch_size or chosen.batch_size, chosen.batch_size)
        evaluations = len(range(0, chosen.steps, online.heldout_every)) + 1
        batch, heldout = self.policy.evaluation_batch, self.rows.heldout_tasks
        sampling = generation.protocol_sampling(self.params.protocol)
        drawing = self._generation(True, [chosen.batch_size] * chosen.steps + [heldout] * evaluations, sampling)
        scoring = (*self._scoring(heldout * evaluations), *self._scoring(chosen.batch_size, chosen.steps))
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
                *drawing,
                *scoring,
                Use(step, chosen.steps * chosen.batch_size / step.rows, self._online_fill(step, together)),
                _use(compared, evaluations * heldout, self.texts.responses(self._budget(self.policy))),
            ),
            asdict(chosen)
            | {"micro_batch_size": together, "evaluations": evaluations, "evaluation_batch_size": batch}
            | {"generation_batch_size": self.drawn_together},
        )

    def probe_policy(self) -> StageWork:
        probes, rows, batch = self.params.scale.probes, self.rows, self.policy.evaluation_batch
        prompts = min(rows.test_tasks, probes.prompts or derive.probe_size(rows.test_tasks))
        references = min(rows.train_pairs, probes.references or derive.probe_size(rows.train_pairs))
        responses, policies = prompts * probes.responses, 2
        divergence = self.tracer.divergence(self._policy_pair, min(batch, rows.heldout_tasks), POLICY)
        read = self.tracer.representations(
            self._ensemble, min(self.reward.evaluation_batch, max(responses, references)), self._member
        )
        texts = len(self.params.ensemble_members) * (policies * responses + references)
        budget, heldout = self._budget(self.policy), rows.heldout_tasks
        over_responses, over_prompts = self.texts.responses(budget), self.texts.prompts(budget)
        # Entropy over prompts is one forward pass, divergence two.
        prompt_calls = policies * prompts * over_prompts.share / 2
        resident = self._weights("policy") | self._ensemble_weights()
        resident["adapters"] += 2 * self.policy.adapter_bytes
        return StageWork(
            "probe_policy",
            ("policy", "reward"),
            resident,
            (
                *self._generation(True, policies * [responses], generation.protocol_sampling(self.params.protocol)),
                *self._generation(True, policies * [heldout], generation.FULL),
                _use(divergence, policies * heldout, over_responses),
                Use(divergence, prompt_calls, divergence.fill(over_prompts)),
                _use(read, texts, self.texts.responses(self._budget(self.reward))),
            ),
            {"prompts": prompts, "references": references, "responses": probes.responses}
            | {"generation_batch_size": self.drawn_together},
        )

    def _pair_logps(self, model: PreTrainedModel | PeftModel, pairs: int) -> tuple[Use, Load]:
        """Log-probabilities of so many pairs without a gradient, in passes under the policy's budget."""
        traced, budget = self.tracer.pair_logps(model, self.policy.evaluation_batch), self._budget(self.policy)
        if shares_prefixes(model):
            load = self.texts.shared_rows(budget)
            return _use(traced, pairs, load), load
        load = self.texts.pairs(budget)
        return _use(traced, 2 * pairs, load), load

    def _generation(self, adapted: bool, requests: list[int], sampling: generation.Sampling) -> tuple[Use, ...]:
        """Sampling of one response to each of every request's prompts, batches of one size together."""
        sizes = Counter(
            min(self.drawn_together, request - start)
            for request in requests
            for start in range(0, request, self.drawn_together)
        )
        uses = []
        for rows, batches in sizes.items():
            longest, lengths = self.texts.longest_response(rows), self.params.scale.lengths
            # Rows that have ended are computed on until the last has.
            kept = (self.texts.prompt_share * lengths.prompt + longest / 2) / (lengths.prompt + lengths.response)
            uses += [
                Use(self._prefill(adapted, rows), batches),
                Use(self._decode(adapted, rows, sampling), batches * longest, Fill(squares=kept)),
            ]
        return tuple(uses)

    @cache  # noqa: B019
    def _prefill(self, adapted: bool, rows: int) -> Pass:
        return self.tracer.prefill(self._policy_pair if adapted else self._policy_base, rows)

    @cache  # noqa: B019
    def _decode(self, adapted: bool, rows: int, sampling: generation.Sampling) -> Pass:
        return self.tracer.decode(self._policy_pair if adapted else self._policy_base, rows, sampling)

    def _scoring(self, texts: int, times: int = 1) -> tuple[Use, ...]:
        """Rewards of so many responses at once by every member; few of them are one small call each."""
        members, load = len(self.params.ensemble_members), self.texts.responses(self._budget(self.reward))
        if texts * load.share >= 1:
            return (_use(self._score, texts * members * times, load),)
        return (Use(self._score, members * times, self._score.fill(load.scaled(texts * load.share))),)

    def _online_fill(self, step: Pass, rows: int) -> Fill:
        parts = step.rows / rows
        return step.fill(self.texts.online_rows(rows).scaled(parts))

    @property
    def drawn_together(self) -> int:
        """Responses of one batch of generation."""
        size = self.params.scale.generation_batch_size
        return self.policy.evaluation_batch if size is None else size

    def _budget(self, role: Role) -> int:
        """Padded tokens of a pass without a gradient."""
        return role.evaluation_batch * self.params.scale.lengths.sequence

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


def _use(traced: Pass, texts: float, load: Load) -> Use:
    """The calls that so many texts or pairs take."""
    return Use(traced, texts * load.share, traced.fill(load))


def _parts(together: int, load: Load) -> dict[str, Any]:
    """How an optimiser batch of pairs is computed."""
    return {
        "micro_batch_size": together,
        "padded_over_real": load.padding,
        "forward_passes_per_micro_batch": load.passes,
    }


def _shown(chosen: TrainingHyperparameters, adapter: LoraConfig) -> dict[str, Any]:
    """Hyperparameters that all cells of a stage share."""
    shared = {name: value for name, value in asdict(chosen).items() if name not in ("beta", "seed")}
    return shared | {"lora_alpha": adapter.lora_alpha}
