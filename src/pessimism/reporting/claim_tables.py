"""The claims with their verdicts, and sentences that count them. Everything is read from metrics/claims.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.claims.verdicts import Outcome
from pessimism.published import printed
from pessimism.reporting.tables import NONE, Entry, Table, bounds, count, lines, number, p_value
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER

Claims = Mapping[str, Mapping[str, Any]]
BY = {PAPER: "the paper's measure", CONTROLLED: "the controlled measure"}
SYMBOLS = {"b": "b = ", "beta_star": "β* = "}
MOST_SPELLED = 100_000


def in_order(claims: Claims) -> list[str]:
    """C1 to C10, by number."""
    return sorted(claims, key=lambda name: int(name[1:]))


def verdict_sentence(claims: Claims) -> str:
    """How many claims hold under each measure, which, and what became of the others."""
    return " ".join(verdicts_by(claims, measure) for measure in MEASURES)


def verdicts_by(claims: Claims, measure: str) -> str:
    named = {outcome: with_outcome(claims, measure, outcome) for outcome in Outcome}
    supported, contradicted, open_ = (
        named[outcome] for outcome in (Outcome.SUPPORTED, Outcome.CONTRADICTED, Outcome.INSUFFICIENT)
    )
    return (
        f"By {BY[measure]} these runs support {len(supported)} of the paper's {len(claims)} claims{_named(supported)}, "
        f"contradict {len(contradicted)}{_named(contradicted)} and leave {len(open_)} open."
    )


def _named(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def with_outcome(claims: Claims, measure: str, outcome: Outcome) -> list[str]:
    return [name for name in in_order(claims) if claims[name][measure]["verdict"] == outcome]


def design_sentence(design: Mapping[str, Any]) -> str:
    """What the numbers of betas and seeds can show at all."""
    size = f"{count(design['betas'], 'beta')} and {count(design['seeds'], 'seed')}"
    smallest, adjusted = design["page_smallest_p"], design["page_smallest_adjusted_p"]
    if smallest is None:
        return f"{size} have no trend to test."
    family, alpha = design["claims_in_family"], design["alpha"]
    two_sided = (
        "" if design["can_support_a_two_sided_claim"] else " (a two-sided one, C5, only after others are supported)"
    )
    able = (
        f"at most {number(alpha)}, so a trend that is the same in every seed can be told from chance{two_sided}"
        if design["can_support_a_claim"]
        else f"above {number(alpha)}: no trend claim can be supported or contradicted, whatever the runs show"
    )
    return (
        f"With {size} the smallest p of Page's exact test is {_fraction(smallest)}; over the family of {family} claims "
        f"(Holm) it becomes {p_value(adjusted)}, {able}."
    )


def _fraction(p: float) -> str:
    """1/216 = 0.00463; the fraction only while a reader can picture it."""
    return f"1/{round(1 / p)} = {number(p)}" if 1 / p <= MOST_SPELLED else p_value(p)


def power_sentence(claims: Claims) -> str:
    """Seeds that the open claims would need, where the observed trends are the true ones."""
    parts = []
    for measure in MEASURES:
        needed = [
            f"{name} {claims[name][measure]['seeds_needed']}"
            for name in with_outcome(claims, measure, Outcome.INSUFFICIENT)
            if isinstance(claims[name][measure].get("seeds_needed"), int)
        ]
        if needed:
            parts.append(f"by {BY[measure]} {', '.join(needed)}")
    if not parts:
        return "For no open claim do the observed trends give a number of seeds that would settle it."
    return (
        f"Seeds that open claims need for power 0.8, if the observed trends are the true ones: {'; '.join(parts)}. "
        "The other open claims have no such number (last column of the tests below)."
    )


def published_sentences() -> str:
    """Where the published numbers contradict the published text."""

    def listed(name: str, form: str) -> str:
        return ", ".join(format(getattr(row, name), form) for row in printed.BETAS)

    return (
        f"The paper's own numbers, from low to high β, go against three of its claims: C3 (entropy lost online "
        f"{listed('entropy_collapse', '+.4f')}), C4 (diversity {listed('response_diversity', '.3f')}) and C8 "
        f"(correlations {listed('uq_gap_correlation', '+.2f')}). Its section 7.1 reads a negative gap as the proxy "
        "overestimating; by its Eq. 2 the proxy overestimates where the gap is positive, which is how it is read here."
    )


def claims_table(claims: Claims) -> Table:
    """One row per claim: what each measure says of it."""
    rows = []
    for name in in_order(claims):
        claim = claims[name]
        row = [Entry(name), Entry(str(claim["statement"]), str(claim["note"]))]
        for measure in MEASURES:
            row += _judged(claim[measure])
        rows.append(row)
    headers = ["", "claim", *["verdict", "highest β minus lowest", "ρ", "p"] * len(MEASURES)]
    return Table(headers, rows, groups=[("", 2), *[(BY[measure], 4) for measure in MEASURES]])


def _judged(found: Mapping[str, Any]) -> list[Entry]:
    verdict = str(found["verdict"])
    return [
        Entry(verdict, str(found["reason"]), mark=verdict),
        _estimate(found),
        Entry(number(found.get("trend_correlation"), signed=True)),
        _adjusted_p(found),
    ]


def _estimate(found: Mapping[str, Any]) -> Entry:
    symbol = SYMBOLS.get(found["quantity"])
    if found["estimate"] is None:
        missing = "" if symbol or found["reason"] else "a run has no finite value"
        return Entry(NONE, missing)
    value = number(found["estimate"], signed=symbol is None)
    unit = "" if symbol else str(found["unit"])
    return Entry(f"{symbol or ''}{value}", lines(bounds(found["interval"]), unit))


def _adjusted_p(found: Mapping[str, Any]) -> Entry:
    """Holm-adjusted in the paper's direction, and under it in the opposite one."""
    if found["p_adjusted"] is None:
        return Entry(NONE)
    opposite = found["p_opposite_adjusted"]
    other = "two-sided" if opposite is None else f"opposite {p_value(opposite)}" if opposite < 1 else ""
    return Entry(p_value(found["p_adjusted"]), other)


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
                    Entry(str(found["test"]), _mean_correlation(found)),
                    Entry(p_value(found["p"])),
                    Entry(p_value(found["p_opposite"])),
                    Entry(p_value(found.get("jonckheere_p"))),
                    Entry(str(found.get("seeds_needed", NONE))),
                ]
            )
    headers = ["", "measure", "quantity", "test", "p", "p, opposite", "p, Jonckheere", "seeds for power 0.8"]
    return Table(headers, rows)


def _mean_correlation(found: Mapping[str, Any]) -> str:
    mean = found.get("mean_correlation")
    return "" if mean is None else f"mean over seeds {number(mean, True)} {bounds(found['mean_correlation_interval'])}"
