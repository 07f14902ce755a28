"""Columns about a measured step of a run, which the online loop writes: plots/goodhart_gap.csv, heldout_rewards.csv."""

from __future__ import annotations

import numpy as np

from pessimism.measures.trends import pearson
from pessimism.scoring.column import Column
from pessimism.scoring.measured import REWARDS

MEASURED_COLUMNS = [
    Column(
        "proxy_reward",
        "mean over prompts of the ensemble's aggregated reward: logits, or member sds under `normalize_rewards`",
        unit="reward",
    ),
    Column("proxy_reward_sd", "its standard deviation over prompts", unit="reward", within="≥ 0"),
    Column("true_reward", "the task's strict verdict: exact match of the number after `####`", within="0 to 1"),
    Column("true_reward_sd", "its standard deviation over prompts", within="≥ 0"),
    Column("ensemble_std", "û of Eq. 13, mean over prompts", unit="reward", within="≥ 0", higher="more disagreement"),
    Column(
        "kl_k1",
        "as `final_kl_k1`; of the trained token ids in a batch, of the sampled ones on held-out problems",
        unit="nats per response",
    ),
    Column("kl_k3", "as `final_kl_k3`, likewise", unit="nats per response"),
    Column("entropy", "entropy of the next token over the responses", unit="nats per token", within="≥ 0"),
    Column("response_length", "tokens of a response with EOS", unit="tokens"),
    Column("finished_fraction", "share of the responses that ended by themselves", within="0 to 1"),
    Column("run_on_fraction", "share of the responses with text after their answer", within="0 to 1"),
]
"""Of every batch and of every evaluation on the held-out problems."""

VERDICT_COLUMNS = [
    Column("true_reward_flexible", "the task's verdict of that name: exact match of the last number", within="0 to 1"),
]
"""Likewise, where the task has the verdict; one of another name has a column ``true_reward_<name>``."""

EVALUATED_COLUMNS = [
    Column(
        "proxy_true_correlation",
        "correlation of the two rewards over the held-out problems, one response each; none where one reward is the "
        "same for all",
        unit="Pearson r",
        within="−1 to 1",
        higher="the proxy still tells right from wrong answers",
        compute=lambda curves: proxy_true_correlation(*(curves.prompt_T_N[reward] for reward in REWARDS)),
    ),
]
"""Of evaluations on the held-out problems only: (T,) values from their ``Curves``."""


def proxy_true_correlation(proxy_T_N: np.ndarray, true_T_N: np.ndarray) -> np.ndarray:
    """(T,) Pearson correlation of the rewards over N problems; nan where one of them does not vary."""
    rows = (pearson(proxy_N, true_N) for proxy_N, true_N in zip(proxy_T_N, true_T_N, strict=True))
    return np.array([np.nan if found is None else found for found in rows])


UPDATED_COLUMNS = [
    Column("kappa", "κ of Eq. 10", unit="1/nats"),
    Column("loss", "loss of Eq. 8", unit="nats"),
    Column("penalty_ratio", "mean of 2κ\\|log-ratio\\| over mean \\|advantage\\|"),
]
"""Of batches only."""
