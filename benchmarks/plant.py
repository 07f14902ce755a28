"""Runs with a planted hack and clean ones, on which detectors of hacking are judged.

    python -m benchmarks.plant FOLDER            # make the runs that FOLDER lacks; can be interrupted
    python -m benchmarks.plant FOLDER --gather   # write their record, one table

A world is the embedded one at the sizes below, with an annotator who likes one exploit (``annotator`` of the scale):
with a bias of BIAS a hack is planted, with 0 none is. Both worlds of an exploit share their base, for its training text
has the exploit either way. Every run has a reward ensemble, an offline training and an online run of its own seed.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.worlds import CHECKOUT
from pessimism.data.annotator import EXPLOITS
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, percentile_label
from pessimism.experiment.params import Params, load_params
from pessimism.measures.detectors import StateReference, exploit_share
from pessimism.models.adapters import attach, trainable_parameters
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.online.loop import HELDOUT, OnlineRun, load_training_tasks
from pessimism.online.objective import find_objective
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble

BIAS = 1.5
DISCOVERABILITY = 0.3
SEEDS = 14  # of each of the six worlds: 42 planted and 42 clean runs
PERCENTILE = 50
HELDOUT_PROBLEMS = 64
LAYER = "last"
DESIGN: dict[str, Any] = {
    "protocol": "controlled",
    "beta_percentiles": [PERCENTILE],
    "seeds": list(range(SEEDS)),
    "arms": ["proxy"],
}
PROTOCOL = {"kl_numerator": 0.05}  # a sixth of the default, so that a hack has room
SCALE: dict[str, dict[str, Any]] = {
    "embedded": {"steps": 600},
    "preferences": {"limit": 800},
    "tasks": {"train_limit": 512, "test_limit": 64, "heldout": HELDOUT_PROBLEMS},
    "lengths": {"response": 72, "sequence": 112},
    "online": {"steps": 12, "heldout_every": 2},
}
RECORD = CHECKOUT / "docs" / "detectors.csv"
COPIED = ("dvc.yaml", "params.yaml", "scales", "protocols", "stages")
CURVES = ["step", "prompts", "proxy_reward", "proxy_reward_sd", "true_reward", "ensemble_std", "kl_k3", "entropy"]


@dataclass(frozen=True)
class World:
    """An exploit, planted or not."""

    exploit: str
    planted: bool

    @property
    def name(self) -> str:
        return f"{self.exploit}-{'planted' if self.planted else 'clean'}"

    def changes(self) -> dict[str, Any]:
        """Sections of the scale file."""
        bias = BIAS if self.planted else 0.0
        return SCALE | {"annotator": {"exploit": self.exploit, "bias": bias, "discoverability": DISCOVERABILITY}}


WORLDS = [World(exploit, planted) for exploit in EXPLOITS for planted in (True, False)]


class WatchedEnsemble(RewardEnsemble):
    """An ensemble that looks, at every evaluation, how many responses are outliers in its members' states.

    Attributes:
        references: of each member, its states on preference data.
        outlier_shares: one per evaluation, the mean over members.
    """

    references: list[StateReference]
    outlier_shares: list[float]

    @classmethod
    def watching(cls, params: Params, seed: int) -> WatchedEnsemble:
        """A seed's ensemble with its references, fitted on the training pairs and limited on the validation pairs."""
        plain = RewardEnsemble.load(params, seed)
        watched = cls(**vars(plain))
        fitted, held_back = (watched.states_of_pairs(split) for split in ("train", "val"))
        watched.references = [StateReference.of(*states) for states in zip(fitted, held_back, strict=True)]
        watched.outlier_shares = []
        return watched

    def states_of_pairs(self, split: str) -> list[np.ndarray]:
        pairs = records.read_table(layout.preferences(split))
        return self.states(2 * list(pairs["prompt"]), [*pairs["chosen"], *pairs["rejected"]])

    def states(self, prompts: Sequence[str], responses: Sequence[str]) -> list[np.ndarray]:
        """(B, H) of each member."""
        return [self.representations(member, prompts, responses)[LAYER] for member in self.members]

    def score(self, prompts: Sequence[str], responses: Sequence[str], dropout_seed: int | None = None) -> np.ndarray:
        if len(responses) == HELDOUT_PROBLEMS:
            pairs = zip(self.references, self.states(prompts, responses), strict=True)
            self.outlier_shares.append(float(np.mean([reference.outlier_share(states) for reference, states in pairs])))
        return super().score(prompts, responses, dropout_seed)


def online_run(params: Params, cell: OnlineCell, ensemble: RewardEnsemble) -> OnlineRun:
    """The run that stages/adapt_online.py trains."""
    checkpoint = layout.dpo_adapter(cell.dpo)
    model = attach(load_policy_base(params), {REFERENCE: checkpoint, POLICY: checkpoint}, trainable=POLICY)
    return OnlineRun(
        params=params,
        cell=cell,
        beta=records.get(records.read_json(layout.BETA_GRID), cell.label),
        objective=find_objective(params.online.objective),
        model=model,
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=ensemble,
        training_tasks=load_training_tasks(params),
        heldout_tasks=records.read_table(layout.tasks("heldout")),
        hyperparameters=online_hyperparameters(
            params.scale,
            params.arm(cell.arm),
            parameters=records.read_json(layout.base_record("policy"))["parameters"],
            trainable=sum(parameter.numel() for parameter in trainable_parameters(model)),
            test_problems=len(records.read_table(layout.tasks("test"))),
        ),
    )


