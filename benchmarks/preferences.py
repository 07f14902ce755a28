"""B2, B3, B9: DPO and reward training on pairs with real lengths (over 4), and the counters of their padding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from benchmarks import arms, naive, trl_peer, worlds
from benchmarks.counters import Work, counting
from benchmarks.rows import Row, counter_row, meets, ratio_row
from pessimism.experiment import records
from pessimism.experiment.cells import DpoCell, RewardCell
from pessimism.experiment.params import Params
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.offline.objective import find_objective
from pessimism.offline.reference import dpo_reference
from pessimism.offline.training import ReferencedPairs, offline_hyperparameters, offline_trainer, train_offline
from pessimism.reward import bradley_terry
from pessimism.reward.bootstrap import member_stream

SHRINK = 4
# The head's share of the multiplications is a fifth, that of Qwen3-14B is a twentieth.
POLICY = worlds.Size(vocabulary=1024, hidden=128, intermediate=384, layers=3)
REWARD = worlds.Size(vocabulary=1024, hidden=128, intermediate=384, layers=3)
BATCH, ACCUMULATION, REWARD_BATCH = 8, 16, 32
GROWTH = (1, 2, 3, 6)  # betas
VALIDATION = 8
MEMBER = RewardCell(seed=0, member=0)
PEERS = {"T's": "T", "precomputing T's": "T precomputed"}


@contextmanager
def world(policy: worlds.Size = POLICY, shrink: int = SHRINK) -> Iterator[Params]:
    """A project with both bases and the batches of the paper's scale: few pairs a pass, many passes a step."""
    with worlds.project(
        policy,
        replace(
            REWARD, layers=policy.layers, hidden=policy.hidden, intermediate=policy.intermediate, heads=policy.heads
        ),
        worlds.cut(shrink),
        evaluation_batch_size=16,
        dpo={"batch_size": BATCH, "accumulation": ACCUMULATION, "learning_rate": 1e-4, "gradient_checkpointing": False},
        reward_training={
            "batch_size": REWARD_BATCH,
            "epochs": 1,
            "learning_rate": 1e-4,
            "gradient_checkpointing": False,
        },
    ) as params:
        yield params


@dataclass
class Pairs:
    """The pairs as a table of texts and with the reference that ours measures."""

    params: Params
    tokenizer: PreTrainedTokenizerBase
    table: pd.DataFrame
    validation: pd.DataFrame

    @classmethod
    def make(cls, params: Params, count: int, shrink: int = SHRINK) -> Pairs:
        vocabulary = records.read_json(Path("models/base/policy.json"))["vocabulary"]
        table = worlds.preference_table(count + VALIDATION, shrink, vocabulary)
        return cls(params, load_tokenizer(params, "policy"), table[:count], table[count:])

    def reference(self) -> tuple[ReferencedPairs, ReferencedPairs]:
        """What measure_reference does and train_dpo reads: training and validation pairs."""
        splits = {"train": self.table, "val": self.validation}
        table = dpo_reference(load_policy_base(self.params), self.tokenizer, splits, self.params)
        return ReferencedPairs.of(table, "train"), ReferencedPairs.of(table, "val")

    def train(self, reference: tuple[ReferencedPairs, ReferencedPairs], beta: float, seed: int = 0) -> dict[str, Any]:
        """One cell of train_dpo; returns its record."""
        base, cell = load_policy_base(self.params), DpoCell("p50", seed)
        with tempfile.TemporaryDirectory() as directory:
            return train_offline(self.params, cell, beta, base, self.tokenizer, *reference, Path(directory))[1]

    def train_member(self) -> None:
        """One reward member, as train_reward_model trains it; its bootstrap sample is what peers train on, too."""
        base = load_reward_base(self.params)
        with tempfile.TemporaryDirectory() as directory:
            bradley_terry.train_member(self.params, MEMBER, base, self.tokenizer, self.table, Path(directory))

    def reward_ids(self) -> tuple[list[list[int]], list[list[int]]]:
        rows = bradley_terry.bootstrap_rows(len(self.table), self.params.root_seed, member_stream(self.params, MEMBER))
        data = bradley_terry.reward_dataset(self.tokenizer, self.table.iloc[rows], self.params.scale.lengths)
        return list(data["chosen_ids"]), list(data["rejected_ids"])


def betas(count: int) -> list[float]:
    return [0.1 * (number + 1) for number in range(count)]


