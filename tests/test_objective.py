"""The online objective on numbers worked by hand."""

import math

import pytest
import torch

from pessimism.measures.epsilon import EPS
from pessimism.online.divergence import kl_k1, kl_k3
from pessimism.online.terms import (
    kl_coefficient,
    normalized_advantages,
    online_loss,
    penalty_weights,
)


def test_advantages_use_the_sample_deviation():
    advantages = normalized_advantages(torch.tensor([1.0, 3.0]))
    assert advantages.tolist() == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2)], rel=1e-6)


def test_advantages_of_equal_rewards_are_zero():
    assert normalized_advantages(torch.tensor([2.0, 2.0, 2.0])).tolist() == [0.0, 0.0, 0.0]


def test_one_reward_has_no_advantage():
    with pytest.raises(ValueError, match=r"found 1 reward.*online.batch_size"):
        normalized_advantages(torch.tensor([1.0]))


def test_kappa_divides_by_the_percentile_of_absolute_log_ratios():
    log_ratios = torch.tensor([-4.0, 1.0, 2.0])
    assert float(kl_coefficient(3.0, log_ratios, 50, 0.0)) == pytest.approx(1.5)
    assert float(kl_coefficient(3.0, log_ratios, 100, 0.0)) == pytest.approx(0.75)


def test_kappa_scales_with_beta_and_carries_no_gradient():
    log_ratios = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    low, high = (kl_coefficient(beta, log_ratios, 50, 0.0) for beta in (0.5, 2.0))
    assert float(high / low) == pytest.approx(4.0)
    assert not high.requires_grad


def test_kappa_is_beta_over_eps_where_nothing_moved_unless_the_noise_floor_says_zero():
    nothing = torch.zeros(4)
    assert float(kl_coefficient(1.0, nothing, 50, 0.0)) == pytest.approx(1 / EPS)
    assert float(kl_coefficient(1.0, nothing, 50, 1e-3)) == 0.0


def test_loss_by_hand():
    logps, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])
    loss = online_loss(logps, reference, torch.tensor([1.0, -1.0]), torch.tensor(2.0))
    # -mean(A logp) = -(-1 + 2) / 2 = -0.5;  2 * mean(0.25, 1) = 1.25
    assert float(loss) == pytest.approx(0.75)


def test_loss_gradient_pushes_up_what_earned_more():
    logps = torch.tensor([-1.0, -1.0], requires_grad=True)
    online_loss(logps, logps.detach(), torch.tensor([1.0, -1.0]), torch.tensor(1.0)).backward()
    assert logps.grad.tolist() == [-0.5, 0.5]


def test_the_penalty_weighs_about_two_beta_however_small_the_log_ratios():
    """The scale-free kappa amplifies rounding; the column penalty_ratio is there to show it."""
    for size in (1e-3, 1.0):
        log_ratios = torch.tensor([size, -size])
        kappa = kl_coefficient(1.5, log_ratios, 50, 0.0)
        assert penalty_weights(log_ratios, torch.ones(2), kappa).tolist() == pytest.approx([3.0, 3.0], rel=1e-3)


def test_kl_estimates():
    logps, reference = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    assert kl_k1(logps, reference).tolist() == pytest.approx([-0.5])
    expected = (math.exp(-0.5) - 1 + 0.5) + (math.exp(1.0) - 1 - 1.0)
    assert kl_k3(logps, reference).tolist() == pytest.approx([expected])


def test_both_kl_estimates_agree_with_the_exact_divergence():
    torch.manual_seed(0)
    policy, reference = torch.randn(8).log_softmax(0), torch.randn(8).log_softmax(0)
    exact = float((policy.exp() * (policy - reference)).sum())
    drawn = torch.multinomial(policy.exp(), 200_000, replacement=True)
    k1 = kl_k1(policy[drawn][:, None], reference[drawn][:, None]).mean()
    k3 = kl_k3(policy[drawn][:, None], reference[drawn][:, None]).mean()
    assert float(k1) == pytest.approx(exact, rel=0.03)
    assert float(k3) == pytest.approx(exact, rel=0.03)
