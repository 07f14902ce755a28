"""Log-probabilities of preference pairs under the frozen base, measured once for all betas and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import EncodedPair, encode_pair, encode_reward_text
from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import rng
from pessimism.experiment.params import Params
from pessimism.experiment.progress import in_steps
from pessimism.models.compute.batching import evaluation_tokens, token_batches
from pessimism.models.compute.length_groups import pair_states
from pessimism.models.compute.logprobs import ROWS, capped_logits, hidden_states, score_positions, spread
from pessimism.models.compute.padding import pad_right
from pessimism.models.compute.prefix_sharing import shares_prefixes
from pessimism.models.hyperparameters import beta_grid_pairs
from pessimism.models.unfinished import KeptResults

ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
REFERENCE_COLUMNS = ("pair_id", "split", *ID_COLUMNS, "chosen_logps", "rejected_logps")


def encode_pairs(tokenizer: PreTrainedTokenizerBase, pairs: pd.DataFrame, params: Params) -> list[EncodedPair]:
    """Token ids of every pair in the format DPO trains on, in the table's order."""
    rows = zip(pairs["prompt"], pairs["chosen"], pairs["rejected"], strict=True)
    return [encode_pair(tokenizer, *row, lengths=params.scale.lengths, protocol=params.protocol) for row in rows]