@dataclass
class Laps:
    """Seconds of each arm at each beta, and of our one reference pass."""

    reference: float
    per_beta: dict[str, list[float]]

    def total(self, name: str, start: int, stop: int, times: int = 1) -> float:
        """Of the betas from ``start`` to ``stop``, done ``times`` times over; ours pays its reference once."""
        return times * sum(self.per_beta[name][start:stop]) + (self.reference if name == "ours" else 0)

    def ratios(self, peer: str, count: int) -> list[float]:
        """Wall time of ours over the peer's at ``count`` betas, by the first and by the second half of the betas."""
        betas, half = max(GROWTH), max(GROWTH) // 2
        parts = [(0, half, count // half), (half, betas, count // half)]
        return [self.total("ours", *part) / self.total(peer, *part) for part in parts]

    def slope(self, name: str) -> float:
        """Seconds per further beta, by the times at 1, 2, 3 and 6."""
        return arms.growth({count: self.total(name, 0, count) for count in GROWTH})

    def growth_row(self, peer: str, target: str) -> Row:
        """B9: ratio of the slopes, with the smallest and the largest ratio of a single beta."""
        ratio = self.slope("ours") / self.slope(peer)
        single = [mine / theirs for mine, theirs in zip(self.per_beta["ours"], self.per_beta[peer], strict=True)]
        return Row(
            f"B9 seconds per further beta / {peer}'s", ratio, min(single), max(single), target, meets(ratio, target)
        )


def run_betas(pairs: Pairs) -> Laps:
    """Train six betas, the arms in turn within every beta, each time in the other order."""
    start = time.perf_counter()
    reference = pairs.reference()
    laps = Laps(time.perf_counter() - start, {name: [] for name in ("ours", "T", "T precomputed", "N")})
    plain = reference[0].pairs
    ids = trl_peer.pair_dataset(plain)
    for number, beta in enumerate(betas(max(GROWTH))):
        work: dict[str, Callable[[], object]] = {
            "ours": partial(pairs.train, reference, beta),
            "T": partial(trl_peer.train_dpo, pairs.params, beta, ids, pairs.tokenizer, precompute=False),
            "T precomputed": partial(trl_peer.train_dpo, pairs.params, beta, ids, pairs.tokenizer, precompute=True),
            "N": partial(naive.train_dpo, pairs.params, beta, plain, worlds.PAD),
        }
        for name in list(work)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            work[name]()
            laps.per_beta[name].append(time.perf_counter() - start)
    return laps


def measure_betas() -> list[Row]:
    """B2 and B9 from the same runs: six betas, with the time of each."""
    with world() as params:
        pairs = Pairs.make(params, 256)
        pairs.train(pairs.reference(), 0.1)  # what libraries load on first use
        laps, second = run_betas(pairs), second_seed(pairs)
    return [
        *(
            ratio_row(f"B2 time / {peer}, {count} betas", laps.ratios(PEERS[peer], count), limit)
            for count, limit in ((3, "<= 0.85"), (6, "<= 0.80"))
            for peer in PEERS
        ),
        counter_row("B2 reference forwards of a second seed", second.reference, "= 0"),
        laps.growth_row("N", "<= 0.6"),
    ]


def second_seed(pairs: Pairs) -> Work:
    """Work of another seed's training where the reference has been measured."""
    reference = pairs.reference()
    with counting() as work:
        pairs.train(reference, 0.1, seed=1)
    return work


def measure_padding() -> list[Row]:
    """B3: an epoch of reward training and one of DPO.

    TRL is given the reference log-probabilities as ours is; every arm of reward training tokenises the texts.
    """
    with world() as params:
        pairs = Pairs.make(params, 512)
        reference = pairs.reference()
        train = reference[0]
        ready = trl_peer.pair_dataset(
            train.pairs, ref_chosen_logps=train.chosen_logps, ref_rejected_logps=train.rejected_logps
        )
        dpo_arms: dict[str, Callable[[], object]] = {
            "N": lambda: naive.train_dpo(params, 0.1, train.pairs, worlds.PAD),
            "ours": lambda: pairs.train(reference, 0.1),
            "T": lambda: trl_peer.train_dpo(params, 0.1, ready, pairs.tokenizer, precompute=False),
        }
        reward_arms: dict[str, Callable[[], object]] = {
            "N": lambda: naive.train_reward(params, *pairs.reward_ids(), worlds.PAD),
            "ours": pairs.train_member,
            "T": lambda: trl_peer.train_reward(params, *pairs.reward_ids(), pairs.tokenizer),
        }
        print_padding("DPO", dpo_arms)
        print_padding("reward", reward_arms)
        by_dpo, by_reward = arms.interleaved(dpo_arms, rounds=2), arms.interleaved(reward_arms, rounds=2)
        differences = [dpo_difference(pairs, train), reward_difference(pairs)]
    return [
        ratio_row("B3 DPO pairs/s / N's", arms.speedups(by_dpo, "ours", "N"), ">= 1.4"),
        ratio_row("B3 DPO pairs/s / T's", arms.speedups(by_dpo, "ours", "T"), ">= 1.15"),
        ratio_row("B3 reward pairs/s / N's", arms.speedups(by_reward, "ours", "N"), ">= 1.4"),
        ratio_row("B3 reward pairs/s / T's", arms.speedups(by_reward, "ours", "T"), ">= 1.15"),
        counter_row("B3 DPO loss of the same batch, difference", differences[0], "<= 1e-5"),
        counter_row("B3 reward loss of the same batch, difference", differences[1], "<= 1e-5"),
    ]


def print_padding(name: str, ways: Mapping[str, Callable[[], object]]) -> None:
    """Run every way once and print how many tokens it computes per real one."""
    for arm, run in ways.items():
        with counting() as work:
            run()
        print(f"  padded / real tokens, {name}, {arm}: {work.padding:.2f}", flush=True)


def dpo_difference(pairs: Pairs, train: ReferencedPairs, count: int = 16) -> float:
    """|our loss - the naive loop's| of one batch, nats; the reference is shifted at random so that it is not ln 2."""
    generator = np.random.default_rng(1)
    shifted = ReferencedPairs(
        train.pairs[:count],
        train.chosen_logps[:count] + generator.normal(size=count).astype(np.float32),
        train.rejected_logps[:count] + generator.normal(size=count).astype(np.float32),
    )
    with tempfile.TemporaryDirectory() as directory:
        trainer = dpo_trainer(pairs, shifted, Path(directory))
        ours = batch_loss(trainer, shifted.dataset())
    base = load_policy_base(pairs.params)
    chosen, rejected = naive.pair_sums(base, shifted.pairs, worlds.PAD, base.device)
    margins = (chosen.cpu().numpy() - shifted.chosen_logps) - (rejected.cpu().numpy() - shifted.rejected_logps)
    return abs(ours - float(np.logaddexp(0, -0.1 * margins.astype(np.float64)).mean()))


def dpo_trainer(pairs: Pairs, train: ReferencedPairs, directory: Path) -> Any:
    """The trainer that a cell of train_dpo builds, at beta 0.1."""
    params, base = pairs.params, load_policy_base(pairs.params)
    lora = lora_config(params.scale.policy, base.config.hidden_size, len(train.pairs), "CAUSAL_LM")
    chosen = offline_hyperparameters(
        params, DpoCell("p50", 0), 0.1, len(train.pairs), base.num_parameters(), lora, count_trainable(base, lora)
    )
    objective = find_objective(params)
    return offline_trainer(params, objective, chosen, base, pairs.tokenizer, train, lora, directory)


def reward_difference(pairs: Pairs, count: int = 16) -> float:
    """|our loss - the naive loop's| of one batch, nats, for a random head."""
    params, base = pairs.params, load_reward_base(pairs.params)
    bradley_terry.draw_head(base, 1)
    data = bradley_terry.reward_dataset(pairs.tokenizer, pairs.table[:count], params.scale.lengths)
    rows = [*data["chosen_ids"], *data["rejected_ids"]]
    ids, mask = naive.padded(rows, worlds.PAD, base.device)
    scores = base(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].cpu().numpy().astype(np.float64)
    lora = lora_config(params.scale.reward, base.config.hidden_size, count, "SEQ_CLS", ["score"])
    chosen = bradley_terry.reward_hyperparameters(
        params, member_stream(params, MEMBER), count, base.num_parameters(), lora, count_trainable(base, lora)
    )
    with tempfile.TemporaryDirectory() as directory:
        trainer = bradley_terry.reward_trainer(params, chosen, base, pairs.tokenizer, data, lora, Path(directory))
        ours = batch_loss(trainer, data)
    return abs(ours - float(np.logaddexp(0, scores[count:] - scores[:count]).mean()))


def batch_loss(trainer: Any, rows: Any) -> float:
    """The trainer's loss on all ``rows`` as one batch, in training mode."""
    inputs = trainer.data_collator(list(rows))
    inputs = {name: values.to(trainer.model.device) for name, values in inputs.items()}
    return float(trainer.compute_loss(trainer.model.train(), inputs))
