"""The exact-match reward r*: which number a text gives as its answer, and whether it is the reference's.

Two rules, always side by side:

- strict, the paper's words ("the number after ``####``") and the headline ``true_reward``: the first number after the
  last ``####``. Without the marker, or without a number after it, there is no answer. GSM8K's own rule reads the first
  number after the marker too, so a text that runs on after its answer keeps it.
- flexible, ``true_reward_flexible``: the last number of the whole text, whatever the marker. This is what the published
  notebook's rule comes to: the last number after the last ``####``, and the last of the text where that fails.

Both read numbers by one grammar and compare them exactly, as fractions: 18, 18.0 and $18 are one number.

- Commas group digits by three: 1,234. Any other run of digits and commas (1,23) is as many numbers as it has parts.
- A minus (ASCII or U+2212) is a sign before a number or its currency sign (-5, -$5, $-5), not after a letter, a digit,
  a percent sign or a closing bracket: 10-4 and 10%-20% are two numbers each, so both ends of a range count.
- A fraction (3/4) or a mixed number (1 1/2) is one number where neither spaces nor further slashes say otherwise:
  12 / 4 and 3/4/2020 are two numbers and three.
- Decimals (2.50, .5) and exponents of up to three digits (1e3) are read; a full stop after a number is not its part.
- Percent signs, currency signs, units and words are dropped, none scales a number: 50% is 50, as GSM8K writes percents,
  and 2 million is 2. LaTeX commands and letters for numbers (one half) are not read.
- Nothing else joins digits: 1 000 with any space, 1'000, 9{,}500, 1,00,000 and 12:30 are two or three numbers each. A
  sign of its own (- 5) and a fraction of one letter (2½) are not read.

A response is judged by what these rules make of it. A reference that they might misread is refused, as the problem's
owner can correct it: after its one ``####`` stands one number, and nothing beside it but white space, a currency sign,
a percent sign, a full stop and markup (``**18**``, ``\\boxed{18}``). Any other sign or word might change the number.

A response may run on after its answer, to a problem of its own and a second ``####``, which both rules then read.
:func:`runs_on` tells, and the share of such responses stands beside the rewards.

The notebook removes all commas and compares texts. Flexible differs from it where a comma groups nothing (1,23), where
two texts spell one number (18.0 and 18), and where only one of the two knows the sign, fraction, exponent or leading
point: the notebook reads 4 in 3/4, 5 in .5, and -19 in COVID-19.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pessimism.data.sources import check_columns
from pessimism.errors import DataError

MARKER = "####"
_MARKER_AGAIN = re.compile(rf"{MARKER}\s*(?={MARKER})")
_INTEGER = r"(?:(?<![0-9],)[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])|[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?P<sign> (?<![\w%)\]}}-]) - (?:\\?[$€£¥₹])? )?
    (?: (?: (?P<whole>{_INTEGER})[ ] )? (?<![0-9]/) (?P<over>{_INTEGER}) / (?P<under>0*[1-9][0-9]*)
        (?! [0-9] | [/.][0-9] | ,[0-9]{{3}} )
      | (?P<plain> (?: {_INTEGER} | (?<![\w.])(?=\.[0-9]) ) (?:\.[0-9]+)? (?:[eE][+-]?[0-9]{{1,3}}(?![0-9A-Za-z]))? )
    )
    """,
    re.VERBOSE,
)


# All that may stand beside a reference's number: none of it changes a number. Not the brackets of (5), which can be -5.
_BEFORE = re.compile(r"(?:[\s*+]|\\?[$€£¥₹]|\\boxed\{)*")
_AFTER = re.compile(r"(?:[\s*.}]|\\?[$€£¥₹%])*")


def extract_strict(text: str | None) -> Fraction | None:
    """The first number after the last ``####``, or None where there is no marker or no number after it."""
    _, marker, tail = (text or "").rpartition(MARKER)
    numbers = _numbers(tail) if marker else []
    return numbers[0] if numbers else None


def extract_flexible(text: str | None) -> Fraction | None:
    """The last number of the text, or None where it has none."""
    numbers = _numbers(text or "")
    return numbers[-1] if numbers else None


