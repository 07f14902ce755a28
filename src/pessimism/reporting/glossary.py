"""The page's words that a reader may not know: explained where they first stand in a section, and in one list."""

from __future__ import annotations

import re
from html import escape

TERMS = {
    "β": "Strength of the offline objective: how dearly a distance from the reference is paid for. Higher = more "
    "conservative.",
    "proxy reward": "What the online run is trained on: the reward models' score of a response.",
    "true reward": "What is wanted: whether the answer is right, by a verifier that no run is trained on.",
    "Goodhart gap": "How much more the proxy reward has risen than the true one. Positive = hacking.",
    "AUGC": "Area under the Goodhart gap over training steps: how much a run hacked, and for how long. Higher = more.",
    "signed": "An area in which negative gaps count too, so that noise cancels.",
    "arm": "One way to run the online phase from a checkpoint: what is rewarded, the penalty, the learning rate.",
    "placebo": "The same online run with learning rate 0. Whatever it shows is noise of drawing and scoring.",
    "uncoupled": "An arm with one online penalty for every β, so that β acts through the checkpoint alone.",
    "controlled": "Our measure: changes since step 0 on held-out problems, in standard deviations of the base policy, "
    "above the placebo.",
    "base sd": "Standard deviation of a reward over the held-out problems under the base policy, before any tuning.",
    "onset": "First measured step at which the gap exceeds its threshold.",
    "KL": "Kullback-Leibler divergence: how far a policy has moved from another one, in nats.",
    "DPO": "Direct preference optimisation: offline tuning on pairs of a chosen and a rejected response.",
    "disagreement": "Standard deviation of the reward models' scores of one response.",
    "checkpoint": "A policy after the offline phase, where the online runs start.",
}
"""In the order of the list; a plural is found as well."""

_TERM = re.compile(r"(?<![\w&-])(" + "|".join(sorted(map(re.escape, TERMS), key=len, reverse=True)) + r")(s?)(?![\w-])")
_TAG = re.compile(r"(<[^>]*>)")


def explained(html: str, seen: set[str]) -> str:
    """HTML whose terms are explained on hover, and on a tap, where they first stand.

    Args:
        seen: terms that were explained before; those that are explained here are added.
    """
    pieces = _TAG.split(html)
    pieces[::2] = [_TERM.sub(lambda found: _explained(found, seen), text) for text in pieces[::2]]
    return "".join(pieces)


def _explained(found: re.Match[str], seen: set[str]) -> str:
    term = found[1]
    if term in seen:
        return found[0]
    seen.add(term)
    return f'<abbr title="{escape(TERMS[term])}" tabindex="0">{found[0]}</abbr>'


def glossary() -> str:
    """All terms as a list of definitions."""
    return (
        "<dl>" + "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(said)}</dd>" for term, said in TERMS.items()) + "</dl>"
    )
