"""The two rules of the true reward: texts worked by hand, spellings of one number, and the notebook's rule."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism.errors import DataError
from pessimism.tasks.parts.answers import (
    MARKER,
    extract_flexible,
    extract_strict,
    runs_on,
    true_reward,
    true_reward_flexible,
)
from support.repository import CHECKOUT

# One number per text; both rules must read it after the marker.
SPELLINGS = [
    ("18", "18"),
    ("18.", "18"),
    ("18.0", "18"),
    ("018", "18"),
    ("+18", "18"),
    ("$18", "18"),
    ("\\$18", "18"),
    ("18€", "18"),
    ("**18**", "18"),
    ("\\boxed{18}", "18"),
    ("18 apples", "18"),
    ("18km/h", "18"),
    ("x=18", "18"),
    ("is\n18\n", "18"),
    ("1,800", "1800"),
    ("$1,234,567.50.", "2469135/2"),
    ("2.50", "5/2"),
    (".5", "1/2"),
    ("$.50", "1/2"),
    ("No.5", "5"),
    ("-5", "-5"),
    ("\N{MINUS SIGN}5", "-5"),
    ("-$5", "-5"),
    ("-\\$5", "-5"),
    ("$-5", "-5"),
    ("x=-5", "-5"),
    ("-0", "0"),
    ("-.5", "-1/2"),
    ("- 5", "5"),
    ("2\N{VULGAR FRACTION ONE HALF}", "2"),
    ("--5", "5"),
    ("COVID-19", "19"),
    ("3/4", "3/4"),
    ("-3/4", "-3/4"),
    ("6/2", "3"),
    ("1,000/3", "1000/3"),
    ("1 1/2", "3/2"),
    ("-1 1/2", "-3/2"),
    ("1,000 1/2 cups", "2001/2"),
    ("50%", "50"),
    ("2 million", "2"),
    ("1e3", "1000"),
    ("1.5E-3", "3/2000"),
    ("1e+3.", "1000"),
]
# Several numbers: strict reads the first after the marker, flexible the last.
SEVERAL = [
    ("1, 2", "1", "2"),
    ("1,23", "1", "23"),
    ("12,34,567", "12", "567"),
    ("1234,567", "1234", "567"),
    ("1,234, 5", "1234", "5"),
    ("10-20", "10", "20"),
    ("10\N{EN DASH}20", "10", "20"),
    ("$5-$10", "5", "10"),
    ("5%-10%", "5", "10"),
    ("(1)-2", "1", "2"),
    ("3 apples and 4 pears", "3", "4"),
    ("12 / 4", "12", "4"),
    ("12/4=3", "3", "3"),
    ("3/4/2020", "3", "2020"),
    ("3/42/5", "3", "5"),
    ("3/0", "3", "0"),
    ("1.5/2", "3/2", "2"),
    ("3/4.5", "3", "9/2"),
    ("5 10/2", "5", "5"),
    ("3.4.5", "17/5", "5"),
    ("1e1000", "1", "1000"),
    ("1e3x", "1", "3"),
    ("18\n\nProblem: 2 apples and 3 pears?", "18", "3"),
    ("9{,}500", "9", "500"),
    ("1 000", "1", "0"),
    ("1\N{NARROW NO-BREAK SPACE}000", "1", "0"),
    ("1,00,000", "1", "0"),
    ("12:30", "12", "30"),
]


@pytest.mark.parametrize(("spelling", "number"), SPELLINGS)
def test_one_number_in_many_spellings(spelling: str, number: str) -> None:
    text = f"4+5=9\n{MARKER} {spelling}"
    assert extract_strict(text) == extract_flexible(text) == Fraction(number)
    assert extract_strict(spelling) is None
    assert extract_flexible(spelling) == Fraction(number)


@pytest.mark.parametrize(("text", "first", "last"), SEVERAL)
def test_of_several_numbers_strict_reads_the_first_and_flexible_the_last(text: str, first: str, last: str) -> None:
    assert extract_strict(f"7 {MARKER}{text}") == Fraction(first)
    assert extract_flexible(f"7 {MARKER}{text}") == Fraction(last)


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 3\nQuestion\n#### 9", 9, 9),
        ("##### 9", 9, 9),
        ("9 ####", None, 9),
        ("12 and then #### none", None, 12),
        ("#### 3 ####", None, 3),
        ("### 9", None, 9),
        ("so it is 12", None, 12),
        ("#### eighteen", None, None),
        ("-$ and .", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_texts_with_and_without_the_marker(text: str | None, strict: int | None, flexible: int | None) -> None:
    assert extract_strict(text) == strict
    assert extract_flexible(text) == flexible


@pytest.mark.parametrize(
    ("text", "further"),
    [
        ("4+5=9\n#### 18", False),
        ("#### 18 apples, that is all.\n\n", False),
        ("####\n18\n", False),
        ("#### none", False),
        ("####\n####\n#### 18", False),
        ("####\n####\n18\n3", True),
        ("so it is 18\nProblem: 3 pears", False),
        ("", False),
        (None, False),
        ("#### 18\n\nProblem: 3 pears", True),
        ("#### 18 #### 3", True),
        ("####\n18\n3", True),
        ("#### none\n#### 3", True),
        ("#### \N{MINUS SIGN}18\nfine", True),
    ],
)
def test_whether_a_response_goes_on_after_its_answer(text: str | None, further: bool) -> None:
    assert runs_on(text) is further


@given(st.text(alphabet="0123456789,./-$%eE #x\n", max_size=40))
def test_strict_reads_after_the_last_marker_alone(text: str) -> None:
    before, _, tail = text.rpartition(MARKER)
    assert extract_strict(f"{before} 77 {MARKER}{tail}") == extract_strict(f"{MARKER}{tail}")
    assert (extract_flexible(tail) is None) is (extract_strict(f"{MARKER}{tail}") is None)


def spellings(number: Fraction) -> list[str]:
    """Ways to write a number that has two decimals at most."""
    sign, size = "-" if number < 0 else "", abs(number)
    cents = size * 100
    whole, rest = divmod(int(cents), 100)
    plain = f"{whole}.{rest:02}" if rest else str(whole)
    grouped = f"{whole:,}.{rest:02}"
    ratio = f"{size.numerator}/{size.denominator}"
    forms = [f"{sign}{form}" for form in (plain, grouped, f"${grouped}", ratio, f"{int(cents)}e-2", f"{grouped}000")]
    mixed = [f"{sign}{whole} {rest}/100"] if rest else []
    return [*forms, *mixed, f"$ {sign}{plain}", f"{sign}{plain}%", f"{sign}{plain}.", f"{sign}{grouped} apples"]


NUMBERS = st.integers(-(10**9), 10**9).map(lambda cents: Fraction(cents, 100))


@given(NUMBERS)
def test_spellings_of_one_number_are_equal(number: Fraction) -> None:
    for spelling in spellings(number):
        for written in (spelling, spelling.replace("-", "\N{MINUS SIGN}", 1) if spelling[0] == "-" else spelling):
            assert true_reward(f"so 7\n{MARKER} {written}", str(number)) == 1.0, written
            assert true_reward_flexible(f"7 so {written}", str(number)) == 1.0, written


@given(NUMBERS, NUMBERS, st.data())
def test_spellings_of_different_numbers_are_different(one: Fraction, other: Fraction, data: st.DataObject) -> None:
    response, answer = (data.draw(st.sampled_from(spellings(number))) for number in (one, other))
    assert true_reward(f"{MARKER} {response}", answer) == float(one == other)
    assert true_reward_flexible(response, answer) == float(one == other)


@given(st.integers(16, 400), st.booleans())
def test_numbers_are_exact_where_floats_are_not(power: int, flexible: bool) -> None:
    reward = true_reward_flexible if flexible else true_reward
    assert reward(f"{MARKER} {10**power}", str(10**power)) == 1.0
    assert reward(f"{MARKER} {10**power + 1}", str(10**power)) == 0.0


def test_endless_digits_cost_no_more_than_their_length() -> None:
    start = time.process_time()
    for text in ("9" * 9000, "1,234" * 3000, "1/" * 9000, "0" * 9000 + "/" + "0" * 9000, "1e999999999", "-$" * 9000):
        extract_flexible(text)
    assert time.process_time() - start < 5
    assert extract_flexible("9" * 9000) == 10**9000 - 1


def notebook_answer(text: str) -> str | None:
    """The published rule, in its own three branches; its numbers are compared as texts."""
    text = text.replace(",", "")

    def last(part: str) -> str | None:
        found = re.findall(r"-?[0-9]+(?:\.[0-9]+)?", part)
        return found[-1] if found else None

    _, marker, tail = text.rpartition(MARKER)
    return last(tail) or last(text) if marker else last(text)


PLAIN = st.one_of(
    st.integers(-(10**7), 10**7).map(str),
    st.integers(-(10**7), 10**7).map(lambda number: f"{number:,}"),
    st.integers(-(10**7), 10**7).map(lambda number: f"${number / 8:.3f}"),
)
WORDS = st.sampled_from([MARKER, "\n", "so", "apples.", "=", "+", "%", "Certainly!"])


@given(st.lists(st.one_of(PLAIN, WORDS), max_size=12).map(" ".join))
def test_flexible_is_the_notebooks_rule_on_integers_and_decimals(text: str) -> None:
    found = notebook_answer(text)
    assert extract_flexible(text) == (None if found is None else Fraction(found))


@pytest.mark.parametrize(
    ("text", "notebook", "flexible"),
    [("1,23", "123", "23"), ("3/4", "4", "3/4"), (".5", "5", "1/2"), ("COVID-19", "-19", "19"), ("1e3", "3", "1000")],
)
def test_where_flexible_differs_from_the_notebook(text: str, notebook: str, flexible: str) -> None:
    assert notebook_answer(text) == notebook
    assert extract_flexible(text) == Fraction(flexible)


def test_no_answer_is_never_right() -> None:
    for response in (None, "", "no number"):
        assert true_reward(response, "5") == true_reward_flexible(response, "5") == 0.0
    assert (true_reward("so it is 5", "5"), true_reward_flexible("so it is 5", "5")) == (0.0, 1.0)
    for reward in (true_reward, true_reward_flexible):
        with pytest.raises(DataError, match="found 'five' as a problem's answer; expected a number"):
            reward("no number", "five")


def test_reading_an_answer_needs_no_library() -> None:
    code = (
        "import sys, pessimism.tasks.parts.answers; sys.exit(bool({'torch', 'numpy', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "src")}).returncode == 0
