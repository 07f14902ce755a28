"""B5 and B7: a step of the online loop over Qwen3's vocabulary, and the generation of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch

from benchmarks import arms, naive, worlds
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import Params
from pessimism.models.adapters import attach, trainable_parameters
from pessimism.models.compute.generation import Sampling, sample_responses
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online import rollout
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.online.loop import OnlineRun
from pessimism.online.objective import find_objective
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.tasks.parts.declaration import chosen_task

PROMPTS, RESPONSE, BETA = 4, 64, 0.1
POLICY_SIZE = worlds.Size(vocabulary=worlds.QWEN3_VOCABULARY, hidden=64, intermediate=192, layers=4)
REWARD_SIZE = worlds.Size(vocabulary=worlds.QWEN3_VOCABULARY, hidden=32, intermediate=96, layers=2)
CHECKPOINT = Path("checkpoint")

EVALUATED, EVALUATED_TOKENS, SHRINK = 128, 64, 2
GENERATOR_SIZE = worlds.Size(vocabulary=512, hidden=64, intermediate=192, layers=3)
GREEDY = Sampling(temperature=1e-6, top_p=1.0, top_k=0)  # the noise of a draw is far smaller than any gap of logits
ENDS = 8  # of 512 tokens, so that responses end at different lengths


@contextmanager
def world(tiny: bool = False) -> Iterator[Params]:
    """A project with a checkpoint and an ensemble, that draws four responses of 64 tokens a step."""
    policy, reward = (worlds.TINY, worlds.TINY) if tiny else (POLICY_SIZE, REWARD_SIZE)
    lengths = replace(worlds.cut(1, response=RESPONSE), sequence=worlds.PROMPT + RESPONSE)
    online = {"batch_size": PROMPTS, "steps": 1, "learning_rate": 1e-5, "gradient_checkpointing": False}
    with worlds.project(policy, reward, lengths, evaluation_batch_size=16, online=online) as params:
        worlds.save_random_adapter(params, "policy", CHECKPOINT, seed=9)
        worlds.save_members(params)
        yield params


def load_run(params: Params, tasks: pd.DataFrame) -> OnlineRun:
    """What adapt_online loads, from CHECKPOINT; a step answers all of ``tasks``."""
    return OnlineRun(
        params=params,
        cell=OnlineCell("p50", 0, "proxy"),
        beta=BETA,
        model=attach(load_policy_base(params), {REFERENCE: CHECKPOINT, POLICY: CHECKPOINT}, trainable=POLICY),
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=RewardEnsemble.load_raw(params, params.seeds[0]),
        training_tasks=tasks,
        heldout_tasks=tasks,
        objective=find_objective(params.online.objective),
        hyperparameters=online_hyperparameters(params.scale, params.arm("proxy"), 1, 1_000, len(tasks)),
    )


@dataclass
class Ours:
    """The online loop of adapt_online, with the seconds that its generation took."""

    run: OnlineRun
    optimizer: torch.optim.Optimizer
    generation: list[float] = field(default_factory=list)

    @classmethod
    def load(cls, params: Params, vocabulary: int) -> Ours:
        run = load_run(params, worlds.task_table(PROMPTS, 1, vocabulary))
        return cls(run, torch.optim.AdamW(trainable_parameters(run.model), lr=1e-5))

    def step(self) -> None:
        def timed(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            drawn = sample_responses(*given, **named)
            self.generation.append(time.perf_counter() - start)
            return drawn

        with mock.patch.object(rollout, "sample_responses", timed):
            self.run._update(0, self.run.training_tasks, self.optimizer, trainable_parameters(self.run.model))


@dataclass
class Theirs:
    """The naive loop, with the seconds that its generation took."""

    loop: naive.OnlineLoop
    prompts: list[str]
    generation: list[float] = field(default_factory=list)

    @classmethod
    def load(cls, params: Params, vocabulary: int) -> Theirs:
        loop = naive.OnlineLoop.load(params, str(CHECKPOINT), load_tokenizer(params, "policy"), BETA)
        questions, task = worlds.task_table(PROMPTS, 1, vocabulary)["question"], chosen_task(params.scale.tasks)
        return cls(loop, [task.pose(question) for question in questions])

    def step(self) -> None:
        start = time.perf_counter()
        responses = self.loop.sample(self.prompts)
        self.generation.append(time.perf_counter() - start)
        self.loop.update(self.prompts, responses)


def _memory(tiny: bool, load: Callable[[Params, int], Any]) -> Callable[[], object]:
    with world(tiny) as params:
        arm = load(params, (worlds.TINY if tiny else POLICY_SIZE).vocabulary)
    return arm.step


def ours_memory(tiny: bool) -> Callable[[], object]:
    return _memory(tiny, Ours.load)


def naive_memory(tiny: bool) -> Callable[[], object]:
    return _memory(tiny, Theirs.load)


def measure() -> list[Row]:
    """B5."""
    with world() as params:
        ours, theirs = (arm.load(params, POLICY_SIZE.vocabulary) for arm in (Ours, Theirs))
        seconds = arms.interleaved({"N": theirs.step, "ours": ours.step}, rounds=3)
        generation = {"N": theirs.generation, "ours": ours.generation}
    memory = arms.memory_ratios("online.ours_memory", ["online.naive_memory"])
    updates = {name: [a - b for a, b in zip(seconds[name], generation[name], strict=True)] for name in seconds}
    return [
        ratio_row("B5 time / N's", arms.ratios(seconds, "ours", "N"), "<= 0.60"),
        ratio_row("B5 memory / N's", memory, "<= 0.5"),
        ratio_row("B5 generation time / N's", arms.ratios(generation, "ours", "N"), "<= 0.45"),
        ratio_row("B5 time without generation / N's", arms.ratios(updates, "ours", "N"), None),
    ]


def measure_generation() -> list[Row]:
    """B7: the responses of one evaluation, all at once by length against four at a time as they come."""
    lengths = worlds.cut(SHRINK, response=EVALUATED_TOKENS)
    with worlds.project(
        GENERATOR_SIZE, None, lengths, evaluation_batch_size=EVALUATED, generation_batch_size=EVALUATED
    ) as params:
        model, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
        model.generation_config.eos_token_id = [worlds.EOS, *range(100, 100 + ENDS)]
        questions = worlds.task_table(EVALUATED, SHRINK, GENERATOR_SIZE.vocabulary)["question"]
        prompts, seeds = list(questions), list(range(EVALUATED))
        texts: dict[str, list[str]] = {}

        def ours() -> None:
            texts["ours"] = sample_responses(model, tokenizer, prompts, params, seeds, GREEDY).texts

        def theirs() -> None:
            texts["N"] = naive.generate(model, tokenizer, prompts, EVALUATED_TOKENS, do_sample=False)

        seconds = arms.interleaved({"N": theirs, "ours": ours}, rounds=2)
        same = sum(mine == other for mine, other in zip(texts["ours"], texts["N"], strict=True))
    return [
        ratio_row("B7 tokens/s / N's", arms.speedups(seconds, "ours", "N"), ">= 3"),
        counter_row("B7 identical greedy texts of 128", same, f"= {EVALUATED}"),
    ]
