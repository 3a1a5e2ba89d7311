"""Targets, loss, exploration and the slow copy against closed forms and loops."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coursekit.rl import dqn_loss, dueling, epsilon_greedy, linear_epsilon, sync, td_target


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("per_row", [False, True])
def test_targets_equal_a_loop(double, per_row):
    generator = torch.Generator().manual_seed(0)
    slow, online = (torch.randn(50, 4, generator=generator) for _ in range(2))
    reward, terminated = torch.randn(50, generator=generator), torch.arange(50) % 3 == 0
    gamma = torch.linspace(0.5, 1, 50) if per_row else 0.9
    target = td_target(reward, terminated, slow, gamma, online if double else None)
    for row in range(50):
        best = int((online if double else slow)[row].argmax())
        follows = 0.0 if terminated[row] else float(slow[row, best])
        discount = float(gamma[row]) if isinstance(gamma, torch.Tensor) else gamma
        assert float(target[row]) == pytest.approx(float(reward[row]) + discount * follows, abs=1e-6)


def test_a_terminated_row_ignores_even_an_infinite_value():
    q = torch.full((1, 2), torch.inf)
    assert td_target(torch.ones(1), torch.tensor([True]), q, 0.9).tolist() == [1]


def test_targets_carry_no_gradient():
    q = torch.ones(2, 2, requires_grad=True)
    assert not td_target(torch.ones(2), torch.zeros(2, dtype=torch.bool), q, 0.9, q).requires_grad


def test_the_loss_is_hubers_on_the_taken_actions():
    q = torch.tensor([[1.0, 9.0], [9.0, 5.0]], requires_grad=True)
    loss = dqn_loss(
        q, torch.tensor([0, 1]), torch.tensor([0.5, 0.0]), huber_delta=2.0, weights=torch.tensor([1.0, 0.5])
    )
    # ½·0.5² = 0.125, and 2·(5 − 1) = 8 with weight ½; their mean.
    assert loss.item() == pytest.approx((0.125 + 4) / 2)
    loss.backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[0.25, 0], [0, 0.5]]


def test_exploring_actions_are_uniform_and_the_rest_greedy():
    rows, epsilon = 60_000, 0.3
    q = torch.tensor([0.0, 1.0, 0.5]).expand(rows, 3)
    counts = torch.bincount(epsilon_greedy(q, epsilon, torch.Generator().manual_seed(0)), minlength=3)
    for action, p in enumerate((0.1, 0.8, 0.1)):
        assert abs(float(counts[action]) - rows * p) < 5 * (rows * p * (1 - p)) ** 0.5
    assert epsilon_greedy(q[:100], 0.0, torch.Generator()).tolist() == [1] * 100


def test_epsilon_falls_on_a_line_and_stays():
    assert [linear_epsilon(step, 1.0, 0.2, 10) for step in (0, 5, 10, 99)] == pytest.approx([1, 0.6, 0.2, 0.2])


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_sync_moves_parameters_and_copies_buffers(tau):
    online = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    target = copy.deepcopy(online)
    for part in online.parameters():
        part.data += 1
    online(torch.randn(8, 3))
    before = [part.clone() for part in target.parameters()]
    sync(target, online, tau)
    for old, slow, fast in zip(before, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(slow, (1 - tau) * old + tau * fast)
        if tau == 1:
            assert slow.equal(fast)
        assert slow.data_ptr() != fast.data_ptr()
    for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
        assert slow.equal(fast)


def test_dueling_values_have_the_value_as_their_mean():
    value, advantage = torch.randn(5, 1), torch.randn(5, 3)
    q = dueling(value, advantage)
    torch.testing.assert_close(q.mean(1, keepdim=True), value)
    torch.testing.assert_close(q - q[:, :1], advantage - advantage[:, :1])
