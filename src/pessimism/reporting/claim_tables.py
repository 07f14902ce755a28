"""The claims with their verdicts, and sentences that count them. They come from metrics/claims.json."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pessimism.claims.verdicts import DIRECTIONS, EITHER, FALLS, RISES, Outcome
from pessimism.claims.wording import listed, spelled
from pessimism.experiment.params import Ensembles
from pessimism.published import printed
from pessimism.reporting.tables import NONE, Entry, Table, bounds, count, lines, number, p_value
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER

Claims = Mapping[str, Mapping[str, Any]]
BY = {PAPER: "the paper's measure", CONTROLLED: "the controlled measure"}
THIS_WORLD = {
    "per_seed": "Every verdict is in this world: one base policy and one data set, which all runs share. Seeds repeat "
    "the training alone, each with a reward ensemble of its own, so their spread cannot show what another base or data "
    "set would give.",
    "shared": "Every verdict is in this world: one base policy, one reward ensemble and one data set, which all runs "
    "share. Seeds repeat the training alone, so their spread cannot show what another base, ensemble or data set would "
    "give.",
}
"""What the seeds of a design have in common, by its ``ensembles``."""
WORDS = {Outcome.SUPPORTED: "supported", Outcome.CONTRADICTED: "contradicted", Outcome.INSUFFICIENT: "open"}
SYMBOLS = {"b": "b = ", "beta_star": "β* = "}
MOST_SPELLED = 100_000
PUBLISHED_FORMS = {
    "entropy_collapse": ("entropy lost online", "+.4f"),
    "response_diversity": ("diversity", ".3f"),
    "uq_gap_correlation": ("correlations", "+.2f"),
}
"""Words and format of the published numbers of a column; of any other, its name and three digits."""
JUDGED_BY = {
    "by the paper's AUGC and by the controlled signed AUGC above the placebo": [
        ("augc", "controlled_signed_augc_excess")
    ],
    "by the onsets": [("onset_step", "controlled_onset_step")],
    "by the AUGC of each measure": [("b", "b"), ("beta_star", "beta_star")],
}
"""How a sentence puts it that claims are about these quantities, by the paper's and by the controlled measure."""


def in_order(claims: Claims) -> list[str]:
    """The paper's claims by number, C1 first, then ours, B1 first."""
    return sorted(claims, key=lambda name: (not name.startswith("C"), int(name[1:])))


def about(claims: Claims, quantity: str) -> list[str]:
    """Names of the claims that are about this quantity by either measure."""
    return [name for name in in_order(claims) if quantity in _quantities(claims[name])]


def _quantities(claim: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(claim[measure]["quantity"]) for measure in MEASURES)


def verdict_sentence(claims: Claims, ensembles: Ensembles) -> str:
    """What verdicts are about, what became of the primary claim, and how many claims hold under each measure, which."""
    said = (verdicts_by(claims, measure) for measure in MEASURES)
    return " ".join([THIS_WORLD[ensembles], primary_sentence(claims), *said])


def primary_sentence(claims: Claims) -> str:
    """The verdict on the claim that was named before the runs, with its p in either direction."""
    for name in in_order(claims):
        for measure in MEASURES:
            found = claims[name][measure]
            if found["role"] == "primary":
                ps = (
                    f"p {p_value(found['p'])} in the paper's direction, {p_value(found['p_opposite'])} in the other"
                    if found["p"] is not None
                    else str(found["reason"])
                )
                return f"The primary claim, {name} by {BY[measure]}, is {WORDS[found['verdict']]} ({ps})."
    return "No claim is primary."


def verdicts_by(claims: Claims, measure: str) -> str:
    named = {outcome: with_outcome(claims, measure, outcome) for outcome in Outcome}
    supported, contradicted, open_ = (
        named[outcome] for outcome in (Outcome.SUPPORTED, Outcome.CONTRADICTED, Outcome.INSUFFICIENT)
    )
    return (
        f"By {BY[measure]} these runs support {len(supported)} of {len(claims)} claims{_named(supported)}, "
        f"contradict {len(contradicted)}{_named(contradicted)} and leave {len(open_)} open."
    )


