"""B11: steps of the online loop by Eq. 8 and by GRPO against TRL's GRPO, per token, at the embedded world's size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer

from benchmarks import arms, trl_peer, worlds
from benchmarks.online import BETA, CHECKPOINT, load_run
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.experiment.params import LengthParams, Params
from pessimism.models.adapters import trainable_parameters
from pessimism.models.compute.generation import Rollouts
from pessimism.models.loading import load_tokenizer
from pessimism.online import rollout
from pessimism.online.loop import OnlineRun
from pessimism.online.objective import OnlineObjective, find_objective
from pessimism.reward.aggregation import aggregate, proxy_aggregation
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.tasks.parts.declaration import chosen_task

# scales/tiny.yaml: its models with about as many tokens, its lengths and its batch.
EMBEDDED = worlds.Size(vocabulary=80, hidden=96, intermediate=256, layers=2)
LENGTHS = LengthParams(prompt=40, response=48, sequence=88)
SHRINK = 4  # real problems are then about as long as those of the embedded world
RESPONSES = 32
GRPO = find_objective("grpo")
GENERATIONS = GRPO.samples_per_prompt
ENDS = 3  # of 80 tokens, so that responses have about 28 tokens; 30 in the default run
STEPS, ROUNDS = 8, 6
LEARNING_RATE = 1e-5  # so small that both policies go on answering at the same length


@contextmanager
def world(size: worlds.Size = EMBEDDED, lengths: LengthParams = LENGTHS) -> Iterator[Params]:
    """A project with a checkpoint and an ensemble of three."""
    online = {
        "batch_size": RESPONSES,
        "micro_batch_size": None,
        "steps": STEPS,
        "learning_rate": LEARNING_RATE,
        "gradient_checkpointing": False,
    }
    with worlds.project(size, size, lengths, evaluation_batch_size=64, online=online) as params:
        worlds.save_random_adapter(params, "policy", CHECKPOINT, seed=9)
        worlds.save_members(params)
        yield params


def problems(vocabulary: int) -> pd.DataFrame:
    """The problems of a step, which are those of every step."""
    return worlds.task_table(RESPONSES // GENERATIONS, SHRINK, vocabulary)


@dataclass
class Ours:
    """The online loop of adapt_online, with the tokens that it drew in each step."""

    run: OnlineRun
    optimizer: torch.optim.Optimizer
    tokens: list[int] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)

    @classmethod
    def load(cls, params: Params, vocabulary: int, objective: OnlineObjective | None = None) -> Ours:
        """With the objective of the parameters, or another."""
        posed = problems(vocabulary)
        run = load_run(params, posed.iloc[np.arange(len(posed)).repeat(GENERATIONS)])
        run.objective = objective or run.objective
        run.model.generation_config.eos_token_id = ends(vocabulary)
        parameters = trainable_parameters(run.model)
        return cls(run, torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0))

    def steps(self) -> None:
        for _ in range(STEPS):
            step = len(self.tokens)
            row = self.run._update(step, self.run.training_tasks, self.optimizer, trainable_parameters(self.run.model))
            self.tokens.append(row["tokens"])
            self.responses.append(row["prompts"])


class Stopwatch(TrainerCallback):
    """Seconds of each training, from its first step to its last: what TRL prepares before is left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start)