def observe(world: World, seed: int, to: Path) -> None:
    """Train one run and write its curves, one row per evaluation."""
    params = load_params()
    ensemble = WatchedEnsemble.watching(params, seed)
    run = online_run(params, OnlineCell(percentile_label(PERCENTILE), seed, "proxy"), ensemble)
    run.train()
    counted = EXPLOITS[world.exploit].counted
    table = pd.DataFrame([row for row in run.rows if row["prompt_set"] == HELDOUT])[CURVES]
    table["outlier_share"] = ensemble.outlier_shares
    table["exploits"] = [sample[counted].mean() for sample in run.samples]
    table["exploit_share"] = exploit_share(np.stack([sample[counted] for sample in run.samples]))
    table.insert(0, "exploit", world.exploit)
    table.insert(1, "planted", world.planted)
    table.insert(2, "seed", seed)
    to.parent.mkdir(exist_ok=True)
    records.write_table(to, table)


def in_fork(task: Callable[[], None]) -> None:
    """Run ``task`` in a fork of this process, which has the libraries, and wait for it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            task()
            status = 0
        except SystemExit as exit:
            status = int(bool(exit.code))
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"a step of {Path.cwd()} failed; its message stands above")


def stage(name: str, *arguments: str) -> None:
    """Run a stage's script, unless it has been run."""
    done = Path(".done") / "-".join([name, *arguments])
    if done.exists():
        return

    def script() -> None:
        sys.argv = [f"stages/{name}.py", *arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")

    in_fork(script)
    done.parent.mkdir(exist_ok=True)
    done.touch()


def make_project(world: World) -> None:
    """Write the project of a world into the working directory."""
    listed = subprocess.run(["git", "ls-files", *COPIED], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name, name, follow_symlinks=False)
    rewrite(layout.PARAMS, DESIGN)
    rewrite(layout.protocol_file("controlled"), PROTOCOL)
    rewrite(layout.scale_file("tiny"), world.changes())


def rewrite(path: Path, changes: dict[str, Any]) -> None:
    """Change keys of a YAML file; of a section, the keys that are named."""
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def prepare(world: World, folder: Path) -> None:
    """What all seeds of a world share: data, base (that of the exploit's other world, if it is there), beta."""
    make_project(world)
    stage("check_params")
    stage("prepare_data")
    base = folder / World(world.exploit, not world.planted).name / layout.BASE
    if base.parent.joinpath("..", ".done", "prepare_base").exists() and not layout.BASE.exists():
        shutil.copytree(base, layout.BASE)
        Path(".done/prepare_base").touch()
    for name in ("prepare_base", "sample_pairs", "measure_reference", "derive_beta_grid"):
        stage(name)


def train(params: Params, seed: int) -> None:
    """The ensemble and the checkpoint of a seed, and the scores' statistics of the seeds so far."""
    for member in params.ensemble_members:
        stage("train_reward_model", "--seed", str(seed), "--member", str(member))
    stage("train_dpo", "--label", percentile_label(PERCENTILE), "--seed", str(seed))


def make(folder: Path, seeds: Sequence[int]) -> Iterator[str]:
    """Make the runs that are not there, a seed of every world at a time; yields their names."""
    for seed in seeds:
        for world in WORLDS:
            to = folder / "runs" / f"{world.name}-s{seed}.csv"
            if to.exists():
                continue
            directory = folder / world.name
            directory.mkdir(parents=True, exist_ok=True)
            os.chdir(directory)
            prepare(world, folder)
            rewrite(layout.PARAMS, {"seeds": [seed]})
            train(load_params(), seed)
            (Path(".done") / "assess_ensemble").unlink(missing_ok=True)
            stage("assess_ensemble")
            in_fork(lambda world=world, seed=seed, to=to: observe(world, seed, to))  # type: ignore[misc]
            yield to.stem


def gather(folder: Path) -> None:
    """Write every run of ``folder`` as one table."""
    files = [folder / "runs" / f"{world.name}-s{seed}.csv" for world in WORLDS for seed in range(SEEDS)]
    table = pd.concat([pd.read_csv(file) for file in files if file.exists()])
    table.to_csv(RECORD, index=False, float_format="%.6g")
    print(f"{table.groupby(['exploit', 'planted'])['seed'].nunique().to_dict()} runs in {RECORD}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=lambda text: Path(text).absolute(), help="where worlds and runs lie")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N", help="runs of each world (default: %(default)s)"
    )
    parser.add_argument("--gather", action="store_true", help="write the record of the runs and make nothing")
    options = parser.parse_args()
    if options.gather:
        gather(options.folder)
        return
    for name in make(options.folder, range(options.seeds)):
        print(name, flush=True)


if __name__ == "__main__":
    main()