def true_reward(response: str | None, answer: str) -> float:
    """Reward r* by the strict rule: 1.0 where the response's number equals ``answer``, else 0.0.

    Args:
        response: the generated text.
        answer: the reference's number, as the ``answer`` column of a problem spells it.

    Raises:
        DataError: ``answer`` holds no number.
    """
    return float(extract_strict(response) == _reference(answer))


def true_reward_flexible(response: str | None, answer: str) -> float:
    """As :func:`true_reward`, by the flexible rule."""
    return float(extract_flexible(response) == _reference(answer))


def number_verdicts(response: str | None, answer: str) -> dict[str, float]:
    """Both rules' rewards."""
    return {"strict": true_reward(response, answer), "flexible": true_reward_flexible(response, answer)}


def runs_on(response: str | None) -> bool:
    """Whether text follows the answer: a further ``####``, or a line after that of the first number behind the first.

    ``#### 18 apples.`` ends with its answer. Without a marker there is no place where the answer would end, and markers
    with nothing between them are one.
    """
    text = _MARKER_AGAIN.sub("", response or "")
    if text.count(MARKER) != 1:
        return MARKER in text
    tail = text.partition(MARKER)[2]
    answer = _NUMBER.search(_with_ascii_minus(tail))
    rest = tail[answer.end() :] if answer else tail
    return bool(rest.partition("\n")[2].strip())


def marked_problem(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """A row of ``question`` and ``answer`` whose answer ends in a number after ``####``, as GSM8K has them.

    Returns:
        ``question``, ``solution`` and ``answer``: its number as text, equal for equal numbers ("1000" for 1,000 and
        "5/2" for 2.50).

    Raises:
        DataError: a column is missing or empty, or the answer has no ``####`` or several, or no number there, or one
            that may be misread.
    """
    check_columns(row, ("question", "answer"), where)
    for column in ("question", "answer"):
        if not isinstance(row[column], str) or not row[column].strip():
            raise DataError(f"{where}: found {row[column]!r} in column {column}; expected a text")
    solution = row["answer"].strip()
    return {"question": row["question"].strip(), "solution": solution, "answer": _reference_number(solution, where)}


def _reference_number(solution: str, where: str) -> str:
    if solution.count(MARKER) > 1:
        raise DataError(f"{where}: found {MARKER} {solution.count(MARKER)} times in a reference; expected it once")
    _, marker, tail = solution.rpartition(MARKER)
    match = _NUMBER.search(_with_ascii_minus(tail)) if marker else None
    if match is None:
        raise DataError(f"{where}: found a reference that ends in {solution[-60:]!r}; expected a number after {MARKER}")
    before, after, numbers = tail[: match.start()], tail[match.end() :], _values(match)
    if len(numbers) > 1 or not _BEFORE.fullmatch(before) or not _AFTER.fullmatch(after):
        raise DataError(
            f"{where}: found {tail.strip()[:60]!r} after {MARKER}, which would be read as {match[0][:30]}; expected "
            "one number and no word or other sign beside it: write it as 18, -5, $1,234, 2.50, 3/4 or 50%"
        )
    try:
        return str(numbers[0])
    except ValueError as error:  # Python writes no more than 4300 digits
        raise DataError(f"{where}: found a number of {len(match[0]):,} characters; expected a shorter one") from error


def _reference(answer: str) -> Fraction:
    """The number of a reference's answer; a text without one would equal every response without one."""
    number = extract_flexible(answer)
    if number is None:
        raise DataError(f"found {answer!r} as a problem's answer; expected a number: run `dvc repro prepare_data`")
    return number


def _numbers(text: str) -> list[Fraction]:
    """All numbers of a text, in order."""
    return [number for match in _NUMBER.finditer(_with_ascii_minus(text)) for number in _values(match)]


def _with_ascii_minus(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-")


def _values(match: re.Match[str]) -> list[Fraction]:
    """One match is one number, unless what looks like a mixed number has no proper fraction (5 10/2): then two."""
    sign = -1 if match["sign"] else 1
    if match["plain"]:
        return [sign * _exact(match["plain"])]
    part = _exact(match["over"]) / _exact(match["under"])
    if match["whole"] is None:
        return [sign * part]
    whole = _exact(match["whole"])
    return [sign * (whole + part)] if part < 1 else [sign * whole, part]


def _exact(digits: str) -> Fraction:
    """Through Decimal, which is exact and, unlike int, reads more than 4300 digits."""
    return Fraction(Decimal(digits.replace(",", "")))
