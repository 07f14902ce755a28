"""Streams: repeatable by name, independent of each other and of what was drawn before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism.experiment import rng

NAMES = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 100)), max_size=3).map(tuple)


def test_same_names_same_stream_whatever_was_drawn() -> None:
    first = rng.generator(42, "dpo", 50, 0).normal(size=4)
    rng.generator(42, "other").normal(size=1000)
    np.random.default_rng(0).normal(size=10)
    assert np.array_equal(first, rng.generator(42, "dpo", 50, 0).normal(size=4))


def test_a_stream_is_the_same_in_every_process_and_release() -> None:
    """Python salts hash() of texts per process; a stream must not depend on it."""
    assert rng.seed(42, "dpo", 50, 0) == 1352775414


@given(NAMES, NAMES)
def test_different_names_different_streams(left: tuple[str | int, ...], right: tuple[str | int, ...]) -> None:
    same = [repr(name) for name in left] == [repr(name) for name in right]
    assert (rng.seed(42, *left) == rng.seed(42, *right)) == same


@pytest.mark.parametrize(("left", "right"), [(("a", "b"), ("ab",)), ((1,), ("1",)), (("dpo", 5, 0), ("dpo", 50))])
def test_names_do_not_run_into_each_other(left: tuple[str | int, ...], right: tuple[str | int, ...]) -> None:
    assert rng.seed(42, *left) != rng.seed(42, *right)


def test_root_seed_changes_every_stream() -> None:
    assert rng.seed(42, "base") != rng.seed(43, "base")


def test_streams_are_uncorrelated() -> None:
    draws = np.array([rng.generator(42, "dpo", seed).normal(size=2000) for seed in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)


def test_seed_fits_libraries_that_take_31_bits() -> None:
    assert all(0 <= rng.seed(42, index) < 2**31 for index in range(200))


def test_seed_torch_drives_the_global_generator() -> None:
    import torch

    rng.seed_torch(42, "base")
    first = torch.rand(3)
    torch.rand(100)
    rng.seed_torch(42, "base")
    assert torch.equal(first, torch.rand(3))
