"""What adapt_online and probe_policy compute, on a checkpoint and an ensemble with random weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import worlds
from benchmarks.rehearse.bases import with_scale
from benchmarks.rehearse.measuring import Line
from benchmarks.rehearse.passes import Stage
from benchmarks.rehearse.texts import Drawn
from pessimism.models.adapters import attach, trainable_parameters
from pessimism.models.compute.batching import evaluation_tokens
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.compute.logprobs import ResponseBatch
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.objective import find_objective
from pessimism.online.rollout import response_batch, sorted_response_batches
from pessimism.online.update import POLICY, REFERENCE, Passes, accumulate_gradients
from pessimism.probes.parts.distributions import batch_entropy_and_kl
from pessimism.reward.ensemble import RewardEnsemble

CHECKPOINT = Path("checkpoint")
WARM_UP = 2  # rows, and tokens that are drawn to warm up


class Models:
    """A policy that is its own reference, the ensemble of a seed, and the optimiser of an online run."""

    def __init__(self, stage: Stage, trained: bool) -> None:
        params = self.params = stage.params
        worlds.save_random_adapter(params, "policy", CHECKPOINT, seed=9)
        gc.collect()  # layers with adapters refer to themselves, so that the base would stay
        worlds.save_members(params)
        gc.collect()
        adapters = {REFERENCE: CHECKPOINT, POLICY: CHECKPOINT}
        self.model = attach(load_policy_base(params), adapters, trainable=POLICY if trained else None)
        self.tokenizer, self.ensemble = (
            load_tokenizer(params, "policy"),
            RewardEnsemble.load_raw(params, params.seeds[0]),
        )
        checkpointing = trained and params.scale.online.gradient_checkpointing
        if checkpointing:
            self.model.activation_checkpointing_enable()
        self.passes = Passes(self.model, params.protocol.policy_dropout, checkpointing)

    def batches(self, rollouts: Rollouts) -> list[ResponseBatch]:
        """In the order and the sizes in which held-out responses are read."""
        rows, budget = range(len(rollouts.texts)), evaluation_tokens(self.params, "policy")
        return sorted_response_batches(rollouts, rows, self.tokenizer, self.model.device, budget)

    def update(self, rollouts: Rollouts, part: int, optimizer: torch.optim.Optimizer) -> None:
        """One update on a batch, ``part`` responses at a time, with rewards of noise."""
        objective, protocol = find_objective(self.params.online.objective), self.params.protocol
        count = len(rollouts.texts)
        rows = [range(start, min(start + part, count)) for start in range(0, count, part)]
        parts = [
            response_batch(rollouts, rollouts.response_ids, mine, self.tokenizer, self.model.device) for mine in rows
        ]
        noise = torch.randn(count, generator=torch.Generator().manual_seed(0))

        def weigh(log_ratios: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            numerator, floor = protocol.kl_numerator, protocol.kl_noise_floor
            kappa = objective.coefficient(numerator, log_ratios, protocol.kl_percentile, floor)
            rewards = objective.penalized_rewards(noise, log_ratios, kappa)
            return objective.advantages(rewards).to(self.model.device), kappa

        optimizer.zero_grad()
        accumulate_gradients(self.passes, parts, weigh, objective.loss, range(len(parts)))
        optimizer.step()

    def draw(self, prompts: list[str], tokens: int) -> Rollouts:
        """Responses of so many tokens: a random model hardly ever ends one."""
        params = with_scale(self.params, lengths={"response": tokens})
        return sample_responses(self.model, self.tokenizer, prompts, params, range(len(prompts)))


def adapt_online(stage: Stage) -> Iterator[Line]:
    models = Models(stage, trained=True)
    optimizer = torch.optim.AdamW(trainable_parameters(models.model), lr=0.0)
    for drawn in Drawn.every(stage.params):
        batch, setting = stage.work(drawn).values["batch_size"], drawn.setting
        # First, for what the optimiser keeps stays until the end.
        yield _update(stage, models, drawn, batch, optimizer)
        yield _generation(stage, models, drawn, batch)
        yield _generation(stage, models, drawn, min(setting.generation_batch, setting.rows.heldout_tasks))
        yield from _readings(stage, models, drawn, drawn.reads)


def _update(stage: Stage, models: Models, drawn: Drawn, batch: int, optimizer: torch.optim.Optimizer) -> Line:
    rollouts, part = drawn.rollouts(batch), stage.work(drawn).values["micro_batch_size"]

    def update() -> None:
        models.update(rollouts, part, optimizer)

    return stage.measured(
        drawn, batch, "training step", [drawn.setting.online_training(batch, 1, part)], update, update
    )


def _generation(stage: Stage, models: Models, drawn: Drawn, rows: int) -> Line:
    prompts, tokens = drawn.prompts(rows), drawn.longest_response(rows)
    plan = drawn.setting.generation([rows], stage.params.protocol.sampling)

    def draw(rows: int, tokens: int) -> Rollouts:
        return models.draw(prompts[:rows], tokens)

    return stage.measured(drawn, rows, "generation", plan, lambda: draw(rows, tokens), lambda: draw(WARM_UP, WARM_UP))


def _readings(stage: Stage, models: Models, drawn: Drawn, count: int) -> Iterator[Line]:
    """Rewards and log-probabilities of held-out responses."""
    setting, rollouts, prompts = drawn.setting, drawn.rollouts(count), drawn.prompts(count)
    batches = models.batches(rollouts)

    def score(rows: int) -> None:
        models.ensemble.score(prompts[:rows], rollouts.texts[:rows])

    def compare(some: int) -> None:
        for batch in batches[-some:]:
            models.passes.compare(batch)

    plan = setting.scoring(count)
    yield stage.measured(drawn, count, plan.name, [plan], lambda: score(count), lambda: score(WARM_UP))
    plan = setting.reading("log-probabilities", setting.policy, setting.texts.answered, count, forwards=2)
    yield stage.measured(drawn, count, plan.name, [plan], lambda: compare(len(batches)), lambda: compare(1))


def probe_policy(stage: Stage) -> Iterator[Line]:
    """What the online run does not read: states of reward models, and divergence over the whole vocabulary."""
    models = Models(stage, trained=False)
    for drawn in Drawn.every(stage.params):
        yield from _probes(stage, models, drawn, drawn.reads)


def _probes(stage: Stage, models: Models, drawn: Drawn, count: int) -> Iterator[Line]:
    setting, rollouts, prompts = drawn.setting, drawn.rollouts(count), drawn.prompts(count)
    batches, texts = models.batches(rollouts), setting.texts.answered

    def represent(rows: int) -> None:
        models.ensemble.representations(models.ensemble.members[0], prompts[:rows], rollouts.texts[:rows])

    def diverge(some: int) -> None:
        for batch in batches[-some:]:
            batch_entropy_and_kl(models.model, batch)

    waiting = setting.reward.layers - 2  # residual streams of all layers, as the plan of the stage has it
    plan = setting.reading("representations", setting.reward, texts, count, waiting=waiting)
    yield stage.measured(drawn, count, plan.name, [plan], lambda: represent(count), lambda: represent(WARM_UP))
    plan = setting.reading("divergence", setting.policy, texts, count, forwards=2, waiting=1)
    yield stage.measured(drawn, count, plan.name, [plan], lambda: diverge(len(batches)), lambda: diverge(1))
