"""Distances and entropies on cases with known answers."""

import numpy as np
import pytest

from pessimism.probes.representation import cosine_distances, mean_pairwise_cosine_distance


def test_cosine_distance_of_parallel_orthogonal_and_opposite_states():
    states = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert cosine_distances(states, np.array([5.0, 0.0])).tolist() == pytest.approx([0.0, 1.0, 2.0])


def test_diversity_counts_each_unordered_pair_once_and_no_state_with_itself():
    states = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert mean_pairwise_cosine_distance(states) == pytest.approx((1 + 2 + 1) / 3)
    assert mean_pairwise_cosine_distance(np.ones((4, 3))) == pytest.approx(0.0)


def test_a_zero_state_and_a_single_state_are_refused():
    with pytest.raises(ValueError, match="norm 0"):
        cosine_distances(np.zeros((1, 2)), np.ones(2))
    with pytest.raises(ValueError, match="found 1 state"):
        mean_pairwise_cosine_distance(np.ones((1, 2)))
