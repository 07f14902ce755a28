"""Are the log-probabilities of responses those of the model?"""

from __future__ import annotations

import copy

import torch
from peft import PeftModel

from pessimism.models.compute.batching import evaluation_batch_size
from pessimism.models.compute.generation import Rollouts
from pessimism.models.compute.logprobs import ResponseBatch, response_logps
from pessimism.online.rollout import response_batch
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument

RESPONSES = 8
TOLERANCE = 1e-4  # nats per token


def check_response_logps(instrument: Instrument) -> Finding:
    """Log-probs of a padded batch, as the loop takes them, against the same model in float64, row by row, unpadded.

    In float64 are all weights and products; the rotary angles of transformers stay in float32, and its norms where
    they are not fused. A bfloat16 or
    quantised model has no float64 twin whose difference were rounding alone: there the softmax of the same logits is
    taken in float64, which tries the softmax and the choice of tokens but not the padding.
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
