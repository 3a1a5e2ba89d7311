"""From steps to what they were worth: n-step transitions for a replay, and true discounted returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coursekit.errors import ArgumentError
from coursekit.rl.collecting import Rollout
from coursekit.rl.replay import Batch


class NStep:
    """Turns rollouts into transitions that look n steps ahead.

    A window that meets the end of an episode stops there. The last n − 1 steps of a rollout wait for the next one,
    so that no window is cut at the seam between two rollouts.

    Args:
        n: steps in a full window; 1 gives the steps themselves.
        gamma: discount.

    Raises:
        ArgumentError: n is below 1.

    Source: Sutton & Barto 2018, section 7.1; Pardo et al. 2018 for time limits.
    """

    def __init__(self, n: int, gamma: float) -> None:
        if n < 1:
            raise ArgumentError("NStep", "at least one step", got=n, fix="set n to 1 or more")
        self.n, self.gamma = n, gamma
        self._waiting: Batch | None = None

    def __call__(self, rollout: Rollout) -> Batch:
        """Return the windows that are complete, oldest first.

        Returns:
            obs, action, reward (Σ γ^k r_k of m ≤ n steps), next_obs (after those m steps), terminated, truncated and
            discount (γ^m), each with B rows.
        """
        steps = rollout.columns()
        if self.n == 1:
            steps["discount"] = torch.full_like(steps["reward"], self.gamma)
            return {name: column.flatten(0, 1) for name, column in steps.items()}
        if self._waiting is not None:
            steps = {name: torch.cat([self._waiting[name], column]) for name, column in steps.items()}
        starts = len(steps["action"]) - self.n + 1
        # A copy: a view would keep the whole rollout.
        self._waiting = {name: column[max(0, starts) :].clone() for name, column in steps.items()}
        if starts < 1:
            return {name: column[:0].flatten(0, 1) for name, column in (*steps.items(), ("discount", steps["reward"]))}
        reward = steps["reward"][:starts].clone()
        discount = torch.full_like(reward, self.gamma)
        length = torch.ones_like(steps["action"][:starts])
        ended = steps["terminated"] | steps["truncated"]
        going = ~ended[:starts]
        for k in range(1, self.n):
            reward += torch.where(going, self.gamma**k * steps["reward"][k : starts + k], 0)
            discount = torch.where(going, self.gamma ** (k + 1), discount)
            length += going
            going = going & ~ended[k : starts + k]
        last = torch.arange(starts, device=reward.device)[:, None] + length - 1
        row = torch.arange(reward.shape[1], device=reward.device)
        windows = {
            "obs": steps["obs"][:starts],
            "action": steps["action"][:starts],
            "reward": reward,
            "discount": discount,
            **{name: steps[name][last, row] for name in ("next_obs", "terminated", "truncated")},
        }
        return {name: column.flatten(0, 1) for name, column in windows.items()}

    def forget(self) -> None:
        """Drop the steps that wait: what follows does not follow from them."""
        self._waiting = None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"waiting": self._waiting}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Take back what `state` returned."""
        waiting = state["waiting"]
        self._waiting = None if waiting is None else {name: column.to(device) for name, column in waiting.items()}


def discounted_returns(reward: Tensor, ended: Tensor, gamma: float) -> Tensor:
    """Return Σ γ^k r_{t+k} up to the end of the episode, for every step.

    Args:
        reward: (T, N).
        ended: (T, N), bool: the episode ended with this step. What comes after the last step counts as nothing.
        gamma: discount.

    Returns:
        (T, N), float64.
    """
    returns = reward.double()
    for t in range(len(reward) - 2, -1, -1):
        returns[t] += gamma * returns[t + 1] * ~ended[t]
    return returns
