r"""Answers in ``\boxed{...}``, as in MATH (Hendrycks et al., arXiv 2103.03874): which one counts, and what equals it.

The answer is what the last ``\boxed`` of a text holds, braces within it included; one whose braces do not close holds
nothing. Two answers are equal where their normalised texts are, or where both are numbers of one value.

Normalised, a text has

- no white space, ``$``, LaTeX spacing (``\,`` ``\;`` ``\:`` ``\!`` ``\ `` ``\quad``), ``\left``, ``\right``, degrees,
  percent signs, and no full stop at its end;
- ``\frac`` for ``\dfrac`` and ``\tfrac``, with braces around both of its parts, as ``\sqrt`` has around its own:
  ``\frac12`` is ``\frac{1}{2}``;
- the words of ``\text{...}``, ``\textbf{...}``, ``\mathrm{...}`` and ``\mbox{...}`` as they are, but where they follow
  something else: ``5\text{ cm}`` is 5, and ``\text{even}`` is even.

A number is an integer with or without commas that group digits by three, a decimal, or a fraction (``a/b`` or
``\frac{a}{b}``) of two such, with a sign in front or none. Nothing is computed: ``2\sqrt{2}`` and ``\sqrt{8}`` differ,
and so do ``x+1`` and ``1+x``.
"""

from __future__ import annotations

import re
from fractions import Fraction

BOX = r"\boxed"
_LEFT_OUT = re.compile(r"\s|\\?\$|\\[,;:! ]|\\quad|\\left(?![a-z])|\\right(?![a-z])|\^\{?\\circ\}?|\\?%")
_UNIT = re.compile(r"(?<=.)\\(?:text|textbf|mathrm|mbox)\{[^{}]*\}$")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}")
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?: (?P<plain>{_PLAIN}) (?: / (?P<under>{_PLAIN}) )?"
    rf" | \\frac \{{(?P<over>{_PLAIN})\}} \{{(?P<below>{_PLAIN})\}} )",
    re.VERBOSE,
)


def last_boxed(text: str | None) -> str | None:
    r"""What the last ``\boxed`` of a text holds, or None where there is none or its braces do not close."""
    _, box, tail = (text or "").rpartition(BOX)
    tail = tail.lstrip()
    if not box or not tail.startswith("{"):
        return None
    depth = 0
    for place, character in enumerate(tail):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return tail[1:place].strip()
    return None


def same_answer(found: str | None, expected: str) -> bool:
    """Whether an answer is the expected one, by the rule above; None and an empty answer are not."""
    if not found:
        return False
    one, other = normalized(found), normalized(expected)
    number = _number(one)
    return bool(one) and (one == other or (number is not None and number == _number(other)))


def normalized(answer: str) -> str:
    """The text that is compared, by the rule above."""
    text = _UNIT.sub("", answer.strip().removesuffix("."))
    text = _LEFT_OUT.sub("", _WORDS.sub(r"\1", text))
    text = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").replace("\N{MINUS SIGN}", "-")
    text = re.sub(r"\\sqrt([0-9a-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac([0-9a-z])", r"\\frac{\1}", text)
    return re.sub(r"(\\frac\{[^{}]*\})([0-9a-z])", r"\1{\2}", text)


def _number(text: str) -> Fraction | None:
    """The value of a normalised text, or None where it is no number or divides by 0."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    over, under = match["plain"] or match["over"], match["under"] or match["below"] or "1"
    top, bottom = (Fraction(part.replace(",", "")) for part in (over, under))
    if bottom == 0:
        return None
    return (-1 if match["sign"] == "-" else 1) * top / bottom
