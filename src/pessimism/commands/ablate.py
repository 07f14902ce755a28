"""One switch of the protocol at a time: which bias makes which difference?"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pessimism.commands.effects import METRICS, Record, effect
from pessimism.commands.table import aligned
from pessimism.data.hashing import rows_hash
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.experiment.yaml_files import parse_yaml

OTHER = {"paper": "controlled", "controlled": "paper"}
SHOWN = {"augc": "AUGC", "controlled_signed_augc_excess": "controlled"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "switches", nargs="*", metavar="SWITCH", help="keys of the protocol file (default: every switch)"
    )


def run(options: argparse.Namespace) -> None:
    print(ablate(options.switches))


def ablate(switches: Sequence[str]) -> str:
    """Turn each switch of the current protocol to its other value, alone, and compare the results.

    Every switch is one DVC experiment in a temporary directory: the working tree stays as it is, and only the stages
    that the switch touches run. Its name holds the protocol, the switch and a hash of all parameters, and an experiment
    of that name is not made again.

    Args:
        switches: the ones to turn; all where empty.

    Returns:
        One row per experiment, and one of the unchanged run: AUGC by both measures at each beta, means over seeds.
        Below it the verdicts that each switch turned, and the numbers that it moved.

    Raises:
        ParamsError: an unknown switch, or a protocol that has no counterpart.
        DataError: an experiment failed, or there is no finished run to compare with.
    """
    name = load_params().protocol_name
    values = turned_values(name)
    unknown = sorted(set(switches) - values.keys())
    if unknown:
        raise ParamsError(f"found no switch {', '.join(unknown)}; expected some of {', '.join(values)}")
    unchanged, made = {path: records.read_json(path) for path in METRICS}, _experiments()
    areas = unchanged[layout.HACKING]
    rows, effects = [_row(f"{name} (unchanged)", areas)], []
    for switch in switches or values:
        experiment = experiment_name(name, switch)
        if experiment not in made:
            _run(experiment, f"{layout.protocol_file(name)}:{switch}={json.dumps(values[switch])}")
        turned, found = f"{switch}: {json.dumps(values[switch])}", _metrics(experiment)
        rows.append(_row(turned, found[layout.HACKING]))
        effects.append(effect(turned, unchanged, found))
    header = [f"{title} {percentile}" for key, title in SHOWN.items() for percentile in areas.get(key, {})]
    return "\n".join([aligned([("switch", *header), *rows]), _LEGEND, "", *effects])


_LEGEND = (
    "AUGC: the paper's measure; controlled: above the placebo of the same checkpoint. Means over the first arm.\n"
    "All metrics of one experiment: dvc metrics diff HEAD NAME; all experiments: pessimism experiments."
)


def experiment_name(protocol: str, switch: str) -> str:
    """Name of the experiment that turns ``switch``, different wherever any parameter is."""
    params = load_params()
    files = (layout.PARAMS, layout.scale_file(params.scale_name), layout.protocol_file(protocol))
    digest = rows_hash([_read(path) for path in files])
    return re.sub("[_.]", "-", f"ablate-{protocol}-{switch}-{digest[:6]}")


def turned_values(protocol: str) -> dict[str, Any]:
    """Each switch with its other value: the opposite of a truth value, or else the other protocol's.

    Of arms, those that learn under both. Numbers and words on which both agree have no other value.
    """
    if protocol not in OTHER:
        raise ParamsError(f"params.yaml: protocol: found {protocol!r}; expected one of {sorted(OTHER)} to ablate")
    contents = [_read(layout.protocol_file(name)) for name in (protocol, OTHER[protocol])]
    arms = [arm for arm in load_params().arms if all(_learns(content["arms"], arm) for content in contents)]
    here, there = (_switches(content, arms) for content in contents)
    other = {key: _other(key, value, there.get(key)) for key, value in here.items()}
    return {key: value for key, value in other.items() if value != here[key]}


def _other(switch: str, value: Any, in_the_other_protocol: Any) -> Any:
    """The opposite of a truth value; of anything else, among it the reward ``true`` of an arm, the other protocol's."""
    is_truth = isinstance(value, bool) and not switch.endswith(".reward")
    return not value if is_truth else in_the_other_protocol


def _switches(content: dict[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    """Every switch by its dotted name, those of ``arms`` included."""
    defined = content.pop("arms")
    return {f"arms.{arm}.{key}": value for arm in arms for key, value in defined[arm].items()} | content


def _learns(defined: dict[str, Any], arm: str) -> bool:
    return arm in defined and bool(defined[arm]["learning_rate_factor"])


def _read(path: Path) -> dict[str, Any]:
    return dict(parse_yaml(path.read_text(encoding="utf-8"), str(path)))


def _row(label: str, hacking: Mapping[str, Any]) -> tuple[str, ...]:
    return (label, *(f"{value:.2f}" for key in SHOWN for value in hacking.get(key, {}).values()))


def _run(experiment: str, change: str) -> None:
    print(f"{experiment}: {change}", flush=True)
    done = subprocess.run([*_DVC, "exp", "run", "--temp", "--name", experiment, "--set-param", change], check=False)
    if done.returncode:
        raise DataError(f"the experiment {experiment} failed (see above); its parameters were {change}")


def _experiments() -> set[str]:
    return set(_dvc("exp", "list", "--name-only").split())


def _metrics(experiment: str) -> Record:
    from dvc.api import metrics_show
    from dvc.exceptions import DvcException

    try:
        return {path: metrics_show(str(path), rev=experiment) for path in METRICS}
    except DvcException as error:
        raise DataError(
            f"the experiment {experiment} lacks one of {', '.join(map(str, METRICS))}; expected all, as this version "
            f"writes them: `dvc exp remove {experiment}`, and it is run again"
        ) from error


_DVC = [sys.executable, "-m", "dvc"]


def _dvc(*arguments: str) -> str:
    done = subprocess.run([*_DVC, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"`dvc {' '.join(arguments)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout
