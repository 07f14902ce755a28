"""What a base model is: found once, loaded once to see that it is complete, and recorded for all that load it later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pessimism.data.hashing import content_hash
from pessimism.errors import PessimismError, SourceError, in_one_line
from pessimism.experiment import layout, records
from pessimism.experiment.params import ModelParams, Params
from pessimism.experiment.sections import section
from pessimism.machine.hub import hub_revision
from pessimism.models.compute.logprobs import token_logps
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.support import check_support

LOADERS = {"policy": load_policy_base, "reward": load_reward_base}
HEAD_TOKENS = 16
HEAD_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2}  # nats; bfloat16 holds logits of order 10 to 1/16
CAUSAL_TOLERANCE = 0.1  # share of the states' norm; in small models bfloat16 moves 0.004 of it, looking ahead 0.9


def record_base(params: Params, role: str) -> None:
    """Find the base of ``role``, load it as that role will, and write models/base/<role>.json.

    Its ``requested_revision`` (what the scale names) and ``revision`` (the commit that stood for) are set for a hub
    model only, its ``content_sha256`` for the others.

    Raises:
        SourceError: the model is missing or out of reach, cannot be that role, or does not load completely.
    """
    with section(params, role):
        identity = _identify(params.scale.model(role))
        check_support(params, role, identity["revision"])
        records.write_json(layout.base_record(role), identity)
        records.write_json(layout.base_record(role), identity | _describe(params, role))


def _identify(model: ModelParams) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "source": model.source,
        "name": model.name,
        "requested_revision": None,
        "revision": None,
        "content_sha256": None,
    }
    if model.source == "hub":
        commit = hub_revision("model", model.name, model.revision)
        return identity | {"requested_revision": model.revision, "revision": commit}
    directory = layout.BASE_WEIGHTS if model.source == "embedded" else Path(model.name)
    if not directory.is_dir():
        raise SourceError(
            f"found no directory {directory.absolute()}; expected one that holds a Hugging Face model: change `name`"
        )
    return identity | {"content_sha256": content_hash(directory)}


def _describe(params: Params, role: str) -> dict[str, Any]:
    try:
        model, tokenizer = LOADERS[role](params), load_tokenizer(params, role)
    except PessimismError:
        raise
    except Exception as error:
        raise SourceError(
            f"{params.scale.model(role).name!r} does not load as a {role}: {in_one_line(error)}; "
            "expected a complete Hugging Face causal language model: check `name`"
        ) from error
    check_finite(model)
    check_causal(model, tokenizer.pad_token_id)
    if role == "policy":
        check_head(model)
    return {
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "hidden_size": model.config.get_text_config().hidden_size,
        "vocabulary": model.config.get_text_config().vocab_size,
        "tokenizer": type(tokenizer).__name__,
        "tokenizer_vocabulary": len(tokenizer),
        "chat_template": bool(tokenizer.chat_template),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


@torch.no_grad()
def check_finite(model: PreTrainedModel) -> None:
    """Look at every weight: a row of the embedding that is no number would show with the first text that needs it.

    A block of 4-bit weights with one such value is unpacked as nothing else.

    Raises:
        SourceError: a weight is infinite or no number.
    """
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    bad = [name for name, weight in weights.items() if not _unpacked(weight).isfinite().all()]
    if bad:
        raise SourceError(
            f"found weights of {type(model).__name__} that are infinite or no number in {len(bad)} tensors, the first "
            f"{bad[0]!r}; expected finite ones: get the model's files again, or choose another as `name`"
        )


def _unpacked(weight: torch.Tensor) -> torch.Tensor:
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state)


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Compare log-probs of a few tokens with those of the model's own forward.

    Stages take them from the backbone's states and the head's weights. An architecture that scales its logits on the
    way would be measured wrong without a word.

    Raises:
        SourceError: they differ.
    """
    input_ids = torch.arange(HEAD_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
    found = token_logps(model, input_ids, torch.arange(HEAD_TOKENS, device=model.device)[None] > 0).logps_B_T[0, 1:]
    logits_T_V = model(input_ids=input_ids, use_cache=False).logits[0, :-1]
    expected = logits_T_V.double().log_softmax(dim=-1).gather(-1, input_ids[0, 1:, None])[:, 0]
    error = float((found - expected).abs().max())
    tolerance = HEAD_TOLERANCE[model.get_output_embeddings().weight.dtype]
    if not error <= tolerance:
        raise SourceError(
            f"found log-probs of {type(model).__name__} that differ by {error:.3g} nats from its own forward's; "
            f"expected at most {tolerance:g}, a head that is one linear layer: choose another model as `name`"
        )


@torch.no_grad()
def check_causal(model: PreTrainedModel, pad_id: int) -> None:
    """Compare the states of three tokens with those of the same three before padding that nothing masks.

    Stages pad on the right and mask nothing. A model that looks ahead would read the padding.

    Raises:
        SourceError: they differ.
    """
    tokens = [0, 1, 2]
    alone, padded = (
        model.base_model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state.float()
        for ids in (tokens, [*tokens, pad_id, pad_id])
    )
    change = float((padded[:, : len(tokens)] - alone).norm() / alone.norm())
    if not change <= CAUSAL_TOLERANCE:
        raise SourceError(
            f"found states of {type(model).__name__} that change by {change:.3g} of their norm where padding follows; "
            f"expected at most {CAUSAL_TOLERANCE:g}, a model that looks back alone: choose another model as `name`, or "
            "check is_causal in its config.json"
        )
