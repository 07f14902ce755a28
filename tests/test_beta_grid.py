"""The beta grid against the published one and against its own definition."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism.errors import DataError
from pessimism.experiment import records
from pessimism.offline.beta_grid import beta_grid, grid_record, log_ratio_sizes, quantile_table

PUBLISHED = {"p20": 0.31034482726727597, "p50": 0.9999999989723337, "p80": 2.3793103423824493}


def table(chosen: list[float], rejected: list[float]) -> pd.DataFrame:
    columns = {f"chosen_{name}": chosen for name in ("float32", "bfloat16")}
    return pd.DataFrame(columns | {f"rejected_{name}": rejected for name in ("float32", "bfloat16")})


def test_published_betas_follow_from_deltas_of_36_116_and_276_nats() -> None:
    deltas = np.interp(np.linspace(0, 1, 101), [0, 0.2, 0.5, 0.8, 1], [0, 36, 116, 276, 600])
    assert beta_grid(deltas, [20, 50, 80]) == pytest.approx(PUBLISHED, rel=1e-12)


def test_delta_is_the_absolute_difference() -> None:
    assert log_ratio_sizes(table([-5.0, -9.0], [-8.0, -2.0]), "float32").tolist() == [3.0, 7.0]


@given(st.lists(st.floats(0.01, 1e3), min_size=1, max_size=40), st.floats(0.5, 100))
def test_beta_rises_with_the_percentile_and_ignores_the_unit(deltas: list[float], unit: float) -> None:
    percentiles = [5, 20, 50, 80, 95]
    betas = list(beta_grid(np.array(deltas), percentiles).values())
    assert betas == sorted(betas)
    assert betas[2] == pytest.approx(1, rel=1e-4)
    scaled = list(beta_grid(np.array(deltas) * unit, percentiles).values())
    assert scaled == pytest.approx(betas, rel=1e-4)


def test_the_protocol_decides_which_precision_is_used() -> None:
    rows = pd.DataFrame(
        {
            "chosen_float32": [-1.0, -2.0, -4.0],
            "rejected_float32": [-2.0, -4.0, -8.0],
            "chosen_bfloat16": [-1.0, -2.0, -4.0],
            "rejected_bfloat16": [-3.0, -4.0, -8.0],
        }
    )
    record = grid_record(rows, [20], "bfloat16")
    assert record["p20"] == record["bfloat16"]["p20"] != record["float32"]["p20"]
    assert record["bfloat16"]["median_delta"] == 2.0
    assert record["pairs"] == 3
    assert grid_record(rows, [20], "float32")["p20"] == record["float32"]["p20"]


def test_a_beta_of_zero_is_refused_only_in_the_precision_in_use() -> None:
    rows = table([0.0, 0.0, 0.0, -4.0, -9.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    rows["chosen_float32"] = [-1.0, -2.0, -3.0, -4.0, -9.0]
    with pytest.raises(DataError, match=r"beta is 0 at \['p20'\].*bfloat16"):
        grid_record(rows, [20, 80], "bfloat16")
    assert grid_record(rows, [20, 80], "float32")["p20"] > 0


def test_quantile_table_is_ready_to_draw() -> None:
    quantiles = quantile_table(table([-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]))
    float32 = quantiles[quantiles["precision"] == "float32"]
    assert list(quantiles.columns) == ["precision", "quantile", "delta"]
    assert float32["quantile"].iloc[[0, 50, 100]].tolist() == [0.0, 0.5, 1.0]
    assert float32["delta"].iloc[[0, 50, 100]].tolist() == [1.0, 2.0, 3.0]
    assert float32["delta"].is_monotonic_increasing


def test_other_labels_spell_their_strength_and_nest_at_their_dots() -> None:
    """DVC reads a dot in a key as a step into a record."""
    record = grid_record(table([-1.0, -2.0], [-2.0, -3.0]), [50], "float32", ["b0.05", "orpo"])
    assert record["b0"] == {"05": 0.05} and record["orpo"] is None
    assert [records.get(record, label) for label in ("b0.05", "orpo", "p50")] == [0.05, None, record["p50"]]


def test_two_labels_of_one_strength_are_refused() -> None:
    even = table([-1.0, -2.0, -3.0], [-2.0, -3.0, -4.0])
    with pytest.raises(DataError, match="at both p20 and p50"):
        grid_record(even, [20, 50], "float32")
    median = grid_record(even, [50], "float32")["p50"]
    with pytest.raises(DataError, match=r"at both b0\.5 and b0\.50"):
        grid_record(even, [50], "float32", ["b0.5", "b0.50"])
    assert median != 0.5
