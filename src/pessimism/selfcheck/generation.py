"""How much of the model's distribution can be sampled at all?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from pessimism.experiment import rng
from pessimism.models.compute.generation import sample_responses
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument

PROMPTS = 16
TRUNCATED = "reported only: sampling is truncated, so log-probs are of another distribution than was sampled"


@dataclass
class Recorder:
    """A model whose ``generate`` also keeps, for each drawn token, how much probability could not be drawn.

    Everything else is the model's own, so that what is measured is how the project samples, with every setting that
    the model's generation config adds.

    Attributes:
        unreachable: one (B, R) tensor per batch, in [0, 1], at temperature 1.
    """

    model: PeftModel
    unreachable: list[torch.Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, **options: Any) -> torch.Tensor:
        output = self.model.generate(**options, return_dict_in_generate=True, output_scores=True, output_logits=True)
        lost = [
            (logits_B_V.double().softmax(dim=-1) * scores_B_V.isneginf()).sum(dim=-1)
            for logits_B_V, scores_B_V in zip(output.logits, output.scores, strict=True)
        ]
        self.unreachable.append(torch.stack(lost, dim=1).cpu())
        return output.sequences


def check_kept_mass(instrument: Instrument) -> Finding:
    """Share of the policy's probability at temperature 1 within reach of the protocol's sampling, over response tokens.

    Truncated sampling passes with what it is: log-probs, KL and the policy gradient are then of another distribution
    than the one that responses come from. Sampling said to be full must reach everything.
    """
    params, recorder = instrument.params, Recorder(instrument.model)
    prompts = instrument.base.prompts[:PROMPTS]
    seeds = rng.row_seeds(params.root_seed, "selfcheck-kept-mass", rows=len(prompts))
    rollouts = sample_responses(recorder, instrument.tokenizer, prompts, params, seeds)
    rows = (row for batch_B_R in recorder.unreachable for row in batch_B_R)
    lost = torch.cat([row[: len(ids)] for row, ids in zip(rows, rollouts.response_ids, strict=True)])
    kept = 1 - float(lost.mean())
    figure = f"{kept:.6g} of the probability kept, mean over {len(lost)} tokens"
    if params.protocol.sampling == "full":
        return Finding(figure, "exactly 1: sampling is full", kept == 1)
    return Finding(figure, TRUNCATED, True)
