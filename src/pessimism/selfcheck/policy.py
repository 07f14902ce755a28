"""Is the policy measured as it is: its reference at the start, its log-probabilities, and what of it can be drawn?"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from pessimism.experiment import rng
from pessimism.models.compute.batching import evaluation_batch_size
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.compute.logprobs import ResponseBatch, response_logps
from pessimism.online.loop import HELDOUT
from pessimism.online.rollout import response_batch
from pessimism.selfcheck.instrument import Finding, Instrument

RESPONSES = 8  # whose log-probs are computed a second time
TOLERANCE = 1e-4  # nats per token
PROMPTS = 16  # whose responses are drawn with an eye on what cannot be drawn
TRUNCATED = "reported only: sampling is truncated, so log-probs are of another distribution than was sampled"


def check_kl_at_start(instrument: Instrument) -> Finding:
    """KL of the first held-out evaluation, whose two passes differ in nothing but which copy of one adapter is active.

    Anything above 0 is dropout or rounding, which kappa (Eq. 10) would amplify. k1 and k3 are both looked at: k3 alone
    vanishes where log-probs differ in their last digit, k1 alone might cancel.
    """
    row = next(row for row in instrument.placebo.rows if row["prompt_set"] == HELDOUT and row["step"] == 0)
    return Finding(
        figure=f"k1 {row['kl_k1']:.3g}, k3 {row['kl_k3']:.3g} nats over {row['prompts']} responses",
        criterion="both exactly 0",
        passed=row["kl_k1"] == 0 and row["kl_k3"] == 0,
    )


def check_response_logps(instrument: Instrument) -> Finding:
    """Log-probs of a padded batch, as the loop takes them, against the same model in float64, row by row, unpadded.

    In float64 are all weights and products; the rotary angles of transformers stay in float32, and its norms where
    they are not fused. A bfloat16 or quantised model has no float64 twin whose difference were rounding alone: there
    the softmax of the same logits is taken in float64, which tries softmax and choice of tokens, not padding.
    """
    rollouts, chosen = instrument.base.rollouts, instrument.params.scale.policy
    model, rows = instrument.model, range(min(RESPONSES, len(rollouts.response_ids)))
    size = evaluation_batch_size(instrument.params, "policy")
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    batches = [
        response_batch(rollouts, rollouts.response_ids, part, instrument.tokenizer, model.device) for part in parts
    ]
    whole = chosen.dtype == "float32" and chosen.quantization == "none"
    with torch.no_grad():
        measured_N = torch.cat([response_logps(model, batch).logps_B_T[batch.scored_B_T] for batch in batches])
        if whole:
            exact_N = _float64_logps(model, rollouts, rows)
        else:
            exact_N = torch.cat([_float64_softmax(model, batch) for batch in batches])
    error = float((measured_N - exact_N).abs().max())
    return Finding(
        figure=f"largest error {error:.1e} nats per token of {len(exact_N)}",
        criterion=f"at most {TOLERANCE:g} from " + ("the model in float64" if whole else "the softmax in float64"),
        passed=error <= TOLERANCE,
    )


def _float64_logps(model: PeftModel, rollouts: Rollouts, rows: range) -> torch.Tensor:
    """(N,) float64 log-probs of the responses of ``rows``, one after the other, each computed alone."""
    exact, logps = copy.deepcopy(model).double(), []
    for row in rows:
        prompt, response = rollouts.prompt_ids[row], rollouts.response_ids[row]
        logits_T_V = exact(input_ids=torch.tensor([prompt + response], device=model.device), use_cache=False).logits[0]
        targets_R_1 = torch.tensor(response, device=model.device, dtype=torch.long).unsqueeze(-1)
        logps.append(logits_T_V[len(prompt) - 1 : -1].log_softmax(dim=-1).gather(-1, targets_R_1).squeeze(-1))
    return torch.cat(logps)


def _float64_softmax(model: PeftModel, batch: ResponseBatch) -> torch.Tensor:
    """(N,) log-probs whose softmax is taken in float64, of the logits that the model's own forward gives.

    One response at a time: with a vocabulary of 150,000, all of them in float64 would fill a card of 24 GB.
    """
    logps = []
    for ids_T, scored_T, logits_T_V in zip(batch.input_ids, batch.scored_B_T, _logits(model, batch), strict=True):
        logps_R_V = logits_T_V[scored_T.roll(-1)].double().log_softmax(dim=-1)
        logps.append(logps_R_V.gather(-1, ids_T[scored_T].unsqueeze(-1)).squeeze(-1))
    return torch.cat(logps)


def _logits(model: PeftModel, batch: ResponseBatch) -> torch.Tensor:
    """(B, T, V) logits of the model's own forward."""
    return model(input_ids=batch.input_ids, use_cache=False).logits


@dataclass
class Recorder:
    """A model whose ``generate`` also keeps, for each drawn token, how much probability could not be drawn.

    Everything else is the model's own, so that what is measured is how the project samples, with all that transformers
    adds to it.

    Attributes:
        unreachable: one (B, R) tensor per batch, in [0, 1], at temperature 1.
    """

    model: PeftModel
    unreachable: list[torch.Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, generation_config: GenerationConfig, **options: Any) -> torch.Tensor:
        config = copy.deepcopy(generation_config)
        config.update(return_dict_in_generate=True, output_scores=True, output_logits=True)
        output = self.model.generate(generation_config=config, **options)
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
