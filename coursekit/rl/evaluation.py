"""How good an agent is: separate greedy episodes, and what it expected beside what came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.rl.environments import Environments, as_tensor
from coursekit.rl.returns import discounted_returns

_ENDS_LOOKED_FOR = 10_000_000


@dataclass(frozen=True, eq=False)
class Episodes:
    """N greedy episodes, the first of each environment, side by side. T is the length of the longest.

    Attributes:
        obs: what was acted on, (T, N, *obs_shape); None unless it was asked for.
        q: the largest value that the agent expected at each step, (T, N).
        reward: (T, N), 0 after the end.
        lengths: steps of each episode, (N,), int64.
        terminated: (N,), bool: which came to their own end.
    """

    obs: Tensor | None
    q: Tensor
    reward: Tensor
    lengths: Tensor
    terminated: Tensor

    @property
    def returns(self) -> Tensor:
        """The undiscounted returns, (N,), float64."""
        return self.reward.double().sum(0)

    @property
    def running(self) -> Tensor:
        """Which steps belong to their episode, (T, N), bool."""
        return torch.arange(len(self.reward), device=self.reward.device)[:, None] < self.lengths

    def discounted(self, gamma: float) -> Tensor:
        """Return the true discounted return from every step to the end of its episode, (T, N), float64.

        Where an episode was truncated, what would have followed is missing; m steps before the end that is a share
        γ^m of a value.
        """
        return discounted_returns(self.reward, ~self.running, gamma)


@torch.no_grad()
def play(
    values: Callable[[Tensor], Tensor],
    environments: Environments,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    observe: Callable[[Tensor], Tensor] | None = None,
    keep_obs: bool = False,
    limit: int = _ENDS_LOOKED_FOR,
) -> Episodes:
    """Play one episode in each environment with the action of the largest value.

    Args:
        values: from observations (N, *obs_shape) to values (N, A).
        environments: fresh ones: those of the training would lose their episodes.
        seed: of the starts.
        device: of `values`.
        observe: what the agent sees of an observation, for example with noise added; None: the observation.
        keep_obs: whether to keep the true observations, to draw them.
        limit: steps after which the rest is cut off.
    """
    device = torch.device(device)
    obs = as_tensor(environments.reset(seed), device)
    running = torch.ones(environments.count, dtype=torch.bool)
    lengths = torch.zeros(environments.count, dtype=torch.int64)
    terminated = torch.zeros(environments.count, dtype=torch.bool)
    seen, expected, rewards = [], [], []
    while running.any() and len(rewards) < limit:
        largest, action = values(obs if observe is None else observe(obs)).max(1)
        step = environments.step(action.cpu().numpy())
        if keep_obs:
            seen.append(obs)
        expected.append(largest)
        rewards.append(torch.from_numpy(step.reward) * running)
        lengths += running
        ends = torch.from_numpy(step.terminated) & running
        terminated |= ends
        running &= ~(ends | torch.from_numpy(step.truncated))
        obs = as_tensor(step.obs, device)
    return Episodes(
        torch.stack(seen) if keep_obs else None,
        torch.stack(expected),
        torch.stack(rewards).to(device),
        lengths.to(device),
        terminated.to(device),
    )
