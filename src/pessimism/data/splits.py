"""Splits that no prompt or problem is in two of: of preference pairs, and of problems that come in splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pessimism.errors import DataError
from pessimism.experiment import rng

SPLITS = ("train", "val", "test")
TRAIN_TENTHS, VAL_TENTHS = 8, 1  # the rest is test


def normalize_prompt(prompt: str) -> str:
    """What counts as the same prompt: case and white space do not matter."""
    return " ".join(prompt.casefold().split())


def split_by_prompt(rows: Sequence[Mapping[str, Any]], root_seed: int) -> dict[str, list[dict[str, Any]]]:
    """Split rows 80/10/10 at random, all rows of one normalised prompt together; a split keeps the order of ``rows``.

    Raises:
        DataError: a split would be empty.
    """
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(normalize_prompt(row["prompt"]), []).append(number)
    prompts = list(groups)
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    placed = 0
    for at in rng.generator(root_seed, "preference-split").permutation(len(prompts)):
        members[_split_at(placed, len(rows))] += groups[prompts[at]]
        placed += len(groups[prompts[at]])
    empty = [split for split in SPLITS if not members[split]]
    if empty:
        raise DataError(
            f"found {len(rows)} preference pairs on {len(prompts)} prompts, which leaves {', '.join(empty)} empty; "
            "expected at least 10 prompts: raise preferences.limit of the scale file or give more pairs"
        )
    return {split: [dict(rows[number]) for number in sorted(members[split])] for split in SPLITS}


def without_copies(
    splits: Mapping[str, Sequence[Mapping[str, Any]]], column: str
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Leave out the rows whose normalised text in ``column`` is in an earlier split; equal rows of one split stay.

    Returns:
        The rows that are left and the number of those left out, both by split.
    """
    seen: set[str] = set()
    kept: dict[str, list[dict[str, Any]]] = {}
    for split, rows in splits.items():
        kept[split] = [dict(row) for row in rows if normalize_prompt(row[column]) not in seen]
        seen |= {normalize_prompt(row[column]) for row in rows}
    return kept, {split: len(splits[split]) - len(kept[split]) for split in splits}


def shared_prompts(splits: Mapping[str, Sequence[Mapping[str, Any]]], column: str = "prompt") -> int:
    """In how many splits too many the normalised texts of ``column`` are; 0 where each is in one."""
    prompts = [{normalize_prompt(row[column]) for row in rows} for rows in splits.values()]
    return sum(map(len, prompts)) - len(set().union(*prompts))


def _split_at(placed: int, total: int) -> str:
    """Split of the next prompt, where ``placed`` of ``total`` rows have one already."""
    if 10 * placed < TRAIN_TENTHS * total:
        return "train"
    return "val" if 10 * placed < (TRAIN_TENTHS + VAL_TENTHS) * total else "test"
