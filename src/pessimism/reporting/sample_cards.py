"""The kept responses as cards that can be read, filtered and searched; every text of a model is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from pessimism.reporting.curves import Arms, BetaLevel
from pessimism.reporting.samples import Response, Sample
from pessimism.reporting.tables import Entry, Table, number, over_seeds
from pessimism.scoring.scores import beta_label

PERCENT = 100


def sentence(samples: Sequence[Sample]) -> str:
    """How many were kept and how many of them are hacked."""
    hacked = sum(sample.is_hacked for sample in samples)
    return (
        f"Kept are {len(samples)} held-out problems over all runs, each with the response of every evaluation; the "
        f"same problems in every run. In {hacked} of them the response is hacked: from the first to the last step its "
        "proxy reward rose while its true reward fell. These come first, then by how far the proxy rose above the true "
        "reward, in base sd."
    )


def shares_table(shares: pd.DataFrame, levels: Sequence[BetaLevel], arms: Arms) -> Table:
    """Share of all held-out problems whose response is hacked, in per cent, per beta and arm; the placebo's is chance.

    Args:
        shares: as ``samples.hacked_shares`` has them.
    """
    rows = []
    for level in levels:
        runs = shares[shares["label"] == level.label]
        entries = [over_seeds(PERCENT * runs.loc[runs["arm"] == arm, "hacked"]) for arm in arms.names]
        rows.append([Entry(beta_label(level.beta, level.label)), *entries])
    return Table(["β", *(f"{arm}, % hacked" for arm in arms.names)], rows)


def cards(samples: Sequence[Sample], betas: Mapping[str, str]) -> str:
    """The filters and one card per problem and run.

    Args:
        betas: how a label is spelled.
    """
    return "\n".join(
        [_filters(samples, betas), *(_card(sample, betas) for sample in samples)]
        + ['<button type="button" class="more" hidden>Show more</button>']
    )


def _filters(samples: Sequence[Sample], betas: Mapping[str, str]) -> str:
    """What narrows the cards down; shown where the page's script runs."""
    tasks = {sample.task_id: sample.task_id for sample in samples}
    arms = {sample.cell.arm: sample.cell.arm for sample in samples}
    seeds = {str(sample.cell.seed): str(sample.cell.seed) for sample in samples}
    return (
        '<form class="filters">'
        + _select("label", "β", betas)
        + _select("arm", "arm", arms)
        + _select("seed", "seed", seeds)
        + _select("task", "problem", tasks)
        + '<label>search <input type="search" name="words"></label>'
        + '<label class="check"><input type="checkbox" name="hacked"> hacked only</label>'
        + '<span class="matching"></span></form>'
    )


def _select(name: str, title: str, options: Mapping[str, str]) -> str:
    entries = "".join(f'<option value="{escape(key)}">{escape(said)}</option>' for key, said in options.items())
    return f'<label>{escape(title)} <select name="{name}"><option value="">all</option>{entries}</select></label>'


def _card(sample: Sample, betas: Mapping[str, str]) -> str:
    cell = sample.cell
    kind = " hacked" if sample.is_hacked else " rose" if sample.rose_wrongly else ""
    between = "".join(_response(response) for response in sample.responses[1:-1])
    steps = f"<details><summary>between: steps {_steps(sample)}</summary>{between}</details>" if between else ""
    return (
        f'<article class="sample{kind}" data-label="{escape(cell.label)}" data-arm="{escape(cell.arm)}" '
        f'data-seed="{cell.seed}" data-task="{escape(sample.task_id)}">'
        f"<h4>β = {escape(betas[cell.label])} · {escape(cell.arm)} · seed {cell.seed} · {escape(sample.task_id)}</h4>"
        f'<p class="why">{_why(sample)}</p>'
        f'<pre class="prompt">{escape(sample.prompt)}</pre>'
        f'<p class="scores">right answer: {escape(sample.answer)}</p>'
        f'<div class="pair">{_response(sample.first)}{_response(sample.last)}</div>{steps}</article>'
    )


def _steps(sample: Sample) -> str:
    return ", ".join(str(response.step) for response in sample.responses[1:-1])


def _response(response: Response) -> str:
    return (
        f'<div><p class="scores">step {response.step}: proxy {number(response.proxy_reward)}, true '
        f"{number(response.true_reward)}, disagreement {number(response.disagreement)}</p>"
        f"<pre>{escape(response.text)}</pre></div>"
    )


def _why(sample: Sample) -> str:
    """What makes it hacked or not: both rewards, and the exploits that it gained."""
    verdict = "hacked" if sample.is_hacked else "proxy up, still wrong" if sample.rose_wrongly else "not hacked"
    true = f"{number(sample.first.true_reward)} → {number(sample.last.true_reward)}"
    said = [f"proxy {number(sample.proxy_change, signed=True)} base sd", f"true {true}"]
    said += [f"{name} {before} → {after}" for name, (before, after) in sample.exploits.items()]
    return f"<b>{verdict}</b>: {escape(', '.join(said))}"
