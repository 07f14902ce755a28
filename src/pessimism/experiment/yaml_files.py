"""YAML as DVC reads it, so that a number or a text is the same to DVC and to us.

That is YAML 1.2: ``5e-05``, which DVC writes for ``-S key=0.00005``, is a number, and no key may stand twice.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pessimism.errors import ParamsError


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML document holds.

    Args:
        where: the file, as messages quote it.

    Raises:
        ParamsError: the text is no YAML document, or a key stands twice in it; one line.
    """
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ParamsError(f"{where} is not YAML: {_first_cause(error)}") from error
    except RecursionError as error:
        raise ParamsError(f"{where} is not YAML: found lists or mappings nested too deep to read") from error


def _first_cause(error: YAMLError) -> str:
    """What is wrong, and where; the parser's own message has both on lines of their own, with advice for programs."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    # Of a key that stands twice it also says the values, as far as it has read them.
    text = " ".join(str(problem or error).partition(" with value")[0].split())
    return text if mark is None else f"{text} in line {mark.line + 1}, column {mark.column + 1}"
