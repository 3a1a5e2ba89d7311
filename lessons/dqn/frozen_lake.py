"""FrozenLake as tables: its exact values, and tabular Q-learning on many copies of it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.errors import ArgumentError

Policy = Callable[[Tensor, float, torch.Generator], Tensor]
"""Chooses actions (b,) from values (b, a), an exploration probability and a generator."""


@dataclass(frozen=True)
class Lake:
    """A finite Markov decision process.

    Attributes:
        transition: probability of each next state, float64 (s, a, s').
        reward: expected reward of a step, float64 (s, a).
        goes_on: which states are no end, bool (s,).
        columns: states in one row of the map.
    """

    transition: Tensor
    reward: Tensor
    goes_on: Tensor
    columns: int


def frozen_lake(size: str = "4x4", *, slippery: bool = True) -> Lake:
    """Return Gymnasium's FrozenLake-v1 as tables: reward 1 at the goal, 0 elsewhere; holes and the goal end it.

    Args:
        size: the map, `4x4` or `8x8`.
        slippery: the step goes where it should in one of three cases, and to either side in the others.
    """
    from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

    table = FrozenLakeEnv(map_name=size, is_slippery=slippery)
    states, actions = len(table.P), len(table.P[0])
    transition = torch.zeros(states, actions, states, dtype=torch.float64)
    reward = torch.zeros(states, actions, dtype=torch.float64)
    for state, row in table.P.items():
        for action, outcomes in row.items():
            for probability, following, gain, _ in outcomes:
                transition[state, action, following] += probability
                reward[state, action] += probability * gain
    ends = torch.tensor([letter in b"GH" for letter in table.desc.tobytes()])
    return Lake(transition, reward, ~ends, columns=table.ncol)


def value_iteration(lake: Lake, gamma: float, *, tolerance: float = 1e-10) -> Tensor:
    """Return the optimal values of all actions, float64 (s, a), each within `tolerance` of the truth.

    Q(s, a) ← r(s, a) + γ Σ P(s'|s, a) max Q(s', ·), from zero, until the contraction's bound γ / (1 − γ) times the
    last change is below the tolerance (Bellman 1957; the bound is Banach's).

    Raises:
        ArgumentError: gamma is not in [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ArgumentError("value_iteration", "gamma in [0, 1)", got=gamma, fix="use 0.99")
    q = torch.zeros_like(lake.reward)
    while True:
        following = q.amax(1) * lake.goes_on
        new = lake.reward + gamma * lake.transition @ following
        new[~lake.goes_on] = 0
        change = float((new - q).abs().max())
        q = new
        if change * gamma <= tolerance * (1 - gamma):
            return q


def policy_values(lake: Lake, actions: Tensor, gamma: float) -> Tensor:
    """Return what policies are worth in every state, float64 (b, s): the solution of (I − γ P) v = r.

    Args:
        lake: with s states.
        actions: the action of each policy in each state, (b, s).
        gamma: the discount.
    """
    states = torch.arange(len(lake.goes_on))
    alive = lake.goes_on.double()
    step = lake.transition[states, actions] * alive * alive[:, None]  # (b, s, s'); an end leads nowhere
    gain = lake.reward[states, actions] * alive
    return torch.linalg.solve(torch.eye(len(states), dtype=torch.float64) - gamma * step, gain)


@dataclass
class Learned:
    """What tabular learners knew, at each time of looking.

    Attributes:
        steps: environment steps of each learner when it was looked at, in rising order.
        estimate: the largest value that each learner sees in the first state, float64 (looks, b).
        achieved: what its greedy policy is truly worth there, float64 (looks, b).
    """

    steps: list[int]
    estimate: Tensor
    achieved: Tensor


def learn(
    lake: Lake,
    policy: Policy,
    *,
    seed: int,
    lr: Tensor,
    steps: int,
    gamma: float,
    epsilon: float,
    looks: int,
    double: bool = False,
) -> Learned:
    """Let many independent learners walk the lake, each with tables of its own.

    Q-learning (Watkins 1989) moves Q(s, a) by `lr` towards r + γ max Q(s', ·). Double Q-learning (van Hasselt 2010)
    keeps two tables: a coin says which one learns, that one chooses the next action, and the other one values it.

    Args:
        lake: the world; an episode that ends begins again in state 0.
        policy: chooses the action; of double Q-learning it sees the mean of both tables.
        seed: of all random numbers.
        lr: the step size of each learner, constant, (b,).
        steps: environment steps of each.
        gamma: the discount.
        epsilon: the exploration probability, constant.
        looks: how often estimates are recorded, evenly spaced; at least one, at most `steps`.
        double: two tables instead of one.
    """
    generator = torch.Generator().manual_seed(seed)
    (count, actions), learners, copies = lake.reward.shape, len(lr), 2 if double else 1
    cumulative = lake.transition.cumsum(-1).float().flatten(0, 1)  # (s a, s')
    cumulative[:, -1] = 1  # rounding must leave no gap that a random number falls into
    goal = count - 1  # the reward of a step is 1 exactly when it ends here
    tables = torch.zeros(copies * learners * count, actions)
    first = torch.arange(learners) * count  # where a learner's own table begins
    other = learners * count  # how far behind it its second table lies
    state, recorded = torch.zeros(learners, dtype=torch.long), []
    for step in range(1, steps + 1):
        here = tables[first + state]
        action = policy((here + tables[first + other + state]) / 2 if double else here, epsilon, generator)
        chance = torch.rand(learners, 1, generator=generator)
        following = (cumulative[state * actions + action] < chance).sum(-1)  # (b,)
        goes_on = lake.goes_on[following]
        learns, values = first, first
        if double:
            coin = torch.randint(2, (learners,), generator=generator) * other
            learns, values = first + coin, first + other - coin
        best = tables[learns + following].argmax(-1, keepdim=True)
        valued = tables[values + following].gather(-1, best).squeeze(-1)
        target = (following == goal) + gamma * goes_on * valued
        tables[learns + state, action] += lr * (target - tables[learns + state, action])
        state = following * goes_on
        if step * looks // steps > (step - 1) * looks // steps:
            recorded.append((step, tables.view(copies, learners, count, actions).mean(0).double()))
    greedy = torch.stack([q.argmax(-1) for _, q in recorded])  # (looks, b, s)
    achieved = policy_values(lake, greedy.flatten(0, 1), gamma)[:, 0].view(len(recorded), learners)
    estimate = torch.stack([q[:, 0].amax(-1) for _, q in recorded])
    return Learned([step for step, _ in recorded], estimate, achieved)
