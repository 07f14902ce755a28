"""The reward ensemble: one base, K adapters with their heads, and the scores that they give.

Scores are (K, B): K members, B responses; higher = the member prefers the response more.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.data.prompts import encode_reward_text
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import seed_key
from pessimism.experiment.params import LengthParams, Params
from pessimism.models.adapters import attach, use_adapter
from pessimism.models.compute.batching import evaluation_tokens, token_batches
from pessimism.models.compute.last_token import last_layer_where_read
from pessimism.models.compute.padding import pad_right
from pessimism.models.loading import load_reward_base, load_tokenizer


def normalize(scores_K_B: np.ndarray, mean_K: np.ndarray, sd_K: np.ndarray) -> np.ndarray:
    """Each member's scores in units of its own standard deviation on validation pairs, around its mean there.

    Raises:
        DataError: a member gives every validation text the same score.
    """
    if not (sd_K > 0).all():
        raise DataError(
            f"score_sd is {sd_K.tolist()} in {layout.REWARD_MEMBERS_RECORD}; expected numbers above 0: train longer"
        )
    return (scores_K_B - mean_K[:, None]) / sd_K[:, None]


Made = TypeVar("Made")

LAYERS = {"penultimate": -2, "last": -1}
"""Layers whose states are read, as indices of the hidden states."""


def _token_mean(states_B_T_H: torch.Tensor, lengths: list[int]) -> np.ndarray:
    """(B, H) float64 mean over each row's real tokens, the first of its columns."""
    rows = zip(states_B_T_H.double(), lengths, strict=True)
    return torch.stack([states_T_H[:length].mean(dim=0) for states_T_H, length in rows]).cpu().numpy()


def of_each_seed(
    params: Params, load: Callable[[Params, int], RewardEnsemble], use: Callable[[int, RewardEnsemble], Made]
) -> dict[int, Made]:
    """What ``use`` makes of every seed and its ensemble, one of which is in memory at a time."""
    made = {}
    for seed in params.seeds:
        made[seed] = use(seed, load(params, seed))
        gc.collect()  # layers with adapters refer to themselves, so that the base would stay
    return made


def member_name(member: int) -> str:
    """Name of a member's adapter on the shared base."""
    return f"member-{member}"


@dataclass
class RewardEnsemble:
    """K reward models on one frozen base.

    Attributes:
        model: the base with one adapter and one head per member, in eval mode.
        token_budget: padded tokens per forward pass.
        statistics: per member ``score_mean`` and ``score_sd`` on validation pairs; None = raw scores.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    members: tuple[int, ...]
    lengths: LengthParams
    token_budget: int
    statistics: Mapping[str, Mapping[str, float]] | None = None

    @classmethod
    def load_raw(cls, params: Params, seed: int) -> RewardEnsemble:
        """A seed's members as trained: raw scores, dropout off, whatever the protocol says."""
        adapters = {member_name(cell.member): layout.reward_member(cell) for cell in params.ensemble(seed)}
        return cls(
            model=attach(load_reward_base(params), adapters, trainable=None),
            tokenizer=load_tokenizer(params, "reward"),
            members=params.ensemble_members,
            lengths=params.scale.lengths,
            token_budget=evaluation_tokens(params, "reward"),
        )

    @classmethod
    def load(cls, params: Params, seed: int) -> RewardEnsemble:
        """A seed's members, scores as the protocol reads them: raw, or standardised (``normalize_rewards``)."""
        ensemble = cls.load_raw(params, seed)
        if params.protocol.normalize_rewards:
            ensemble.statistics = records.get(records.read_json(layout.REWARD_MEMBERS_RECORD), seed_key(seed))
        return ensemble

    def score(self, prompts: Sequence[str], responses: Sequence[str], dropout_seed: int | None = None) -> np.ndarray:
        """Every member's score of every response, in the caller's order.

        Torch's global random stream is left as it was, with dropout too.

        Args:
            dropout_seed: None scores with dropout off; a seed scores in training mode, with the masks it draws.

        Returns:
            (K, B) float32 logits, or multiples of each member's standard deviation where statistics are set.
        """
        ids = self._encode(prompts, responses)
        scores_K_B = np.empty((len(self.members), len(ids)), dtype=np.float32)
        with torch.no_grad(), self._dropout(dropout_seed):
            batches = self._batches(ids)
            for k, member in enumerate(self.members):
                with use_adapter(self.model, member_name(member)):
                    for rows, inputs in batches:
                        with last_layer_where_read(self.model, inputs["input_ids"]):
                            logits_B_1 = self.model(**inputs, use_cache=False).logits
                        scores_K_B[k, rows] = logits_B_1[:, 0].float().cpu().numpy()
        if self.statistics is None:
            return scores_K_B
        return normalize(scores_K_B, self._statistic("score_mean"), self._statistic("score_sd"))

    def representations(self, member: int, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, np.ndarray]:
        """States of one member by layer (LAYERS), averaged over each text's tokens, dropout off.

        Returns:
            Layer -> (B, H) float64, in the caller's order.
        """
        ids = self._encode(prompts, responses)
        states: dict[str, list[np.ndarray]] = {layer: [np.empty(0)] * len(ids) for layer in LAYERS}
        with torch.no_grad(), use_adapter(self.model, member_name(member)):
            for rows, inputs in self._batches(ids):
                hidden = self.model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
                lengths = [len(ids[row]) for row in rows]
                for layer, index in LAYERS.items():
                    for row, mean_H in zip(rows, _token_mean(hidden[index], lengths), strict=True):
                        states[layer][row] = mean_H
        return {layer: np.stack(rows) for layer, rows in states.items()}

    def _encode(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        pairs = zip(prompts, responses, strict=True)
        return [encode_reward_text(self.tokenizer, prompt, response, self.lengths) for prompt, response in pairs]

    def _batches(self, ids: list[list[int]]) -> list[tuple[list[int], dict[str, Any]]]:
        """Rows of each batch, neighbours by length, with what the model reads of them."""
        batches = token_batches([len(row) for row in ids], self.token_budget)
        return [(rows, self._inputs([ids[row] for row in rows])) for rows in batches]

    def _inputs(self, ids: list[list[int]]) -> dict[str, Any]:
        """Padded on the right: no token looks back at padding, so nothing is masked."""
        return {"input_ids": pad_right(ids, self.tokenizer.pad_token_id, self.model.device)[0]}

    def _statistic(self, name: str) -> np.ndarray:
        assert self.statistics is not None
        return np.array([self.statistics[str(member)][name] for member in self.members], dtype=np.float32)

    @contextmanager
    def _dropout(self, seed: int | None) -> Iterator[None]:
        """Dropout of the adapters on a random stream of its own; none where ``seed`` is None."""
        if seed is None:
            yield
            return
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.model.train()
            try:
                yield
            finally:
                self.model.eval()
