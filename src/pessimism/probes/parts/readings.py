"""What probes may read of one policy. Each reading is taken when the first probe asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.experiment import rng
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import sample_responses
from pessimism.models.hyperparameters import probe_size
from pessimism.probes.parts.distributions import prompt_entropies, response_entropy_and_kl
from pessimism.probes.parts.states import MemberStates, ReferenceStates
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.tasks.parts.posing import posed, reward_prompts


@dataclass(frozen=True)
class ProbeSet:
    """What every cell is probed on.

    Attributes:
        prompts: problems posed as the online phase poses them.
        reward_prompts: the same as the reward models read them.
        heldout_prompts: the held-out problems, for entropy and KL over responses.
        references: by member and layer, its states over training pairs' prompts and chosen responses.
        reference_count: number of those pairs.
    """

    prompts: list[str]
    reward_prompts: list[str]
    heldout_prompts: list[str]
    references: dict[int, dict[str, ReferenceStates]]
    reference_count: int


def probe_set(
    params: Params, tasks: pd.DataFrame, heldout: pd.DataFrame, pairs: pd.DataFrame, ensemble: RewardEnsemble
) -> ProbeSet:
    """Draw the probe prompts and the reference pairs: the same for every beta, seed and arm."""
    drawn = probe_problems(params, tasks)
    rows = _draw(params, "probe-references", pairs, params.scale.probes.references)
    prompts, chosen = list(rows["prompt"]), list(rows["chosen"])
    references = {
        member: {
            layer: ReferenceStates.of(states_N_H)
            for layer, states_N_H in ensemble.representations(member, prompts, chosen).items()
        }
        for member in ensemble.members
    }
    return ProbeSet(
        prompts=posed(drawn["question"], params),
        reward_prompts=reward_prompts(drawn["question"], params),
        heldout_prompts=posed(heldout["question"], params),
        references=references,
        reference_count=len(rows),
    )


def probe_problems(params: Params, tasks: pd.DataFrame) -> pd.DataFrame:
    """The problems on which every policy is probed, of all those of the test split."""
    return _draw(params, "probe-prompts", tasks, params.scale.probes.prompts)


def _draw(params: Params, stream: str, table: pd.DataFrame, size: int | None) -> pd.DataFrame:
    count = min(len(table), probe_size(len(table)) if size is None else size)
    rows = rng.generator(params.root_seed, stream).choice(len(table), size=count, replace=False)
    return table.iloc[np.sort(rows)]


@dataclass
class Readings:
    """What there is to read of the policy that is active on ``model``: N prompts, R responses each, P held-out ones.

    A probe names what it reads: any attribute here. Betas of one seed draw responses from the same random stream.

    Attributes:
        model: a base with adapters, of which one is active.
        seed: training seed.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    ensemble: RewardEnsemble
    probes: ProbeSet
    params: Params
    seed: int

    @property
    def prompts(self) -> list[str]:
        """N problems, as the online phase poses them."""
        return self.probes.prompts

    @cached_property
    def repeated_prompts(self) -> list[str]:
        """The prompt of each response: N prompts, R times each."""
        return self._repeated(self.prompts)

    @cached_property
    def responses(self) -> list[str]:
        """N * R responses, those to one prompt together, drawn as the protocol says."""
        prompts = self.repeated_prompts
        seeds = rng.row_seeds(self.params.root_seed, "probe-responses", self.seed, rows=len(prompts))
        return sample_responses(self.model, self.tokenizer, prompts, self.params, seeds).texts

    @property
    def prompt_entropy_N(self) -> torch.Tensor:
        """(N,) entropy of each prompt's own tokens, given those before them (Eq. 11), nats per token."""
        return self._prompt_entropies[0]

    @property
    def prompt_and_next_entropy_N(self) -> torch.Tensor:
        """(N,) the same with the token that follows the prompt, nats per token."""
        return self._prompt_entropies[1]

    @property
    def response_entropy_P(self) -> torch.Tensor:
        """(P,) entropy of the next token over one response to each held-out problem, nats per token."""
        return self._response_entropy_and_kl[0]

    @property
    def response_kl_P(self) -> torch.Tensor:
        """(P,) KL(policy || base) over the same responses, nats per response."""
        return self._response_entropy_and_kl[1]

    @cached_property
    def states(self) -> dict[str, dict[str, MemberStates]]:
        """By reward member and layer, where it puts the responses."""
        return {
            str(member): {
                layer: MemberStates(states_NR_H, self.probes.references[member][layer], self._repeats)
                for layer, states_NR_H in self._representations(member).items()
            }
            for member in self.ensemble.members
        }

    @property
    def _repeats(self) -> int:
        return self.params.scale.probes.responses

    @cached_property
    def _prompt_entropies(self) -> tuple[torch.Tensor, torch.Tensor]:
        return prompt_entropies(self.model, self.tokenizer, self.prompts, self.params)

    @cached_property
    def _response_entropy_and_kl(self) -> tuple[torch.Tensor, torch.Tensor]:
        prompts = self.probes.heldout_prompts
        seeds: Sequence[int] = rng.row_seeds(self.params.root_seed, "probe-divergence", self.seed, rows=len(prompts))
        return response_entropy_and_kl(self.model, self.tokenizer, prompts, self.params, seeds)

    def _representations(self, member: int) -> dict[str, np.ndarray]:
        return self.ensemble.representations(member, self._repeated(self.probes.reward_prompts), self.responses)

    def _repeated(self, prompts: Sequence[str]) -> list[str]:
        return [prompt for prompt in prompts for _ in range(self._repeats)]
