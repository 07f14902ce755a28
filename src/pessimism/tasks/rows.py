"""Any rows of questions and answers, judged by a verifier that the scale names.

``tasks.settings`` are ``verifier``, one of VERIFIERS, and, where rows shall not be posed as they are, ``prompt``, a
text that holds ``{question}``. Rows have ``question`` and ``answer``, and ``solution`` where shots shall show more than
the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pessimism.data.sources import check_columns
from pessimism.errors import DataError, ParamsError
from pessimism.tasks.parts.answers import MARKER, extract_flexible, extract_strict
from pessimism.tasks.parts.boxed import BOX, last_boxed, same_answer
from pessimism.tasks.parts.declaration import QUESTION, Task

if TYPE_CHECKING:
    from pessimism.experiment.params import TaskParams

SETTINGS = {"verifier", "prompt"}
WORDS = re.compile(r"(?<![^\W_.])-?\.?\d[^\W_]*(?:\.\d[^\W_]*|,\d{3}(?![^\W_]))*|[^\W_]+")
"""Letters and digits; a number with its sign, its point and its commas of thousands."""


@dataclass(frozen=True)
class Verifier:
    """How a response is judged by an answer, and how a right one is written: a solution where a row has none."""

    is_right: Callable[[str, str], bool]
    written: str = "{answer}"

    def write(self, answer: str) -> str:
        return self.written.replace("{answer}", answer)


def _words(text: str) -> str:
    """Without case, and with single spaces."""
    return " ".join(text.casefold().split())


def _contains(response: str, answer: str) -> bool:
    """The answer as whole words and numbers: 5 is in neither 15 nor -5 nor 2.5. One without any is in no response."""
    words = _only_words(answer)
    return bool(words) and f" {words} " in f" {_only_words(response)} "


def _only_words(text: str) -> str:
    return " ".join(WORDS.findall(text.casefold()))


def _same_number(read: Callable[[str], Any], response: str, answer: str) -> bool:
    found = read(response)
    return found is not None and found == extract_flexible(answer)


VERIFIERS = {
    "exact": Verifier(lambda response, answer: _words(response) == _words(answer)),
    "contains": Verifier(_contains),
    "number": Verifier(partial(_same_number, extract_flexible)),
    "marked_number": Verifier(partial(_same_number, extract_strict), written=f"{MARKER} {{answer}}"),
    "boxed": Verifier(lambda response, answer: same_answer(last_boxed(response), answer), f"{BOX}{{{{answer}}}}"),
}
"""By name: exact is the whole response but for case and white space, contains the answer's words one after another
anywhere (a number is one word, with its sign and its point), number the last number of the response, marked_number the
first after its last ``####``, and boxed what its last ``\\boxed`` holds (tasks/parts/answers.py and
tasks/parts/boxed.py say what is equal)."""


def problem(verifier: Verifier, row: Mapping[str, Any], where: str) -> dict[str, str]:
    """A row of ``question``, ``answer`` and perhaps ``solution``.

    Raises:
        DataError: a column is missing or empty, or the verifier finds the row's own solution wrong.
    """
    check_columns(row, ("question", "answer"), where)
    texts = {column: str(row[column]).strip() for column in ("question", "answer")}
    texts["solution"] = str(row.get("solution") or verifier.write(texts["answer"])).strip()
    for column in ("question", "answer"):
        if not isinstance(row[column], (str, int, float)) or not texts[column]:
            raise DataError(f"{where}: found {row[column]!r} in column {column}; expected a text")
    if not verifier.is_right(texts["solution"], texts["answer"]):
        raise DataError(
            f"{where}: found the answer {texts['answer'][:60]!r}, by which the verifier calls the solution "
            f"{texts['solution'][-60:]!r} wrong; expected an answer that it can read, and a solution that gives it: "
            "change the row, or the verifier in `settings`"
        )
    return texts


def verdicts(verifier: Verifier, response: str | None, answer: str) -> dict[str, float]:
    """Whether the verifier calls the response right; none is wrong."""
    return {"strict": float(response is not None and verifier.is_right(response, answer))}


def configured(params: TaskParams) -> Task:
    """Rows with the verifier and the prompt that the settings name.

    Raises:
        ParamsError: they name no verifier, an unknown one or another setting, or a prompt without ``{question}``.
    """
    name, prompt = params.settings.get("verifier"), params.settings.get("prompt", ROWS.prompt)
    unknown = sorted(params.settings.keys() - SETTINGS)
    if unknown or name not in VERIFIERS:
        raise ParamsError(
            f"found the settings {params.settings}; expected verifier, one of {sorted(VERIFIERS)}, and prompt or "
            "nothing else"
        )
    if not isinstance(prompt, str) or QUESTION not in prompt:
        raise ParamsError(f"found the prompt {prompt!r} among the settings; expected a text that holds {QUESTION}")
    verifier = VERIFIERS[name]
    return replace(ROWS, prompt=prompt, problem=partial(problem, verifier), rewards=partial(verdicts, verifier))


EXACT = VERIFIERS["exact"]
ROWS = Task(
    prompt="{question}\n\n",
    problem=partial(problem, EXACT),
    rewards=partial(verdicts, EXACT),
    files="{split}.jsonl",
    configured=configured,
)
