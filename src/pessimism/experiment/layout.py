"""Every path of the project, relative to its root. The only place in Python that spells file names.

Every stage runs with the project root as working directory, as DVC does.
"""

from __future__ import annotations

from pathlib import Path

from pessimism.experiment.cells import Cell, DpoCell, OnlineCell, RewardCell, seed_key

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
SCALES = Path("scales")
PROTOCOLS = Path("protocols")
SHIPPED_DESIGN = Path(__file__).parent / "design"
"""The committed parameters and dvc.yaml as the package brings them along, for where there is no project."""
RUN_RECORDS = Path("run_records")
CONTENT_HASHES = Path(".content_hashes.json")
STAGE_LOCKS = Path(".dvc") / "tmp" / "stages"
UNFINISHED = Path(".dvc") / "tmp" / "unfinished"

DATA = Path("data")
PARAMS_CHECKED = DATA / "params_checked.txt"
SHARED_INPUTS = DATA / "inputs"
PREFERENCES = DATA / "preferences"
SAMPLED_PAIRS_RECORD = PREFERENCES / "sampled.json"
SOURCE_PREFERENCES = DATA / "source_preferences"
TASKS = DATA / "tasks"
SET_ASIDE = DATA / "set_aside"
SET_ASIDE_RECORD = SET_ASIDE / "set_aside.json"
TASK_CODE = TASKS / "code.json"
DATA_RECORD = DATA / "sources.json"
BASE_SAMPLES = DATA / "base_samples.parquet"
REFERENCE = DATA / "reference"
REFERENCE_LOGPS = REFERENCE / "dpo_logps.parquet"
GRID_LOGPS = REFERENCE / "grid_logps.parquet"
ONLINE_RUNS = DATA / "online"
PROBES = DATA / "probes"
BEST_OF_N_DRAWS = DATA / "best_of_n"

MODELS = Path("models")
BASE = MODELS / "base"
BASE_WEIGHTS = BASE / "weights"
WARM_START = BASE / "warm_start"
WARM_START_RECORD = BASE / "warm_start.json"
REWARD_MEMBERS = MODELS / "reward"
DPO_ADAPTERS = MODELS / "dpo"
ONLINE_ADAPTERS = MODELS / "online"

METRICS = Path("metrics")
BETA_GRID = METRICS / "beta_grid.json"
ENSEMBLE = METRICS / "ensemble.json"
REWARD_MEMBERS_RECORD = METRICS / "reward_members.json"
BASE_METRICS = METRICS / "base.json"
HACKING = METRICS / "hacking.json"
POWER_LAW = METRICS / "power_law.json"
BETA_STAR = METRICS / "beta_star.json"
VARIANCE = METRICS / "variance.json"
EQUAL_KL = METRICS / "equal_kl.json"
CLAIMS = METRICS / "claims.json"
VERDICTS = METRICS / "verdicts.json"
MECHANISM = METRICS / "mechanism.json"

PLOTS = Path("plots")
LOG_RATIOS = PLOTS / "log_ratios.csv"
GOODHART_GAP = PLOTS / "goodhart_gap.csv"
HELDOUT_REWARDS = PLOTS / "heldout_rewards.csv"
CELL_SCORES = PLOTS / "cells.csv"
DISAGREEMENT = PLOTS / "disagreement.csv"
BEST_OF_N = PLOTS / "best_of_n.csv"
MEMBER_PROBES = PLOTS / "member_probes.csv"
POWER_LAW_CURVE = PLOTS / "power_law.csv"
REPORT = PLOTS / "report"
REPORT_PAGE = REPORT / "index.html"


def unfinished(stage: str, cell: Cell | None) -> Path:
    """What a stage keeps of its work, on a cell where it has cells, until that is done."""
    return UNFINISHED / (stage if cell is None else f"{stage}@{cell.key}")


def design_root() -> Path:
    """Where the design is: the project here, or what the package brings along where there is none."""
    return Path() if PARAMS.is_file() else SHIPPED_DESIGN


def scale_file(scale: str) -> Path:
    return SCALES / f"{scale}.yaml"


def protocol_file(protocol: str) -> Path:
    return PROTOCOLS / f"{protocol}.yaml"


def shared_inputs(stage: str) -> Path:
    """Code and parameters that all cells of ``stage`` share."""
    return SHARED_INPUTS / f"{stage}.json"


def source_preferences(split: str) -> Path:
    """Preference pairs of ``split`` as the source has them: train, val or test."""
    return SOURCE_PREFERENCES / f"{split}.parquet"


def preferences(split: str) -> Path:
    """Preference pairs of ``split``, the source's and those sampled on the task: train, val or test."""
    return PREFERENCES / f"{split}.parquet"


def set_aside(purpose: str) -> Path:
    """Train problems for the ``warm_start`` of the policy's base, or for ``pairs`` that it is sampled on."""
    return SET_ASIDE / f"{purpose}.parquet"


def tasks(split: str) -> Path:
    """Verifiable problems of ``split``: train, heldout, test, or shots where the scale shows any."""
    return TASKS / f"{split}.parquet"


def base_record(role: str) -> Path:
    """What prepare_base resolved for ``role``: policy or reward."""
    return BASE / f"{role}.json"


def reward_ensemble(seed: int) -> Path:
    """The members of the ensemble of a seed."""
    return REWARD_MEMBERS / seed_key(seed)


def reward_member(cell: RewardCell) -> Path:
    return reward_ensemble(cell.seed) / f"member-{cell.member}"


def dpo_adapter(cell: DpoCell) -> Path:
    return DPO_ADAPTERS / cell.key


def training_record(directory: Path) -> Path:
    """Hyperparameters, losses and validation of the training whose adapter lies in ``directory``."""
    return directory / "training.json"


def online_adapter(cell: OnlineCell) -> Path:
    return ONLINE_ADAPTERS / cell.key


def online_run(cell: OnlineCell) -> Path:
    return ONLINE_RUNS / cell.key


def trajectory(cell: OnlineCell) -> Path:
    """One row per measured step and prompt set (on-policy batch or held-out)."""
    return online_run(cell) / "trajectory.csv"


def heldout_samples(cell: OnlineCell) -> Path:
    """One row per measured step and held-out prompt."""
    return online_run(cell) / "heldout_samples.parquet"


def live_rows(cell: OnlineCell) -> Path:
    """The trajectory as it is measured, one JSON object per line, for who watches; nothing depends on it."""
    return RUN_RECORDS / f"{cell.key}.jsonl"


def rollouts(cell: OnlineCell) -> Path:
    """A sample of generated responses, one JSON object per line."""
    return online_run(cell) / "rollouts.jsonl"


def online_hyperparameters(cell: OnlineCell) -> Path:
    """The derived values of the run."""
    return online_run(cell) / "hyperparameters.json"


def probe(cell: DpoCell) -> Path:
    return PROBES / f"{cell.key}.json"


def best_of_n_draws(cell: DpoCell) -> Path:
    """One row per held-out problem and response drawn of the checkpoint."""
    return BEST_OF_N_DRAWS / f"{cell.key}.parquet"


def figure(name: str) -> Path:
    return REPORT / f"{name}.png"
