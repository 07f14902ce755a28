"""The documents name what the code writes, say where it is, and show the numbers of the committed run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pessimism.claims.wording import DOORS, OFFLINE, TOTAL
from pessimism.commands import plan
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.measures.pooling import pool
from pessimism.planning.hardware import find_gpu
from pessimism.planning.plan import make_plan
from pessimism.scoring import columns
from support.repository import CHECKOUT
from support.synthetic_project import Invented, write_project

METRICS = (CHECKOUT / "docs/metrics.md").read_text()
NAMED = set(re.findall(r"`([a-z0-9_]+)`", METRICS))
README = (CHECKOUT / "README.md").read_text()
RESULTS = (CHECKOUT / "docs/results.md").read_text()
PAGES = sorted({*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")})
PACKAGE = CHECKOUT / "src/pessimism"
SOURCES = ("src", "stages", "benchmarks", "tests", "scales", "protocols", "params.yaml", "dvc.yaml", "Makefile")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of invented runs after every scoring stage."""
    root = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(root, Invented(percentiles=(20, 80), seeds=(0, 1)))
        for stage in ("score_hacking", "fit_power_law", "trace_mechanism", "check_claims"):
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
    return root


def test_tables_of_columns_are_those_of_the_entries() -> None:
    """`python -m pessimism.scoring.columns` writes them."""
    assert all(f"<!-- columns: {name} -->" in METRICS for name in columns.DOCUMENTED)
    assert columns.documented(METRICS) == METRICS


@pytest.mark.parametrize(
    "table",
    [
        layout.CELL_SCORES,
        layout.GOODHART_GAP,
        layout.HELDOUT_REWARDS,
        layout.BEST_OF_N,
        layout.DISAGREEMENT,
        layout.MEMBER_PROBES,
        layout.POWER_LAW_CURVE,
    ],
)
def test_every_column_is_explained(scored: Path, table: Path) -> None:
    assert sorted(set(pd.read_csv(scored / table).columns) - NAMED) == []


@pytest.mark.parametrize(
    "file",
    [
        layout.HACKING,
        layout.VARIANCE,
        layout.EQUAL_KL,
        layout.POWER_LAW,
        layout.BETA_STAR,
        layout.CLAIMS,
        layout.VERDICTS,
        layout.MECHANISM,
    ],
)
def test_every_key_is_explained(scored: Path, file: Path) -> None:
    keys = {
        part
        for name, _ in records.leaves(records.read_json(scored / file))
        for part in re.split(r"[.\[]", name)
        if re.fullmatch(r"[a-z][a-z0-9_]+", part) and not re.fullmatch(r"p\d+", part)
    }
    structure = {
        "paper",
        "controlled",
        "claims",
        "proxy",
        "placebo",
        "statement",
        "predicted",
        "note",
        "quantity",
        "unit",
    }
    plain = {"test", "beta", "label", "seed", "value", "arm", "alpha", "runs", "refused"}
    assert sorted(keys - NAMED - structure - plain) == []


def name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_pages_that_the_files_name_exist() -> None:
    """In code, comments and other pages; the changelog also names what is gone."""
    files = [path for source in SOURCES for path in [CHECKOUT / source, *(CHECKOUT / source).rglob("*")]]
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    texts = [path.read_text() for path in [*files, *pages] if path.suffix in {".py", ".yaml", ".md"}]
    named = {page for text in texts for page in re.findall(r"\bdocs/[\w/-]+\.md", text)}
    assert [page for page in sorted(named) if not (CHECKOUT / page).is_file()] == []


def rooms_in_readme() -> list[tuple[list[str], str]]:
    """Rows of "Where is what": their rooms, and what is said of them."""
    rows = re.findall(r"^\| (`[a-z]+/`.*?) \| (.*) \|$", README, re.M)
    return [(re.findall(r"`([a-z]+)/`", rooms), text) for rooms, text in rows]


def test_readme_lists_every_room_once() -> None:
    listed = [room for rooms, _ in rooms_in_readme() for room in rooms]
    assert sorted(listed) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize(("rooms", "text"), rooms_in_readme(), ids=lambda value: str(value)[:20])
def test_readme_names_files_where_they_are(rooms: list[str], text: str) -> None:
    parts = re.findall(r"`(\w+(?:\.py|/))`", text)
    assert [part for part in parts if not any((PACKAGE / room / part).exists() for room in rooms)] == []


def test_readme_shows_where_to_look() -> None:
    """Where the gap is computed, where the beta grid is, and what to touch to add a task."""
    rooms = {room: text for listed, text in rooms_in_readme() for room in listed}
    assert "`goodhart.py`: **the Goodhart gap**" in rooms["measures"] and says("measures/goodhart.py", "controlled_gap")
    assert "`beta_grid.py`: **the grid of β**" in rooms["offline"] and says("offline/beta_grid.py", "beta_grid")
    assert f"`{layout.BETA_GRID}`" in rooms["offline"] and "`beta_percentiles`" in rooms["offline"]
    assert "`src/pessimism/tasks/NAME.py`" in rooms["tasks"] and "docs/extend.md" in rooms["tasks"]


def says(path: str, symbol: str) -> bool:
    """Whether a file of the package defines a name."""
    return re.search(rf"^ *(def |class )?{symbol}\b", (PACKAGE / path).read_text(), re.M) is not None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_name_code_where_it_is(page: Path) -> None:
    """Files of the package, the project or next to the page, and the names in them: ``room/file.py: one, another``."""
    spans = re.findall(r"`([a-z_]+/[a-z_/]+\.py)(?:: ([A-Za-z_, ]+))?`", page.read_text())
    roots = (PACKAGE, CHECKOUT, page.parent)
    assert [path for path, _ in spans if not any((root / path).is_file() for root in roots)] == []
    named = [(path, symbol) for path, symbols in spans for symbol in filter(None, symbols.split(", "))]
    assert [f"{path}: {symbol}" for path, symbol in named if not says(path, symbol)] == []


def test_results_are_those_of_the_committed_run() -> None:
    cells = pd.read_csv(CHECKOUT / layout.CELL_SCORES)
    shown = re.findall(r"^\| \d\.\d{3} \|.*$", RESULTS, re.M)
    assert shown == [row(runs) for _, runs in cells.groupby(["beta", "arm"], sort=False)]


def row(runs: pd.DataFrame) -> str:
    """One line of the table of the committed run."""
    beta, arm = runs["beta"].iloc[0], runs["arm"].iloc[0]
    area, excess = runs["controlled_signed_augc"].mean(), runs["controlled_signed_augc_excess"].mean()
    signed_area = signed(area, 2) + ("" if arm == "placebo" else f" ({signed(excess, 2)})")
    start, change = runs["heldout_true_reward_start"].mean(), signed(runs["heldout_true_reward_change"].mean(), 2)
    areas = f"{spread(runs['augc'], 1)} | {spread(runs['controlled_augc'], 2)}"
    return f"| {beta:.3f} | {arm} | {areas} | {signed_area} | {start:.2f}, {change} |"


def spread(values: pd.Series, digits: int) -> str:
    return f"{values.mean():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def test_verdicts_shown_are_those_of_the_committed_run() -> None:
    claims = records.read_json(CHECKOUT / layout.CLAIMS)["claims"]
    shown = re.findall(r"^\| ([BC]\d+) \| .*? \| (.*?) \| (.*?) \|$", RESULTS, re.M)
    expected = [(claim, *(verdict(claims[claim][measure]) for measure in ("paper", "controlled"))) for claim in claims]
    assert shown == sorted(expected, key=lambda line: (line[0].startswith("B"), int(line[0][1:])))


def verdict(result: dict[str, Any]) -> str:
    """A verdict as the table words it, with its adjusted p: of the opposite direction where that one decided."""
    word = {"insufficient": "open"}.get(result["verdict"], result["verdict"])
    p = result["p_opposite_adjusted" if word == "contradicted" else "p_adjusted"]
    if p is None:
        return f"{word}, no test below six betas"
    return f"{word}, {p:.1g}" if p < 0.001 else f"{word}, {p:.{3 if p < 0.1 else 2}f}"


def test_contrasts_shown_are_those_of_the_committed_run() -> None:
    contrasts = records.read_json(CHECKOUT / layout.CLAIMS)["contrasts"]
    for name in DOORS:
        found = contrasts[name]
        p = f"{found['p_falls']:.2g}"
        assert f"| {with_interval(found)} | {p} | {found['verdict'].replace('beta', 'β')} |" in RESULTS


def test_the_answer_is_that_of_the_committed_worlds() -> None:
    """README, results and the study's own page say its numbers."""
    study = CHECKOUT / "docs/runs/worlds"
    page, answer = (study / "README.md").read_text(), " ".join(README.replace("*", "").split())
    for found in records.read_json(study / "pool.json")["contrasts"].values():
        estimate, (low, high), p = signed(found["estimate"], 1), bounds(found["interval"]), f"{found['p_falls']:.2g}"
        falling = sum(world["estimate"] < 0 for world in found["effects"])
        another = " to ".join(bounds(found["another_world"]))
        share = f"{found['share_between_worlds']:.2f} ({' to '.join(f'{end:.2f}' for end in found['share_interval'])})"
        ends = np.mean([world["lowest_and_highest_by_seed"] for world in found["effects"]], axis=(0, 1))
        assert (
            f"| {' | '.join(bounds(ends))} | {with_interval(found)} | {falling} of 6 | {p} | {another} | {share} |"
            in RESULTS
        )
        assert f"**{estimate}** ({low} to {high})" in page
        assert re.search(rf"{estimate} \((95 % interval )?{low} to {high}, p {p}\)", answer)


def test_what_the_worlds_say_without_the_default_one_is_shown() -> None:
    """The design was set on it, so that it is no fresh world."""
    study = CHECKOUT / "docs/runs/worlds"
    page, said = (study / "README.md").read_text(), " ".join(RESULTS.split())
    for found in records.read_json(study / "pool.json")["contrasts"].values():
        others = pool(np.array([world["estimate"] for world in found["effects"][1:]]))
        told = f"{signed(others.estimate, 1)} ({' to '.join(bounds([others.interval.low, others.interval.high]))}"
        assert f"{told})" in said and f"{told}, p {others.p_falls:.3f})" in " ".join(page.split())


def test_the_worlds_shown_are_those_of_the_study() -> None:
    """Every row of its page: each world's effects, and how many worlds decide a claim."""
    study = CHECKOUT / "docs/runs/worlds"
    page = (study / "README.md").read_text()
    pooled = records.read_json(study / "pool.json")
    effects = [found["effects"] for found in pooled["contrasts"].values()]
    for world, of_world in zip(pooled["worlds"], zip(*effects, strict=True), strict=True):
        told = " | ".join(f"{signed(one['estimate'], 1)} ± {one['error']:.1f}" for one in of_world)
        assert f"| {world['world'].removeprefix('root seed ')} | {told} |" in page
        assert f"`{world['commit'][:7]}` | {', '.join(f'{beta:.2f}' for beta in world['betas'].values())} |" in page
    verdicts = pd.read_csv(study / "verdicts.csv").query("measure == 'controlled'")
    for claim, found in verdicts.groupby("claim")["verdict"]:
        counts = [int((found == word).sum()) for word in ("supported", "contradicted", "insufficient")]
        if claim in ("C9", "C10"):
            assert counts == [0, 0, 6]
        else:
            (row,) = (line for line in page.splitlines() if line.startswith(f"| {claim} |"))
            assert row.endswith(f"| {' | '.join(map(str, counts))} |")


def test_what_is_said_of_equal_kl_is_that_of_the_study() -> None:
    study = CHECKOUT / "docs/runs/worlds"
    page, said = (study / "README.md").read_text(), " ".join((README + RESULTS).split())
    for name, effects in pd.read_csv(study / "equal_kl.csv", index_col="root_seed").items():
        found = pool(effects.to_numpy())
        interval = f"{found.interval.low:.2f} to {found.interval.high:.2f}".replace("-", "−")
        told = [*(signed(effect, 2) for effect in effects), f"{signed(found.estimate, 2)} ({interval})"]
        ps = [f"{found.p_rises:.3f}", f"{found.p_falls:.3f}"]
        row = {"best_of_n": "best of n"}.get(str(name), f"gap at equal KL, `{name}`")
        assert f"| {row} | {' | '.join([*told, *ps])} |" in page
        assert signed(found.estimate, 2) in said and f"({interval}" in said


def test_the_sweep_over_betas_says_its_numbers() -> None:
    study = CHECKOUT / "docs/runs/betas"
    page, said = (study / "README.md").read_text(), " ".join(RESULTS.split())
    for beta, runs in pd.read_csv(study / "cells.csv").groupby("beta"):
        means = runs.groupby("arm").mean(numeric_only=True)
        proxy, uncoupled = means.loc["proxy"], means.loc["uncoupled"]
        areas = " | ".join(bounds([arm["controlled_signed_augc_excess"] for arm in (proxy, uncoupled)]))
        assert f"| {beta:g} | {areas} | {proxy['heldout_true_reward_start']:.2f}, " in page
        assert f"| {proxy['kl_to_base']:.2f} | " in page and f" | {proxy['best_of_n_gap']:.2f} |" in page
    contrasts = records.read_json(study / "metrics/claims.json")["contrasts"]
    for name in DOORS:
        assert f"| {with_interval(contrasts[name])} | {contrasts[name]['p_falls']:.4f} |" in page
    assert all(with_interval(contrasts[name]) in said for name in (TOTAL, OFFLINE))


def with_interval(found: dict[str, Any]) -> str:
    return f"{signed(found['estimate'], 1)} ({' to '.join(bounds(found['interval']))})"


def bounds(interval: list[float]) -> list[str]:
    return [f"{end:.1f}".replace("-", "−") for end in interval]


def test_what_selection_gives_is_that_of_the_committed_run() -> None:
    cells = pd.read_csv(CHECKOUT / layout.CELL_SCORES)
    means = cells.groupby("beta")[["best_of_n_gap", "best_of_n_proxy_gain", "best_of_n_true_gain"]].mean()
    areas = ", ".join(f"{value:.2f}" for value in means["best_of_n_gap"])
    gains = means["best_of_n_proxy_gain"]
    losses = -means["best_of_n_true_gain"]
    said = " ".join(RESULTS.split())
    assert f"a proxy reward {gains.min():.1f} to {gains.max():.1f} base sd higher" in said
    assert f"a true reward {losses.min():.1f} to {losses.max():.1f} lower" in said
    assert f"The gap's area over the KL is {areas} from low to high β" in said


def test_a_release_has_one_version() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    latest = re.search(r"^## (\S+) \((\S+)\)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.M)
    assert latest and latest.groups() == (version, str(citation["date-released"]))
    assert citation["version"] == version


def grid_hours(scale: str, gpu: str) -> float:
    """Of the paper's own grid: 3 betas, 1 seed and the proxy arm."""
    params = dataclasses.replace(load_params(scale=scale), seeds=(0,), arms=("proxy",))
    return float(make_plan(params, find_gpu(gpu))["total_hours"])


def rows_below(header: str) -> list[list[str]]:
    """Cells of the table in docs/paper-scale.md whose first line starts with ``header``."""
    lines = (CHECKOUT / "docs/paper-scale.md").read_text().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(header)]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def rounded_like(written: str, value: float) -> str:
    """``value`` with as many decimals as the number in ``written``, and what stands around that."""
    before, number, after = re.fullmatch(r"(\D*)([\d.]+)(.*)", written).groups()
    return f"{before}{value:.{len(number.partition('.')[2])}f}{after}"


def planned(scale: str, gpu: str) -> dict[str, Any]:
    return json.loads(plan.plan(scale, gpu, 1, None, as_json=True))


def test_the_documents_say_what_is_planned_of_stages_and_whole_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    paper, small = planned("paper", "H100 80GB"), planned("24gb", "RTX 4090")
    rows = rows_below("| stage | memory needed, H100 80GB |")
    names = [re.match(r"`([^`]+)`", name).group(1) for name, *_ in rows]
    assert names == [stage["name"] for stage in paper["stages"]]
    expected = [
        [number for stage in pair for number in (stage["needed_bytes"] / 1e9, stage["hours"])]
        for pair in zip(paper["stages"], small["stages"], strict=True)
    ]
    rows += [[name, *written] for name, _, *written in rows_below("| design | DPO + online cells |")]
    own, price = grid_hours("paper", "H100 80GB"), paper["gpu"]["usd_per_hour"]
    expected.append([own, own * price, grid_hours("24gb", "RTX 4090")])
    expected.append([paper["total_hours"], paper["total_cost_usd"], small["total_hours"]])
    for (name, *written), values in zip(rows, expected, strict=True):
        assert written == [rounded_like(*pair) for pair in zip(written, values, strict=True)], name


def test_no_table_of_the_paper_map_says_one_thing_twice() -> None:
    for table in (CHECKOUT / "docs/paper_map.md").read_text().split("\n\n"):
        firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
        assert sorted(set(firsts)) == sorted(firsts)


def test_a_release_has_one_heading_of_each_kind() -> None:
    for release in (CHECKOUT / "CHANGELOG.md").read_text().split("\n## ")[1:]:
        headings = re.findall(r"^### .*", release, flags=re.MULTILINE)
        assert len(set(headings)) == len(headings), release.splitlines()[0]
