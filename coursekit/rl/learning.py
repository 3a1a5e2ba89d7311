"""The settings of deep Q-learning."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coursekit.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How deep Q-learning explores, remembers and learns. Steps are environment steps, over all environments.

    Attributes:
        gamma: discount, in [0, 1].
        double: whether the online network chooses the next action (Double DQN).
        n_step: steps of reward in a target.
        prioritized: whether transitions with large errors are drawn more often.
        alpha: of prioritised replay, how much more often.
        beta: of prioritised replay, how far the weights undo it, at the first update; it rises to 1.
        beta_updates: updates in which β rises to 1.
        environments: N, stepped side by side.
        rollout: T, steps of each environment between two looks at the network's update count.
        steps_per_update: environment steps for each optimizer step.
        warmup: steps before the first update.
        capacity: transitions in the replay.
        target_updates: updates between two moves of the target network.
        tau: share of the way that the target network then moves; 1 copies.
        epsilon_start: ε of the first step.
        epsilon_end: ε after `epsilon_steps`.
        epsilon_steps: steps in which ε falls.
        huber_delta: error at which the loss becomes linear.
        restart: whether every epoch begins with new episodes, which keeps checkpoints of environments that cannot be
            copied (Gymnasium, Atari) short.

    Raises:
        ArgumentError: a number is out of its range.
    """

    gamma: float = 0.99
    double: bool = False
    n_step: int = 1
    prioritized: bool = False
    alpha: float = 0.6
    beta: float = 0.4
    beta_updates: int = 10_000
    environments: int = 16
    rollout: int = 4
    steps_per_update: float = 8.0
    warmup: int = 1000
    capacity: int = 50_000
    target_updates: int = 1
    tau: float = 0.01
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 10_000
    huber_delta: float = 1.0
    restart: bool = False

    def __post_init__(self) -> None:
        shares = ("gamma", "beta", "tau", "epsilon_start", "epsilon_end")
        counts = ("n_step", "environments", "rollout", "capacity", "target_updates", "beta_updates", "epsilon_steps")
        for name in shares:
            self._require(name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        for name in counts:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("warmup", self.warmup >= 0, "at least 0 steps")
        self._require("alpha", 0 <= self.alpha < math.inf, "a number from 0 up")
        self._require("steps_per_update", 0 < self.steps_per_update < math.inf, "a positive number")
        self._require("huber_delta", self.huber_delta > 0, "a positive number")
        fits = self.environments * self.rollout
        self._require("capacity", self.capacity >= fits, f"room for one rollout of {fits} transitions")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ArgumentError(f"Learning.{name}", expected, got=getattr(self, name), fix="choose another value")
