"""The smallest project whose pipeline still has every part: a copy of the checkout, without its history and results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
DESIGN: dict[str, Any] = {
    "scale": "micro",
    "beta_percentiles": [20, 90],  # 90: not a percentile of the paper, whose own table stands in the report
    "seeds": [0],
    "ensemble_members": [0, 1],
    "arms": ["proxy", "placebo"],
}
SCALE: dict[str, dict[str, Any]] = {
    "embedded": {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "steps": 40, "batch_size": 16},
    "preferences": {"limit": 160},
    "tasks": {"train_limit": 64, "test_limit": 32, "heldout": 16},
    "lengths": {"response": 24},
    "dpo": {"batch_size": 16},
    "reward_training": {"batch_size": 16},
    "online": {"batch_size": 8, "steps": 3, "heldout_every": 2},
    "best_of_n": {"draws": 8, "prompts": 4},
}
GIT_USER = "[user]\n\tname = test\n\temail = test@example.invalid\n"


def copy_tracked(root: Path) -> None:
    """Copy what Git would hold of the checkout, without results and documents."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (CHECKOUT / name).is_file() and not name.startswith(("metrics/", "plots/", "docs/", "dvc.lock")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, root / name)


def make_small(root: Path) -> None:
    """Give a copy the micro design and scale."""
    scale = yaml.safe_load((root / "scales/tiny.yaml").read_text())
    for section, values in SCALE.items():
        scale[section] |= values
    (root / "scales/micro.yaml").write_text(yaml.safe_dump(scale))
    set_params(root, **DESIGN)


def set_params(root: Path, **changes: Any) -> None:
    """Change values of params.yaml."""
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))
