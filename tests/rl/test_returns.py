"""n-step windows and true returns against plain loops."""

from __future__ import annotations

import pytest
import torch

from coursekit.errors import ArgumentError
from coursekit.rl import NStep, Rollout, discounted_returns

GAMMA = 0.9


def rollout(steps: int, count: int, seed: int = 0, ends: float = 0.2) -> Rollout:
    """Steps with random rewards and ends; observations count the steps."""
    generator = torch.Generator().manual_seed(seed)
    terminated, truncated = (torch.rand(steps, count, generator=generator) < ends / 2 for _ in range(2))
    number = torch.arange(steps * count, dtype=torch.float32).view(steps, count, 1)
    return Rollout(
        obs=number,
        action=torch.randint(3, (steps, count), generator=generator),
        reward=torch.randn(steps, count, generator=generator),
        next_obs=number + 0.5,
        terminated=terminated,
        truncated=truncated,
    )


def part(whole: Rollout, first: int, last: int) -> Rollout:
    return Rollout(**{name: column[first:last] for name, column in whole.columns().items()})


def by_loop(whole: Rollout, n: int) -> list[tuple[float, ...]]:
    """Every complete window, one step after another."""
    steps, count = whole.action.shape
    rows = []
    for t in range(steps - n + 1):
        for row in range(count):
            total, k = 0.0, 0
            while True:
                total += GAMMA**k * float(whole.reward[t + k, row])
                stopped = bool(whole.terminated[t + k, row] | whole.truncated[t + k, row])
                k += 1
                if stopped or k == n:
                    break
            last = t + k - 1
            rows.append(
                (
                    float(whole.obs[t, row, 0]),
                    float(whole.action[t, row]),
                    total,
                    float(whole.next_obs[last, row, 0]),
                    float(whole.terminated[last, row]),
                    float(whole.truncated[last, row]),
                    GAMMA**k,
                )
            )
    return rows


def as_rows(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "discount")
    return torch.stack([batch[name].reshape(-1).double() for name in names], 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("ends", [0.0, 0.2, 0.9])
def test_windows_equal_a_loop_over_steps(n, ends):
    whole = rollout(40, 3, seed=n, ends=ends)
    expected = torch.tensor(by_loop(whole, n), dtype=torch.float64)
    torch.testing.assert_close(as_rows(NStep(n, GAMMA)(whole)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_no_window_is_cut_at_the_seam_of_two_rollouts(n, cut):
    whole = rollout(30, 2)
    windows, parts = NStep(n, GAMMA), []
    for first in range(0, 30, cut):
        one = part(whole, first, first + cut)
        parts.append(as_rows(windows(one)))
        for column in one.columns().values():
            column.copy_(column.clone())  # the memory is written anew by the next rollout
    torch.testing.assert_close(torch.cat(parts), as_rows(NStep(n, GAMMA)(whole)))


def test_steps_that_wait_survive_the_rollouts_memory_and_a_checkpoint():
    whole, fresh = rollout(8, 2), NStep(3, GAMMA)
    first = part(rollout(8, 2), 0, 4)
    windows = NStep(3, GAMMA)
    begun = as_rows(windows(first))
    first.reward.fill_(99)
    fresh.restore(windows.state(), torch.device("cpu"))
    for one in (windows, fresh):
        torch.testing.assert_close(torch.cat([begun, as_rows(one(part(whole, 4, 8)))]), as_rows(NStep(3, GAMMA)(whole)))


def test_forgotten_steps_begin_no_window():
    windows = NStep(3, GAMMA)
    windows(rollout(5, 2))
    windows.forget()
    assert len(windows(rollout(2, 2))["action"]) == 0
    assert len(windows(rollout(2, 2))["action"]) == 4


def test_windows_of_no_step_are_refused():
    with pytest.raises(ArgumentError, match="at least one step"):
        NStep(0, GAMMA)


def test_discounted_returns_equal_a_loop():
    whole = rollout(30, 4)
    ended = whole.terminated | whole.truncated
    returns = discounted_returns(whole.reward, ended, GAMMA)
    for row in range(4):
        for t in range(30):
            total, k = 0.0, 0
            while t + k < 30:
                total += GAMMA**k * float(whole.reward[t + k, row])
                if ended[t + k, row]:
                    break
                k += 1
            assert float(returns[t, row]) == pytest.approx(total, abs=1e-6)
