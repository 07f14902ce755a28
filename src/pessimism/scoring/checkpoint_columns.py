"""Columns about an offline checkpoint: its quality, what selection among its draws gives, what its probes declare."""

from __future__ import annotations

from pessimism.probes.parts.declaration import ProbeColumn, all_columns
from pessimism.scoring.column import Column
from pessimism.scoring.measures import CONTROLLED, PAPER

_OFFLINE = [
    Column(
        "dpo_win_rate",
        "share of held-out problems on which the checkpoint's response has the higher proxy reward than the base's; "
        "ties half",
        within="0 to 1",
        higher="offline quality A of Def. 6.1",
        heading="win rate over the base, proxy",
        compute=lambda found: found.win_rate,
    ),
    Column(
        "dpo_reward_accuracy",
        "share of validation pairs whose DPO margin is positive",
        within="0 to 1",
        higher="the other A",
        heading="accuracy of the implicit reward",
        compute=lambda found: found.reward_accuracy,
    ),
]

_BEST_OF_N = [
    Column(
        "best_of_n_gap",
        "best-of-n selection by the ensemble from the checkpoint: area between the gain of the proxy and that of the "
        "true reward over the KL ln n − (n−1)/n",
        unit="base sd × nats",
        hacking=+1,
        heading="gap of best-of-n",
        signed=True,
        measure=CONTROLLED,
        compute=lambda found: found.best_of_n.gap,
    ),
    Column(
        "best_of_n_gap_low",
        "lower end of the 95 % t interval of that gap over problems: what other problems and other draws would change, "
        "and nothing of what another training would",
        unit="base sd × nats",
        signed=True,
        measure=CONTROLLED,
        compute=lambda found: None if found.best_of_n.gap_interval is None else found.best_of_n.gap_interval.low,
    ),
    Column(
        "best_of_n_gap_high",
        "its upper end",
        unit="base sd × nats",
        signed=True,
        measure=CONTROLLED,
        compute=lambda found: None if found.best_of_n.gap_interval is None else found.best_of_n.gap_interval.high,
    ),
    Column(
        "best_of_n_augc",
        "the same by Eq. 2 and 3: baseline n = 1, the KL in the place of steps",
        unit="gap × nats",
        within="≥ 0",
        hacking=+1,
        heading="AUGC of best-of-n",
        measure=PAPER,
        compute=lambda found: found.best_of_n.paper_augc,
    ),
    Column(
        "best_of_n_proxy_gain",
        "gain of the proxy reward at the largest n",
        unit="base sd",
        within="≥ 0",
        higher="selection finds more proxy reward",
        heading="gain of the proxy",
        signed=True,
        measure=CONTROLLED,
        compute=lambda found: found.best_of_n.largest("proxy_gain"),
    ),
    Column(
        "best_of_n_true_gain",
        "gain of the true reward at the largest n",
        unit="base sd",
        higher="selection by the proxy finds more true reward",
        heading="gain of the true reward",
        signed=True,
        measure=CONTROLLED,
        compute=lambda found: found.best_of_n.largest("true_gain"),
    ),
]


def _of_probe(probe: ProbeColumn) -> list[Column]:
    """The column of the checkpoint, the same of its policy after the online run, and what was lost in between."""

    def column(name: str, meaning: str, higher: str, within: str, heading: str = "") -> Column:
        return Column(
            name,
            meaning,
            unit=probe.unit,
            within=within,
            higher=higher,
            heading=heading,
            measure=PAPER if probe.published else CONTROLLED,
            compute=lambda found: probe.values(found.record, found.protocol)[name],
        )

    before, after, *lost = probe.names
    columns = [
        column(before, probe.formula, probe.higher, probe.within, probe.heading),
        column(after, f"`{before}` after the online run", probe.higher, probe.within),
    ]
    return columns + [column(name, f"`{before}` minus `{after}`", "more of it lost online", "") for name in lost]


CHECKPOINT_COLUMNS = [*_OFFLINE, *_BEST_OF_N, *(column for probe in all_columns() for column in _of_probe(probe))]
