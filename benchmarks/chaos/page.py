"""The accounts as tables, for the command's last lines and for docs/chaos.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.chaos.disturb import Account
from benchmarks.chaos.plan import KINDS, stage_of

PAGE = Path(__file__).resolve().parents[2] / "docs/chaos.md"
_BLOCK = re.compile(r"(?<=<!-- written by python -m benchmarks.chaos -->\n).*?(?=<!-- end -->)", re.S)
COSTS: dict[str, Callable[[Account], int]] = {
    "not met": lambda account: int(account.missed),
    "differing": lambda account: len(account.differing),
    "lost": lambda account: len(account.lost),
    "orphans": lambda account: len(account.orphans),
    "stuck": lambda account: len(account.stuck),
    "left over": lambda account: len(account.left_over),
}


def summary(accounts: Sequence[Account]) -> str:
    """One line of all."""
    costs = ", ".join(f"{name} {sum(map(cost, accounts))}" for name, cost in COSTS.items())
    return f"{len(accounts)} disturbances: {costs}"


def table(accounts: Sequence[Account]) -> str:
    """Disturbances by stage and kind, with what they cost."""
    stages = list(dict.fromkeys(stage_of(account.disturbance.stage) for account in accounts))
    by_stage = {
        f"`{stage}`": [account for account in accounts if stage_of(account.disturbance.stage) == stage]
        for stage in stages
    }
    head = ["stage", *KINDS, *COSTS]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    lines += [_cells(name, some) for name, some in {**by_stage, "**all**": list(accounts)}.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_kind(accounts: Sequence[Account]) -> str:
    """The same by kind."""
    lines = [["kind", "number", *COSTS], ["---", *["--:"] * (1 + len(COSTS))]]
    for kind in KINDS:
        some = [account for account in accounts if account.disturbance.kind == kind]
        lines.append([kind, str(len(some)), *(str(sum(map(cost, some))) for cost in COSTS.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(name: str, accounts: Sequence[Account]) -> list[str]:
    counts = [sum(account.disturbance.kind == kind for account in accounts) for kind in KINDS]
    return [name, *(str(count or "") for count in counts), *(str(sum(map(cost, accounts))) for cost in COSTS.values())]


def written(text: str, accounts: Sequence[Account], seed: int, refused: str | None) -> str:
    """The page with its tables written anew."""
    skipped = f" No disk was filled: {refused}." if refused else ""
    line = f"`python -m benchmarks.chaos --seed {seed}`: {len(accounts)} disturbances.{skipped}"
    return _BLOCK.sub(lambda _: f"\n{line}\n\n{by_kind(accounts)}\n\n{table(accounts)}\n\n", text)


def write(accounts: Sequence[Account], seed: int, refused: str | None) -> None:
    """Write the tables into the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), accounts, seed, refused), encoding="utf-8")
