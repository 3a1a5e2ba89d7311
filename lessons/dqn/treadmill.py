"""A treadmill: the smallest world in which an episode can end for two reasons, with every value known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Target = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""The TD target (b,) of rewards (b,), ends (b,), the next values (b, a) and the discount."""


@dataclass(frozen=True)
class Treadmill:
    """One state, one action, reward 1 a step. Falling off terminates an episode; the time limit truncates the rest.

    Attributes:
        fall: the probability of a fall in each step, in (0, 1).
        limit: the step after which an episode that still runs is truncated.
        gamma: the discount.
    """

    fall: float
    limit: int
    gamma: float

    @property
    def mean_length(self) -> float:
        """Steps in an episode, on average: Σ (1 − fall)ᵗ for t from 0 to limit − 1."""
        return (1 - (1 - self.fall) ** self.limit) / self.fall

    def value(self, end: float) -> float:
        """Return the v with v = 1 + γ (1 − end) v: the value when a share `end` of all steps has no future."""
        return 1 / (1 - self.gamma * (1 - end))

    def walk(self, episodes: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return for each step of that many episodes whether it was terminated, and whether truncated, bool (b,)."""
        generator = torch.Generator().manual_seed(seed)
        falls_at = torch.empty(episodes, dtype=torch.float64).geometric_(self.fall, generator=generator).long()
        last = falls_at.clamp(max=self.limit).cumsum(0) - 1
        terminated = torch.zeros(int(last[-1]) + 1, dtype=torch.bool)
        truncated = terminated.clone()
        terminated[last] = falls_at <= self.limit
        truncated[last] = falls_at > self.limit
        return terminated, truncated


def fitted_values(target: Target, no_future: Tensor, gamma: float, updates: int) -> list[float]:
    """Return the value of the one state after each update v ← mean of the targets, from zero.

    Args:
        target: the rule.
        no_future: which steps of the experience count as terminated, bool (b,).
        gamma: the discount.
        updates: how many.
    """
    reward, value, history = torch.ones(len(no_future)), torch.zeros(1, 1), []
    for _ in range(updates):
        value = target(reward, no_future, value.expand(len(no_future), 1), gamma).mean().view(1, 1)
        history.append(float(value))
    return history
