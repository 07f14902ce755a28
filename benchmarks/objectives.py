"""Every offline objective with every online one: does the answer to the primary claim hold outside the paper's two?

    python -m benchmarks.objectives docs/runs/objectives/study.yaml --jobs 2

For each pair of the study it sets the parameters, brings the pipeline of the working directory up to date, and adds the
run's contrasts to effects.csv and its cells to cells.csv, both beside the study. A pair that stands there is not run
again. It overwrites metrics/, plots/ and dvc.lock: run it in a clone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from pessimism.claims.arm_contrasts import asked
from pessimism.claims.statements import QUANTITY
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.experiment.yaml_files import parse_yaml
from pessimism.reporting.tables import bounds, number, p_value

PARAMETERS = (layout.PARAMS, layout.SCALES, layout.PROTOCOLS)
PAIR = ["offline", "online"]
KL = "kl_to_base"
CELLS = ["label", "beta", "seed", "arm", QUANTITY.name, KL, "final_kl_k3", "heldout_true_reward_change"]


@dataclass(frozen=True)
class Study:
    """What is run: parameters as ``dvc exp run -S`` takes them.

    Attributes:
        settings: of every run.
        offline, online: those of an objective, by its name in the tables.
    """

    settings: Sequence[str]
    offline: Mapping[str, Sequence[str]]
    online: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> Study:
        return cls(**parse_yaml(path.read_text(), str(path)))

    def pairs(self) -> dict[tuple[str, str], list[str]]:
        """Settings of each pair; a column of the table is finished before the next begins."""
        return {
            (offline, online): [*self.settings, *self.offline[offline], *self.online[online]]
            for online in self.online
            for offline in self.offline
        }


def run(study: Study, folder: Path, jobs: int) -> None:
    """Run the pairs that ``folder`` does not hold.

    Raises:
        DataError: the parameters are not those of the last commit.
    """
    effects, cells = folder / "effects.csv", folder / "cells.csv"
    done = set(read(effects)[PAIR].itertuples(index=False, name=None))
    for pair, settings in study.pairs().items():
        if pair in done:
            continue
        print(f"{' x '.join(pair)}: {' '.join(settings)}", flush=True)
        with parameters(settings):
            subprocess.run([sys.executable, "-m", "pessimism.cli", "repro", f"--jobs={jobs}", "--resident"], check=True)
            append(cells, pair, records.read_table(layout.CELL_SCORES, CELLS)[CELLS])
            append(effects, pair, contrasts())


@contextmanager
def parameters(settings: Sequence[str]) -> Iterator[None]:
    """The files of parameters with ``settings`` set, and as they were afterwards."""
    changed = git("status", "--porcelain", "--", *map(str, PARAMETERS))
    if changed:
        raise DataError(
            f"found parameters that are not committed: {' '.join(changed.split())}; expected those of HEAD: commit "
            "them, or undo what a run that was killed has left by `git checkout HEAD -- params.yaml scales protocols`"
        )
    overrides = to_path_overrides(settings)
    before = {path: Path(path).read_bytes() for path in overrides}
    try:
        for path, values in overrides.items():
            apply_overrides(path, values)
        yield
    finally:
        for path, content in before.items():
            Path(path).write_bytes(content)


def contrasts() -> pd.DataFrame:
    """The contrasts of the finished run: what the strength does to hacking, and the KL that its ends stand for."""
    params, found = load_params(), records.read_json(layout.CLAIMS)["contrasts"]
    cells = records.read_table(layout.CELL_SCORES)
    kl = cells[cells["arm"] == params.primary_arm].groupby("beta")[KL].mean()
    return pd.DataFrame(
        {
            "question": question,
            "contrast": contrast.name,
            "seeds": len(params.seeds),
            "lowest": kl.index[0],
            "highest": kl.index[-1],
            "kl_lowest": kl.iloc[0],
            "kl_highest": kl.iloc[-1],
            "estimate": found[question]["estimate"],
            **dict(zip(("low", "high"), found[question]["interval"] or (None, None), strict=True)),
            "p_rises": found[question]["p_rises"],
            "p_falls": found[question]["p_falls"],
            "verdict": found[question]["verdict"],
            "commit": git("rev-parse", "--short", "HEAD").strip(),
        }
        for question, contrast in asked(params).items()
    )


def append(path: Path, pair: tuple[str, str], rows: pd.DataFrame) -> None:
    """Add ``rows`` of a pair, in place of those that a run which was killed has left."""
    before = read(path)
    others = before[[row != pair for row in before[PAIR].itertuples(index=False, name=None)]]
    named = rows.assign(**dict(zip(PAIR, pair, strict=True)))[[*PAIR, *rows.columns]]
    (pd.concat([others, named]) if len(others) else named).to_csv(path, index=False)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=PAIR)


def table(effects: pd.DataFrame, question: str) -> str:
    """Markdown: a row per offline objective, a column per online one; estimate, 95 % interval, p of its direction."""
    chosen = effects[effects["question"] == question]
    said = chosen.assign(text=[_said(row) for _, row in chosen.iterrows()])
    online = list(dict.fromkeys(said["online"]))
    rows = [["offline", *online], ["---"] * (1 + len(online))]
    for offline, group in said.groupby("offline", sort=False):
        found = group.set_index("online")["text"]
        rows.append([str(offline), *(found.get(name, "") for name in online)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _said(row: pd.Series) -> str:
    p = row["p_rises"] if row["estimate"] > 0 else row["p_falls"]
    return f"{number(row['estimate'], signed=True)} {bounds([row['low'], row['high']])}, p {p_value(p)}"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a YAML file with settings, offline and online")
    parser.add_argument("--jobs", type=int, default=1, help="stages at a time (default: 1)")
    options = parser.parse_args()
    run(Study.read(options.study), options.study.parent, options.jobs)
    effects = read(options.study.parent / "effects.csv")
    for question in effects["question"].unique():
        print(f"\n{question}\n\n{table(effects, question)}")


if __name__ == "__main__":
    main()
