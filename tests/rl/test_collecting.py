"""Rollouts hold the steps as they were taken, and the returns of finished episodes are counted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from coursekit.rl import CartPole, Collector

CPU = torch.device("cpu")


def to_the_right(obs: Tensor) -> Tensor:
    return torch.ones(len(obs), dtype=torch.int64)


def test_rollouts_hold_the_steps_as_they_were_taken():
    collector, poles = Collector(CartPole(3), 7, seed=5, device=CPU), CartPole(3)
    obs, length, returns = poles.reset(5), np.zeros(3), []
    rollouts = [collector.collect(to_the_right) for _ in range(4)]  # the later ones leave the first as it was
    for rollout in rollouts:
        assert rollout.obs.shape == rollout.next_obs.shape == (7, 3, 4)
        assert rollout.action.tolist() == [[1] * 3] * 7
        assert (rollout.reward == 1).all()
        assert not rollout.truncated.any()
        for t in range(7):
            step = poles.step(np.ones(3, np.int64))
            assert rollout.obs[t].tolist() == obs.tolist()
            assert rollout.next_obs[t].tolist() == step.next_obs.tolist()
            assert rollout.terminated[t].tolist() == step.terminated.tolist()
            length += 1
            returns += length[step.terminated].tolist()
            length[step.terminated] = 0
            obs = step.obs
    assert len(returns) > 3, "every pole falls within 28 steps, some twice"
    assert list(collector.returns) == returns
    assert collector.episodes == len(returns)
