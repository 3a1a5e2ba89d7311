"""The second seam: what an agent's actions led to, T steps of N environments, as tensors on the device.

A replay keeps the steps of many rollouts and forgets their order; an on-policy method learns from one rollout as it
stands and throws it away. Both begin here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.rl.environments import Environments, as_tensor

Policy = Callable[[Tensor], Tensor]
"""Chooses an action (N,), int64, for every observation (N, *obs_shape)."""

_RECENT = 100


@dataclass(frozen=True, eq=False)
class Rollout:
    """T steps of N environments, in order of time.

    Attributes:
        obs: what was acted on, (T, N, *obs_shape).
        action: (T, N), int64.
        reward: (T, N), float32.
        next_obs: what each step led to, before any reset, (T, N, *obs_shape).
        terminated: (T, N), bool.
        truncated: (T, N), bool.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    truncated: Tensor

    def columns(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return dict(vars(self))


class Collector:
    """Steps environments with a policy and keeps count of the episodes.

    Args:
        environments: where to act; they are reset here.
        steps: T, steps of each environment in one rollout.
        seed: of the environments.
        device: where the policy works and the rollout lies.

    Attributes:
        returns: the undiscounted returns of the last 100 finished episodes, oldest first.
        episodes: finished episodes so far.
    """

    def __init__(self, environments: Environments, steps: int, *, seed: int, device: torch.device) -> None:
        self.environments, self.steps, self.device = environments, steps, device
        self.returns: deque[float] = deque(maxlen=_RECENT)
        self.episodes = 0
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Leave the running episodes as they are and begin new ones."""
        self._obs = as_tensor(self.environments.reset(seed), self.device)
        self._running = np.zeros(self.environments.count)

    @torch.no_grad()
    def collect(self, policy: Policy) -> Rollout:
        """Take T steps in every environment."""
        device, obs = self.device, self._obs
        seen, actions, led_to, steps = [], [], [], []
        for _ in range(self.steps):
            action = policy(obs)
            step = self.environments.step(action.cpu().numpy())
            seen.append(obs)
            actions.append(action)
            steps.append(step)
            obs = as_tensor(step.obs, device)
            # Without an end both are the same array: it travels to the device once.
            led_to.append(obs if step.next_obs is step.obs else as_tensor(step.next_obs, device))
            self._running += step.reward
            if step.next_obs is not step.obs:
                ended = step.terminated | step.truncated
                finished = self._running[ended].tolist()
                self.returns.extend(finished)
                self.episodes += len(finished)
                self._running[ended] = 0
        self._obs = obs
        return Rollout(
            obs=torch.stack(seen),
            action=torch.stack(actions),
            reward=as_tensor(np.stack([step.reward for step in steps]), device),
            next_obs=torch.stack(led_to),
            terminated=as_tensor(np.stack([step.terminated for step in steps]), device),
            truncated=as_tensor(np.stack([step.truncated for step in steps]), device),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values and tensors."""
        return {
            "environments": self.environments.state(),
            "running": torch.from_numpy(self._running.copy()),
            "returns": list(self.returns),
            "episodes": self.episodes,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self._obs = as_tensor(self.environments.restore(state["environments"]), self.device)
        self._running = state["running"].numpy().copy()
        self.returns = deque(state["returns"], maxlen=_RECENT)
        self.episodes = state["episodes"]
