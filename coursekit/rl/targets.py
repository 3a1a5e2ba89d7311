"""What deep Q-learning computes: the target, the loss, exploration, and the slow copy of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def epsilon_greedy(q: Tensor, epsilon: float, g: torch.Generator) -> Tensor:
    """Choose the best action of each row, or with probability ε any of them.

    Args:
        q: values (B, A).
        epsilon: ε from 0 to 1.
        g: draws the random numbers, on q's device.

    Returns:
        Actions (B,), int64.
    """
    rows, actions = q.shape
    explores = torch.rand(rows, generator=g, device=q.device) < epsilon
    return torch.where(explores, torch.randint(actions, (rows,), generator=g, device=q.device), q.argmax(1))


def linear_epsilon(step: int, start: float = 1.0, end: float = 0.05, decay_steps: int = 10_000) -> float:
    """Return ε of an environment step: a straight line from `start` to `end`, and `end` ever after.

    Source: Mnih et al. 2015, methods.
    """
    return start + (end - start) * min(1.0, step / decay_steps)


def td_target(
    reward: Tensor,
    terminated: Tensor,
    q_next_target: Tensor,
    gamma: float | Tensor,
    q_next_online: Tensor | None = None,
) -> Tensor:
    """Return r + γ · (1 − terminated) · Q_target(s', a*), without a gradient.

    Args:
        reward: (B,).
        terminated: (B,), bool. Truncated episodes go on, and bootstrap.
        q_next_target: values of the next observation by the target network, (B, A).
        gamma: discount, a number or (B,).
        q_next_online: values of the next observation by the online network (B, A), which then choose a* (Double
            DQN); None: the target network chooses too.

    Returns:
        (B,).

    Source: Mnih et al. 2015, algorithm 1; van Hasselt, Guez & Silver 2016, equation 4.
    """
    if q_next_online is None:
        best = q_next_target.amax(1)
    else:
        best = q_next_target.gather(1, q_next_online.argmax(1, keepdim=True)).squeeze(1)
    return (reward + gamma * best.masked_fill(terminated, 0)).detach()


def dqn_loss(
    q: Tensor, action: Tensor, target: Tensor, huber_delta: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Return the (weighted) mean Huber loss between the values of the taken actions and their targets.

    Args:
        q: values (B, A).
        action: (B,), int64.
        target: (B,).
        huber_delta: δ, the error at which the parabola becomes a line.
        weights: (B,), or None for 1.

    Source: `torch.nn.functional.huber_loss`; Mnih et al. 2015 clip the error to [−1, 1], the gradient of δ = 1.
    """
    taken = q.gather(1, action[:, None]).squeeze(1)
    loss = F.huber_loss(taken, target, reduction="none", delta=huber_delta)
    return loss.mean() if weights is None else (weights * loss).mean()


@torch.no_grad()
def sync(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move the target network's parameters a share τ of the way to the online network's; copy its buffers whole.

    Source: Mnih et al. 2015 (τ = 1, every C steps); Lillicrap et al. 2016 (small τ, every step).
    """
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast, tau)
    for kept, new in zip(target.buffers(), online.buffers(), strict=True):
        kept.copy_(new)


def dueling(value: Tensor, advantage: Tensor) -> Tensor:
    """Return V(s) + A(s, a) − mean over a of A(s, a).

    Args:
        value: (B, 1).
        advantage: (B, A).

    Source: Wang et al. 2016, equation 9.
    """
    return value + advantage - advantage.mean(1, keepdim=True)


@dataclass(frozen=True)
class Functions:
    """What an agent computes with, so that a learner's own functions can take the places.

    Attributes:
        explore: `epsilon_greedy` or one like it.
        epsilon: `linear_epsilon` or one like it.
        target: `td_target` or one like it.
        batch_target: makes the targets (B,) of a mini-batch by itself, from the transitions, the online and the target
            network, the discount and whether to go double; None leaves that to the agent and `target`.
        loss: `dqn_loss` or one like it.
        sync: `sync` or one like it.
    """

    explore: Callable[[Tensor, float, torch.Generator], Tensor] = epsilon_greedy
    epsilon: Callable[[int, float, float, int], float] = linear_epsilon
    target: Callable[..., Tensor] = td_target
    batch_target: Callable[..., Tensor] | None = None
    loss: Callable[..., Tensor] = dqn_loss
    sync: Callable[[nn.Module, nn.Module, float], None] = sync