def _named(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def with_outcome(claims: Claims, measure: str, outcome: Outcome) -> list[str]:
    return [name for name in in_order(claims) if claims[name][measure]["verdict"] == outcome]


def design_sentence(design: Mapping[str, Any], claims: Claims) -> str:
    """What the numbers of betas and seeds can show at all."""
    size = f"{count(design['betas'], 'beta')} and {count(design['seeds'], 'seed')}"
    smallest, adjusted = design["smallest_p"], design["smallest_adjusted_p"]
    if smallest is None:
        return f"{size} have no trend to test."
    family, alpha = design["claims_in_family"], design["alpha"]
    if not design["can_support_the_primary_claim"]:
        able = (
            f"Both are above {number(alpha)}: no trend claim can be supported or contradicted, whatever the runs show"
        )
    elif not design["can_support_a_claim"]:
        able = f"The latter is above {number(alpha)}: only the primary claim can be supported or contradicted"
    else:
        later = "" if design["can_support_a_two_sided_claim"] else _later(claims)
        able = f"At most {number(alpha)}, so that a clear trend can be told from chance{later}"
    paired = "within each seed" if design["paired_seeds"] else "between betas"
    return (
        f"With {size} the smallest p of a permutation {paired} is {_fraction(smallest)}; over {family} secondary "
        f"claims (Holm) it becomes {p_value(adjusted)}. {able}."
    )


def _later(claims: Claims) -> str:
    """Which claims have twice the smallest p, because they state both directions."""
    names = [name for name in in_order(claims) if claims[name]["predicted"] == DIRECTIONS[EITHER]]
    return f" (a two-sided one, {listed(names)}, only after others are supported)" if names else ""


def _fraction(p: float) -> str:
    """1/216 = 0.00463; the fraction only while a reader can picture it."""
    return f"1/{round(1 / p)} = {number(p)}" if 1 / p <= MOST_SPELLED else p_value(p)


def power_sentence(claims: Claims) -> str:
    """Seeds that would settle the open claims, where the observed trends are the true ones."""
    parts = []
    for measure in MEASURES:
        needed = [
            f"{name} {seeds_needed(claims[name][measure])}"
            for name in with_outcome(claims, measure, Outcome.INSUFFICIENT)
            if isinstance(claims[name][measure].get("seeds_needed"), int)
        ]
        if needed:
            parts.append(f"by {BY[measure]} {', '.join(needed)}")
    if not parts:
        return "For no open claim do the observed trends give a number of seeds that would settle it."
    return (
        "Seeds that would settle open claims with power 0.8, for or against, if the observed trends are the true ones: "
        f"{'; '.join(parts)}. The other open claims have no such number (last column of the tests below)."
    )


def seeds_needed(found: Mapping[str, Any]) -> str:
    """The number, or why there is none; with the verdict that it would bring where that is against the claim."""
    against = found.get("seeds_needed_for") == Outcome.CONTRADICTED
    return f"{found.get('seeds_needed', NONE)}{' to contradict it' if against else ''}"


def published_sentences(claims: Claims) -> str:
    """Where the published numbers contradict the published text."""
    against = [name for name in in_order(claims) if _published_against(claims[name])]
    named = listed([f"{name} ({_published(str(claims[name][PAPER]['quantity']))})" for name in against])
    return (
        f"The paper's own numbers, from low to high β, go against {spelled(len(against))} of its claims: {named}. Its "
        "section 7.1 reads a negative gap as the proxy overestimating; by its Eq. 2 the proxy overestimates where the "
        "gap is positive, which is how it is read here."
    )


def _published_against(claim: Mapping[str, Any]) -> bool:
    """Whether a published number goes the other way from one beta to the next."""
    values = printed.over_betas(str(claim[PAPER]["quantity"]))
    steps = [after - before for before, after in pairwise(values)]
    return (claim["predicted"] == DIRECTIONS[RISES] and any(step < 0 for step in steps)) or (
        claim["predicted"] == DIRECTIONS[FALLS] and any(step > 0 for step in steps)
    )


def _published(column: str) -> str:
    words, form = PUBLISHED_FORMS.get(column, (column, ".3g"))
    return f"{words} {', '.join(format(value, form) for value in printed.over_betas(column))}"


def judged_by_sentence(claims: Claims) -> str:
    """Which claims the AUGC and the onsets decide."""
    names = {
        words: [name for name in in_order(claims) if _quantities(claims[name]) in quantities]
        for words, quantities in JUDGED_BY.items()
    }
    (words, first), *others = [(words, found) for words, found in names.items() if found]
    subject = f"Claim {first[0]} is" if len(first) == 1 else f"Claims {listed(first)} are"
    return ", ".join([f"{subject} judged {words}", *(f"{listed(found)} {words}" for words, found in others)]) + "."


def judging_columns(claims: Claims, columns: Mapping[str, str]) -> str:
    """Which of a table's columns, given by heading, a claim is about: the others describe and do not decide."""
    judging = [
        f"{heading} ({listed(about(claims, column))})" for heading, column in columns.items() if about(claims, column)
    ]
    return f"Of these, claims are judged only by {listed(judging)}." if judging else "No claim is judged by these."


def claims_table(claims: Claims) -> Table:
    """One row per claim: what each measure says of it."""
    rows = []
    for name in in_order(claims):
        claim = claims[name]
        row = [Entry(name), Entry(str(claim["statement"]), str(claim["note"]))]
        for measure in MEASURES:
            row += _judged(claim[measure], two_sided=claim["predicted"] == DIRECTIONS[EITHER])
        rows.append(row)
    headers = ["", "claim", *["verdict", "highest β minus lowest", "ρ", "p"] * len(MEASURES)]
    return Table(headers, rows, groups=[("", 2), *[(BY[measure], 4) for measure in MEASURES]])


def _judged(found: Mapping[str, Any], two_sided: bool) -> list[Entry]:
    verdict = str(found["verdict"])
    role = "primary claim" if found["role"] == "primary" else ""
    return [
        Entry(WORDS[Outcome(verdict)], lines(role, str(found["reason"])), mark=verdict),
        _estimate(found),
        Entry(number(found.get("trend_correlation"), signed=True)),
        _adjusted_p(found, two_sided),
    ]


def _estimate(found: Mapping[str, Any]) -> Entry:
    symbol = SYMBOLS.get(found["quantity"])
    if found["estimate"] is None:
        missing = "" if symbol or found["reason"] else "a run has no finite value"
        return Entry(NONE, missing)
    value = number(found["estimate"], signed=symbol is None)
    unit = "" if symbol else str(found["unit"])
    return Entry(f"{symbol or ''}{value}", lines(bounds(found["interval"]), unit))


def _adjusted_p(found: Mapping[str, Any], two_sided: bool) -> Entry:
    """Holm-adjusted in the paper's direction, and under it in the opposite one, or why there is none."""
    if found["p_adjusted"] is None:
        return Entry(NONE)
    opposite = found["p_opposite_adjusted"]
    if opposite is None:
        return Entry(p_value(found["p_adjusted"]), "two-sided" if two_sided else "this direction alone")
    return Entry(p_value(found["p_adjusted"]), f"opposite {p_value(opposite)}" if opposite < 1 else "")


def tests_table(claims: Claims) -> Table:
    """What stands behind each verdict: the quantity, the test, its p before the family counts, the seeds needed."""
    rows = []
    for name in in_order(claims):
        for measure in MEASURES:
            found = claims[name][measure]
            rows.append(
                [
                    Entry(name),
                    Entry(measure),
                    Entry(str(found["quantity"]), str(found["unit"])),
                    Entry(str(found["test"]), lines(_guard(found), _mean(found))),
                    Entry(p_value(found["p"])),
                    Entry(p_value(found["p_opposite"])),
                    Entry(seeds_needed(found)),
                ]
            )
    headers = ["", "measure", "quantity", "test", "p", "p, opposite", "seeds for power 0.8"]
    return Table(headers, rows)


def _guard(found: Mapping[str, Any]) -> str:
    guard = found.get("guard")
    return "" if guard is None else f"and the same of {guard}"


def _mean(found: Mapping[str, Any]) -> str:
    mean = found.get("mean")
    return "" if mean is None else f"mean {number(mean, True)} {bounds(found['mean_interval'])}"
