"""Columns about a DPO checkpoint, before its online run and after it (``_online``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pessimism.scoring.column import CHECKPOINTS, REPRESENTATIONS, Column
from pessimism.scoring.measures import CONTROLLED, PAPER
from pessimism.scoring.probing import Checkpoint, Probed

COSINE = "cosine distance"
FARTHER, DIVERSE = "farther from the reward model's data", "more diverse"

_OFFLINE = [
    Column(
        "dpo_win_rate",
        "share of held-out problems on which the checkpoint's response has the higher proxy reward than the base's; "
        "ties half",
        within="0 to 1",
        higher="offline quality A of Def. 6.1",
        heading="win rate over the base, proxy",
        shown={CHECKPOINTS: 4},
        compute=lambda found: found.win_rate,
    ),
    Column(
        "dpo_reward_accuracy",
        "share of validation pairs whose DPO margin is positive",
        within="0 to 1",
        higher="the other A",
        heading="accuracy of the implicit reward",
        shown={CHECKPOINTS: 5},
        compute=lambda found: found.reward_accuracy,
    ),
]

_ENTROPY = Column(
    "entropy",
    "Eq. 11 on the tokens that `entropy_tokens` names",
    unit="nats per token",
    within="≥ 0",
    higher="less certain",
    heading="entropy, {tokens} tokens",
    shown={CHECKPOINTS: 3},
    compute=lambda probed: probed.entropy,
)
_RESPONSE_ENTROPY = Column(
    "response_entropy",
    "Eq. 11 on the tokens of own responses to the held-out problems",
    unit="nats per response token",
    within="≥ 0",
    higher="less certain",
    heading="entropy, response tokens",
    shown={CHECKPOINTS: 2},
    compute=lambda probed: probed.of_policy("response_entropy"),
)
_AS_PUBLISHED = [
    Column(
        "ood_cosine_distance",
        "Eq. 12 in the layer and member(s) that the protocol names",
        unit=COSINE,
        within="0 to 2",
        higher=FARTHER,
        heading="cosine, paper's probe",
        shown={REPRESENTATIONS: 1},
        compute=lambda probed: probed.published("ood_cosine_distance"),
    ),
    Column(
        "response_diversity",
        "mean pairwise cosine distance of responses, as the protocol names",
        unit=COSINE,
        within="0 to 2",
        higher=DIVERSE,
        heading="diversity, paper's probe",
        shown={REPRESENTATIONS: 4},
        compute=lambda probed: probed.diversity,
    ),
]
_CONTROLLED = [
    Column(
        "ood_mahalanobis_distance",
        "distance to the centroid of Eq. 12 in units of the data's shrunk covariance (Ledoit and Wolf 2004), "
        "penultimate layer, mean over members",
        unit="standard deviations",
        within="≥ 0",
        higher=FARTHER,
        heading="Mahalanobis, all members",
        shown={REPRESENTATIONS: 2},
        compute=lambda probed: probed.over_members("ood_mahalanobis_distance"),
    ),
    Column(
        "ood_cosine_distance_all",
        "Eq. 12, penultimate layer, mean over members",
        unit=COSINE,
        within="0 to 2",
        higher=FARTHER,
        heading="cosine, all members",
        shown={REPRESENTATIONS: 3},
        compute=lambda probed: probed.over_members("ood_cosine_distance"),
    ),
    Column(
        "within_prompt_diversity",
        "mean pairwise cosine distance of several responses to one problem, penultimate layer, mean over members",
        unit=COSINE,
        within="0 to 2",
        higher=DIVERSE,
        heading="diversity within a prompt, all members",
        shown={REPRESENTATIONS: 5},
        compute=lambda probed: probed.over_members("diversity_within"),
    ),
    Column(
        "kl_to_base",
        "KL(policy ‖ base) over own responses from the full distribution, whole vocabulary at each token",
        unit="nats per response",
        within="≥ 0",
        higher="less conservative in fact",
        heading="KL to the base, nats per response",
        shown={CHECKPOINTS: 1},
        compute=lambda probed: probed.of_policy("kl_to_base"),
    ),
]


def _of(column: Column, policy: Callable[[Checkpoint], Probed]) -> Callable[[Checkpoint], float]:
    probe = column.compute
    assert probe is not None
    return lambda found: float(probe(policy(found)))


def _before_and_after(column: Column) -> list[Column]:
    """The column of the checkpoint, and the same of its policy after the online run."""
    online = replace(
        column, name=f"{column.name}_online", meaning=f"`{column.name}` after the online run", heading="", shown={}
    )
    return [
        replace(column, compute=_of(column, lambda found: found.before)),
        replace(online, compute=_of(column, lambda found: found.after)),
    ]


def _entropies(column: Column) -> list[Column]:
    """Entropy of the checkpoint, after its online run, and how much of it was lost in between."""
    before, after = _before_and_after(column)
    start, end = before.compute, after.compute
    assert start is not None and end is not None
    collapse = Column(
        f"{column.name}_collapse",
        f"`{column.name}_dpo` minus `{column.name}_online`",
        unit=column.unit,
        higher="more entropy lost online",
        compute=lambda found: start(found) - end(found),
    )
    online = replace(after, meaning=f"`{column.name}_dpo` after the online run")
    return [replace(before, name=f"{column.name}_dpo"), online, collapse]


def _of_measure(measure: str, entropy: Column, probes: list[Column]) -> list[Column]:
    pairs = [column for probe in probes for column in _before_and_after(probe)]
    return [replace(column, measure=measure) for column in (*_entropies(entropy), *pairs)]


CHECKPOINT_COLUMNS = [
    *_OFFLINE,
    *_of_measure(PAPER, _ENTROPY, _AS_PUBLISHED),
    *_of_measure(CONTROLLED, _RESPONSE_ENTROPY, _CONTROLLED),
]
