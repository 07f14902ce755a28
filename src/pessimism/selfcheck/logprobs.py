"""Are the log-probabilities of responses those of the model?"""

from __future__ import annotations

import copy

import torch
from peft import PeftModel

from pessimism.models.batching import evaluation_batch_size
from pessimism.models.generation import Rollouts
from pessimism.models.logprobs import ResponseBatch, response_logits, response_logps
from pessimism.online.rollout import response_batches
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument

RESPONSES = 8
TOLERANCE = 1e-4  # nats per token


def check_response_logps(instrument: Instrument) -> Finding:
    """Log-probs of a padded batch, as the loop takes them, against the same model in float64, row by row, unpadded.

    In float64 are all weights and products; the norms and rotary angles of transformers stay in float32. A bfloat16 or
    quantised model has no float64 twin whose difference were rounding alone: there the softmax of the same logits is
    taken in float64, which tries the softmax and the choice of tokens but not the padding.
    """
    rollouts, chosen = instrument.base.rollouts, instrument.params.scale.policy
    model, rows = instrument.model, range(min(RESPONSES, len(rollouts.response_ids)))
    size = evaluation_batch_size(instrument.params, "policy")
    batches = list(response_batches(rollouts, rollouts.response_ids, rows, instrument.tokenizer, model.device, size))
    whole = chosen.dtype == "float32" and chosen.quantization == "none"
    with torch.no_grad():
        measured_N = torch.cat([_real(response_logps(model, batch).logps_B_R, batch) for batch in batches])
        if whole:
            exact_N = _float64_logps(model, rollouts, rows)
        else:
            exact_N = torch.cat([_real(_float64_softmax(model, batch), batch) for batch in batches])
    error = float((measured_N - exact_N).abs().max())
    return Finding(
        figure=f"largest error {error:.1e} nats per token of {len(exact_N)}",
        criterion=f"at most {TOLERANCE:g} from " + ("the model in float64" if whole else "the softmax in float64"),
        passed=error <= TOLERANCE,
    )


def _real(values_B_R: torch.Tensor, batch: ResponseBatch) -> torch.Tensor:
    """(N,) values of the real tokens, response after response."""
    return values_B_R[batch.response_mask.bool()]


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
    """(B, R) log-probs whose softmax is taken in float64, of the logits that the loop takes it of.

    One response at a time: with a vocabulary of 150,000, all of them in float64 would fill a card of 24 GB.
    """
    targets_B_R_1 = batch.input_ids[:, -batch.response_mask.shape[1] :].unsqueeze(-1)
    rows = zip(response_logits(model, batch), targets_B_R_1, strict=True)
    return torch.stack(
        [logits_R_V.double().log_softmax(-1).gather(-1, targets_R_1).squeeze(-1) for logits_R_V, targets_R_1 in rows]
    )
