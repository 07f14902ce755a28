"""Revisions that cannot be judged together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pessimism.experiment import layout
from support.failures.failure import Failure
from support.worlds import commit_world, git
from support.yaml_edits import set_key

NOTHING = {"proxy": [0.0, 0.0, 0.0, 0.0, 0.0]}
FALLS = {"proxy": [-1.0, -2.0, -3.0, -4.0, -5.0]}
POOL = "pessimism pool w1 w2"


def _second(**design: object) -> Callable[[Path], None]:
    """Two committed worlds, the second of another design."""

    def make(project: Path) -> None:
        commit_world(project, "w1", NOTHING, root_seed=1)
        effects = {} if "seeds" in design else FALLS
        commit_world(project, "w2", effects, **{"root_seed": 2, **design})

    return make


def _damaged(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    """Two worlds, of which the second is committed anew after some damage."""

    def make(project: Path) -> None:
        _second()(project)
        damage(project)
        git("add", "-A")
        git("commit", "-q", "-m", "damaged")

    return make


def _without(condition: Callable[[pd.DataFrame], pd.Series]) -> Callable[[Path], None]:
    def damage(project: Path) -> None:
        cells = pd.read_csv(project / layout.CELL_SCORES)
        cells[~condition(cells)].to_csv(project / layout.CELL_SCORES, index=False)

    return _damaged(damage)


def _another_switch(project: Path) -> None:
    commit_world(project, "w1", NOTHING, root_seed=1)
    set_key(project / "protocols/paper.yaml", "top_p", 0.8)
    commit_world(project, "w2", FALLS, root_seed=2)


FAILURES = [
    Failure("one world alone", _second(), "found 1 revision; expected 2 or more worlds", "pessimism pool w1"),
    Failure("a name that nothing has", _second(), "no revision of Git named 'w3'", "pessimism pool w1 w3"),
    Failure(
        "an option of Git in place of a run",
        _second(),
        "no revision of Git named '--output=stolen'",
        "pessimism pool -- w1 --output=stolen",
    ),
    Failure("no repository of runs", lambda _: None, "no revision of Git named 'w1'", POOL),
    Failure(
        "a commit without results",
        _damaged(lambda project: (project / layout.CELL_SCORES).unlink()),
        "revision w2: found no results (fatal: pathspec 'plots/cells.csv' did not match any files)",
        POOL,
    ),
    Failure(
        "results that are cut off",
        _damaged(lambda project: (project / layout.CELL_SCORES).write_text("label,seed\np20,0\n")),
        "revision w2: plots/cells.csv: found columns ['label', 'seed']; expected also",
        POOL,
    ),
    Failure(
        "results of other parameters",
        _without(lambda cells: cells["seed"] == 0),
        "found 0 runs in plots/cells.csv that params.yaml does not list and 9 missing",
        POOL,
    ),
    Failure(
        "parameters of another version",
        _damaged(lambda project: set_key(project / layout.PARAMS, "colour", "blue")),
        "revision w2: params.yaml: colour: unknown key",
        POOL,
    ),
    Failure(
        "one world twice", _second(root_seed=1), "found one world twice, in w1 and w2 (the same root seed 1)", POOL
    ),
    Failure(
        "the results of another world",
        lambda project: [commit_world(project, f"w{seed}", NOTHING, root_seed=seed) for seed in (1, 2)],
        "found the same results in w1 and w2; expected a run of its own for each world",
        POOL,
    ),
    Failure("worlds of other seeds", _second(seeds=[0, 1]), "seeds (0, 1, 2, 3, 4) and (0, 1)", POOL),
    Failure(
        "worlds of other betas", _second(beta_percentiles=[20, 50]), "beta_percentiles (20, 50, 80) and (20, 50)", POOL
    ),
    Failure(
        "worlds of other arms",
        _second(arms=["proxy", "oracle", "placebo"]),
        "arms ('proxy', 'uncoupled', 'placebo') and ('proxy', 'oracle', 'placebo')",
        POOL,
    ),
    Failure("worlds of another protocol", _second(protocol="controlled"), "protocol_name paper and controlled", POOL),
    Failure("worlds of another switch", _another_switch, "protocol.top_p 0.9 and 0.8", POOL),
    Failure("worlds of another scale", _second(scale="laptop"), "scale_name tiny and laptop", POOL),
    Failure(
        "worlds without a placebo",
        lambda project: [commit_world(project, f"w{seed}", FALLS, root_seed=seed, arms=["proxy"]) for seed in (1, 2)],
        "expected one of each: list a placebo in params.yaml: arms",
        POOL,
    ),
    Failure("a plot that is no PNG", _second(), "--figure: found forest.pdf; expected", f"{POOL} --figure forest.pdf"),
]
