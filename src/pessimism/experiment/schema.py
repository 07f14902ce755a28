"""YAML files read as frozen dataclasses: the fields' types say what a file must hold."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pessimism.errors import ParamsError
from pessimism.experiment.yaml_files import parse_yaml

Kind = TypeVar("Kind")


def read_yaml(kind: type[Kind], root: Path, path: Path, problems: list[str]) -> Kind | None:
    """Read a YAML file as the dataclass ``kind``: every field without a default must be there, and nothing else.

    Fields may be int, float, str, bool, a Literal of texts, a tuple of one of these (a list in YAML), another dataclass
    (a mapping), a dict of them by name, or any of these or None; Any is left as YAML reads it. ``Annotated`` adds an
    example to what messages say was expected. An integer is accepted as a float, and what YAML reads as a truth value
    as the text true or false that a Literal lists; nothing else is converted. A float is finite.

    Args:
        root: the project's root.
        path: the file, relative to ``root``, as messages quote it.
        problems: every problem found is added to it, one text each.

    Returns:
        The dataclass, or None where there was a problem.
    """
    try:
        raw = parse_yaml((root / path).read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        problems.append(f"{path} is missing; expected it in the project's root ({(root / path).absolute().parent})")
        return None
    except UnicodeDecodeError as error:
        problems.append(f"{path} is not UTF-8 (byte {error.start}: {error.reason}); expected a text file in UTF-8")
        return None
    except ParamsError as error:
        problems.append(str(error))
        return None
    before = len(problems)
    value = _build(kind, raw, f"{path}: ", "", problems)
    return value if len(problems) == before else None


def _build(kind: Any, raw: Any, where: str, name: str, problems: list[str]) -> Any:
    """Build dataclass ``kind`` from a mapping, checking every key and type."""
    if not isinstance(raw, Mapping):
        problems.append(f"{where}{name or 'the file'}: found {raw!r}; expected a mapping")
        return None
    hints = typing.get_type_hints(kind, include_extras=True)
    prefix = f"{name}." if name else ""
    for key in sorted(raw.keys() - hints.keys(), key=str):
        problems.append(f"{where}{prefix}{key}: unknown key; expected one of {sorted(hints)}")
    values, absent = {}, _with_default(kind) - raw.keys()
    for key, hint in hints.items():
        if key in absent:
            continue
        if key not in raw:
            problems.append(f"{where}{prefix}{key}: missing; expected {_spell(hint)}")
        else:
            values[key] = _convert(hint, raw[key], where, f"{prefix}{key}", problems)
    return kind(**values) if len(values) + len(absent) == len(hints) else None


def _with_default(kind: Any) -> set[str]:
    return {field.name for field in fields(kind) if (field.default, field.default_factory) != (MISSING, MISSING)}


def _convert(hint: Any, value: Any, where: str, name: str, problems: list[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    plain = arguments[0] if origin is Annotated else hint
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(arguments[0], value, where, name, problems)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _build(hint, value, where, name, problems)
    if origin is dict and isinstance(value, Mapping):
        return {key: _convert(arguments[1], item, where, f"{name}.{key}", problems) for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, where, name, problems) for item in value)
    if origin is Literal and _spelled(value) in arguments:
        return _spelled(value)
    if plain is float and isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value):
        return float(value)
    if plain in (int, str, bool) and type(value) is plain:
        return value
    problems.append(f"{where}{name}: found {value!r}; expected {_spell(hint)}")
    return None


def _is_finite(value: int | float) -> bool:
    """Whether a number is one that a float can hold: YAML has .nan and .inf, and integers of any length."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _spelled(value: Any) -> Any:
    """A value as text where YAML read the texts true and false as truth values."""
    return str(value).lower() if isinstance(value, bool) else value


def _spell(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return f"{_spell(arguments[0])} or null"
    if origin is Annotated:
        return f"{_spell(arguments[0])} {arguments[1]}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return f"a list, each item {_spell(arguments[0])}"
    if is_dataclass(hint) or origin is dict:
        return "a mapping"
    return {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}[hint]
