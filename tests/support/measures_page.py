"""docs/measures.md: what ``pessimism.measures`` holds, from its docstrings; ``make measures`` writes it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

from pessimism.experiment import extensions
from support.repository import CHECKOUT

PAGE = CHECKOUT / "docs/measures.md"
ROOM = "pessimism.measures"

OPENING = """\
# The measures as a library

Arrays in, numbers out. `pessimism.measures` reads no file and no parameter, and imports NumPy, SciPy and pandas alone,
so that a training loop, a notebook or a test can call it. A name's suffix gives the axes of its array: `T` measured
steps, `N` problems, `S` seeds, `K` betas, `W` worlds, `E` experiments, `P` prompts, `R` rewards or resamples. `help()`
of each function has units, range, direction and errors. Written by `make measures` from the docstrings; a test runs the
example.

```python
import numpy as np
from pessimism.measures.contrasts import trend_p
from pessimism.measures.goodhart import controlled_gap, hacking_onset, signed_augc

steps = np.array([0, 10, 20, 30])
proxy = np.array([0.1, 0.8, 1.9, 2.6])  # means on the same problems at every step
true = np.array([0.50, 0.55, 0.45, 0.30])

gap = controlled_gap(proxy, true, proxy_sd=1.0, true_sd=0.5)  # in standard deviations of the untouched policy
print(gap)  # [0.  0.6 1.9 2.9]
print(signed_augc(steps, gap))  # 39.5
print(hacking_onset(steps, gap, threshold=0.5))  # 10

areas = np.array([[10.0, 8.0, 3.0], [12.0, 9.0, 5.0], [9.0, 9.5, 4.0]])  # a row per seed, a column per beta
rises, falls = trend_p(areas, paired=True)
print(f"falls with beta: p {falls:.3f}")  # falls with beta: p 0.009
```
"""


def page() -> str:
    return OPENING + "".join(map(_section, _modules()))


def _modules() -> Iterator[ModuleType]:
    for name in extensions.names(ROOM):
        yield importlib.import_module(f"{ROOM}.{name}")


def _section(module: ModuleType) -> str:
    rows = [f"| `{name}` | {_summary(found)} |\n" for name, found in _public(module)]
    table = f"\n| name | what it gives |\n|---|---|\n{''.join(rows)}" if rows else ""
    return f"\n## `{module.__name__}`\n\n{_summary(module)}\n{table}"


def _public(module: ModuleType) -> list[tuple[str, object]]:
    """Functions and classes that the module defines, in its order."""
    named = [(name, found) for name, found in vars(module).items() if not name.startswith("_")]
    return [
        (name, found)
        for name, found in named
        if (inspect.isfunction(found) or inspect.isclass(found)) and found.__module__ == module.__name__
    ]


def _summary(documented: object) -> str:
    """The first paragraph of a docstring, as one line of Markdown."""
    paragraph = (inspect.getdoc(documented) or "").split("\n\n")[0]
    text = " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