@dataclass
class Theirs:
    """TRL's GRPO, with the texts, rewards and numbers of tokens of each step, and the seconds of all steps together."""

    params: Params
    ensemble: RewardEnsemble
    watch: Stopwatch = field(default_factory=Stopwatch)
    tokens: list[int] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    prompts: list[list[str]] = field(default_factory=list)
    rewards: list[list[float]] = field(default_factory=list)
    trainer: GRPOTrainer = field(init=False)

    @classmethod
    def load(cls, params: Params, vocabulary: int) -> Theirs:
        made = cls(params, RewardEnsemble.load_raw(params, params.seeds[0]))
        pose = chosen_task(params.scale.tasks).pose
        prompts = [pose(question) for question in problems(vocabulary)["question"]]
        made.trainer = trl_peer.online_trainer(
            "grpo",
            params,
            CHECKPOINT,
            prompts,
            GENERATIONS,
            STEPS,
            BETA,
            load_tokenizer(params, "policy"),
            made.reward,
            Path("grpo"),
        )
        made.trainer.generation_config.eos_token_id = ends(vocabulary)
        made.trainer.eos_token_ids = ends(vocabulary)
        made.trainer.add_callback(made.watch)
        return made

    def reward(
        self, *, prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        """The mean of the members, by what the online loop calls for it."""
        scores_K_B = self.ensemble.score(prompts, completions, dropout_seed(self.params))
        rewards: list[float] = aggregate(scores_K_B, proxy_aggregation(self.params)).tolist()
        self.tokens.append(sum(map(len, completion_ids)))
        self.prompts.append(prompts)
        self.texts.append(completions)
        self.rewards.append(rewards)
        return rewards

    def steps(self) -> None:
        self.trainer.train()


def ends(vocabulary: int) -> list[int]:
    """Tokens that end a response, in both arms."""
    return [worlds.EOS, *range(vocabulary - ENDS, vocabulary)]


def dropout_seed(params: Params) -> int | None:
    """The members' adapters have no dropout; the mode that they score in is the protocol's."""
    return 0 if params.protocol.reward_dropout else None


def reward_difference(ours: Ours, theirs: Theirs) -> float:
    """Largest |difference| between the rewards of TRL's last step and what the online loop makes of the same texts."""
    tasks = pd.DataFrame({"task_id": "", "question": theirs.prompts[-1], "answer": "0"})
    drawn = Rollouts([], [], theirs.texts[-1], [], [])
    scored = rollout.score(drawn, ours.run.ensemble, tasks, ours.run.params, dropout_seed(ours.run.params))
    return float(np.abs(scored.proxy_reward - np.array(theirs.rewards[-1])).max())


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(size: worlds.Size = EMBEDDED, lengths: LengthParams = LENGTHS, rounds: int = ROUNDS) -> list[Row]:
    """B11; the first run of both, which warms up, is what tells that they do the same work."""
    with one_thread(), world(size, lengths) as params:
        ours, theirs = Ours.load(params, size.vocabulary), Theirs.load(params, size.vocabulary)
        group = Ours.load(params, size.vocabulary, GRPO)
        for steps in (ours.steps, theirs.steps, group.steps):
            steps()
        drawn = [[len(texts) for texts in theirs.texts], ours.responses, group.responses]
        off = sum(len({*counts}) > 1 for counts in zip(*drawn, strict=True))
        difference = reward_difference(ours, theirs)
        watched = arms.interleaved({"T": theirs.steps, "ours": ours.steps, "grpo": group.steps}, rounds)
    seconds = watched | {"T": theirs.watch.seconds[1:]}
    drawn_tokens = {"T": theirs.tokens, "ours": ours.tokens, "grpo": group.tokens}
    tokens = {name: steps[STEPS:] for name, steps in drawn_tokens.items()}
    for name in seconds:
        count, total = sum(tokens[name]), sum(seconds[name])
        print(f"  {name}: {count} tokens in {total:.1f} s, {1e6 * total / count:.0f} microseconds each", flush=True)
    share = {name: sum(tokens[name]) / sum(tokens["T"]) for name in ("ours", "grpo")}
    per_token = {name: [ratio / share[name] for ratio in arms.ratios(seconds, name, "T")] for name in share}
    return [
        counter_row("B11 steps with another number of responses than T's", off, "= 0"),
        counter_row("B11 largest difference of a reward of T's texts", difference, "<= 1e-6"),
        ratio_row("B11 seconds per token / T's", per_token["ours"], "<= 0.8"),
        ratio_row("B11 tokens / T's", [share["ours"]], None),
        ratio_row("B11 seconds per token of objective grpo / T's", per_token["grpo"], "<= 0.8"),
        ratio_row("B11 tokens of objective grpo / T's", [share["grpo"]], None),
    ]