def pair_logps(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    budget: int,
    description: str,
    kept: KeptResults | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) summed log-probabilities of the chosen and of the rejected responses given their prompts, float32 nats.

    A pair is computed in one row where the model allows it, as in training (models.compute.prefix_sharing).

    Args:
        budget: padded tokens per forward pass; a single pair may take up to twice the longest text.
        description: of the progress bar.
        kept: the batches that are done already, and those that will be.
    """
    sequences = [pair.prompt_ids + pair.chosen_ids for pair in pairs]
    sequences += [pair.prompt_ids + pair.rejected_ids for pair in pairs]
    contexts, batches = 2 * [len(pair.prompt_ids) for pair in pairs], None
    if shares_prefixes(model):
        lengths = [len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs]
        batches = [[*rows, *(row + len(pairs) for row in rows)] for rows in token_batches(lengths, budget)]
    logps = sequence_logps(model, sequences, contexts, pad_id, budget, description, pairs_in=batches, kept=kept)[:, 0]
    return logps[: len(pairs)], logps[len(pairs) :]


def dpo_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    splits: dict[str, pd.DataFrame],
    params: Params,
    kept: KeptResults | None = None,
) -> pd.DataFrame:
    """Reference term of Eq. 1 for every pair of every split; columns REFERENCE_COLUMNS.

    The token ids are stored with it: whoever trains on the pairs feeds what was measured here.
    """
    tables = []
    for split, table in splits.items():
        pairs = encode_pairs(tokenizer, table, params)
        budget = evaluation_tokens(params, "policy")
        name = f"reference log-probs of {split}"
        chosen, rejected = pair_logps(model, pairs, tokenizer.pad_token_id, budget, name, kept)
        tables.append(
            pd.DataFrame(
                {
                    "pair_id": table["pair_id"].to_numpy(),
                    "split": split,
                    **{column: [getattr(pair, column) for pair in pairs] for column in ID_COLUMNS},
                    "chosen_logps": chosen,
                    "rejected_logps": rejected,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def grid_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: pd.DataFrame,
    params: Params,
    kept: KeptResults | None = None,
) -> pd.DataFrame:
    """Log-probabilities that the beta grid is made of, as published: plain text, prompt and response together.

    Measured on floor(sqrt(n) ln n) shuffled training pairs; the first token of a text has no predecessor and no share.
    Columns pair_id and, for chosen and rejected, ``_float32``, ``_bfloat16`` and ``_tokens``.
    """
    scale = params.scale
    order = rng.generator(params.root_seed, "beta-grid").permutation(len(train))
    drawn = train.iloc[order[: max(1, beta_grid_pairs(len(train)))]]
    columns: dict[str, object] = {"pair_id": drawn["pair_id"].to_numpy()}
    for side in ("chosen", "rejected"):
        texts = zip(drawn["prompt"], drawn[side], strict=True)
        sequences = [encode_reward_text(tokenizer, prompt, text, scale.lengths) for prompt, text in texts]
        logps = sequence_logps(
            model,
            sequences,
            [1] * len(sequences),
            tokenizer.pad_token_id,
            evaluation_tokens(params, "policy"),
            f"beta grid log-probs of {side}",
            dtypes=(torch.float32, torch.bfloat16),
            kept=kept,
        )
        columns[f"{side}_float32"] = logps[:, 0]
        columns[f"{side}_bfloat16"] = logps[:, 1]
        columns[f"{side}_tokens"] = [len(sequence) for sequence in sequences]
    return pd.DataFrame(columns)


def sequence_logps(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    contexts: Sequence[int],
    pad_id: int,
    budget: int,
    description: str,
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    pairs_in: list[list[int]] | None = None,
    kept: KeptResults | None = None,
) -> np.ndarray:
    """Sum of log p(token | all before it) over each sequence's tokens after its context.

    Args:
        sequences: token ids, each longer than its context.
        contexts: number of leading tokens that are given rather than scored; at least 1.
        budget: padded tokens per forward pass.
        description: of the progress bar.
        dtypes: of log-softmax and sum.
        pairs_in: the sequences of every batch, the first ones of all its pairs and then the second ones in the same
            order, of which each pair is one row; None = each sequence is one, in batches under the budget.
        kept: the batches that are done already, and those that will be, named by the description and their place.

    Returns:
        (N, D) nats, one column per dtype.

    Raises:
        DataError: a sequence has no token to score.
        NonFiniteError: a sum is not finite.
    """
    lengths = [len(ids) for ids in sequences]
    empty = [row for row, context in enumerate(contexts) if not 0 < context < lengths[row]]
    if empty:
        raise DataError(
            f"{description}: found no token after the context in sequences {empty[:5]}; expected at least 1: raise "
            "lengths.sequence or look for empty texts"
        )
    sums_N_D = np.full((len(sequences), len(dtypes)), np.nan, dtype=np.float32)
    with torch.no_grad():
        batches = token_batches(lengths, budget) if pairs_in is None else pairs_in
        for place, rows in enumerate(in_steps(batches, description)):
            batch, given = [sequences[row] for row in rows], [contexts[row] for row in rows]
            sums = partial(_batch_sums, model, batch, given, pad_id, dtypes, one_row=pairs_in is not None)
            sums_N_D[rows] = sums() if kept is None else kept.result(f"{description}, batch {place}", sums)
    bad = np.flatnonzero(~np.isfinite(sums_N_D).all(axis=1))
    if bad.size:
        raise NonFiniteError(
            f"{description}: found no finite sum in sequences {bad[:5].tolist()}; expected finite nats: set "
            "policy.dtype to float32, and check the weights under policy.name"
        )
    return sums_N_D


def _batch_sums(
    model: PreTrainedModel,
    sequences: list[Sequence[int]],
    contexts: list[int],
    pad_id: int,
    dtypes: Sequence[torch.dtype],
    one_row: bool,
) -> np.ndarray:
    """(B, D) sums over one padded batch."""
    input_ids, attention_mask = pad_right(sequences, pad_id, model.device)
    after_context_B_T = torch.arange(input_ids.shape[1]) >= torch.tensor(contexts)[:, None]
    scored_B_T = attention_mask.bool() & after_context_B_T.to(model.device)
    states_B_T_H = (
        pair_states(model, input_ids, list(map(len, sequences))) if one_row else hidden_states(model, input_ids)
    )
    hidden_N_H = states_B_T_H[scored_B_T.roll(-1, dims=1)]
    sums = []
    for dtype in dtypes:
        logps_N = _logps(model, hidden_N_H, input_ids[scored_B_T], dtype)
        sums.append(spread(logps_N, scored_B_T).sum(dim=1).float())
    return torch.stack(sums, dim=1).cpu().numpy()


def _logps(
    model: PreTrainedModel, hidden_N_H: torch.Tensor, targets_N: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """(N,) log-probabilities whose softmax is taken in ``dtype``."""
    if dtype == torch.float32:
        logps_N, *_ = score_positions(model, hidden_N_H, targets_N, outputs=())
        return logps_N
    logps = []
    for hidden_R_H, targets_R in zip(hidden_N_H.split(ROWS), targets_N.split(ROWS), strict=True):
        logps_R_V = capped_logits(model, hidden_R_H).to(dtype).log_softmax(dim=-1)
        logps.append(logps_R_V.gather(-1, targets_R.unsqueeze(-1)).squeeze(-1))
    return torch.cat(logps)
