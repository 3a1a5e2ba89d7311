"""The configuration of lesson 4. It imports no torch, so that a wrong setting is told at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from coursekit.config import Settings, Training

NumberT = TypeVar("NumberT", int, float)


def rising(values: tuple[NumberT, ...]) -> tuple[NumberT, ...]:
    """Refuse numbers that do not rise: they are drawn along an axis, at the end of a long run."""
    if any(after <= before for before, after in pairwise(values)):
        raise ValueError("each number must be larger than the one before it")
    return values


Actions = Annotated[int, Field(ge=2, le=4096)]
Rate = Annotated[float, Field(gt=0, le=1)]
Length = Annotated[float, Field(gt=0)]
Strength = Annotated[float, Field(ge=0)]
Units = Annotated[int, Field(ge=1, le=8192)]


class Maximum(Settings):
    """The maximum of noisy estimates, without any environment."""

    actions: Annotated[tuple[Actions, ...], AfterValidator(rising)] = Field(
        default=(2, 4, 8, 16), min_length=2, description="numbers of actions, from 2 up, rising"
    )
    states: int = Field(default=100_000, ge=1000, le=10_000_000, description="rows of estimates for each seed")
    noise: Literal["normal", "uniform"] = Field(default="normal", description="normal or uniform, both with variance 1")
    gaps: Annotated[tuple[Strength, ...], AfterValidator(rising)] = Field(
        default=(0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
        min_length=2,
        description="how much better one of two actions truly is, in standard deviations, in rising order",
    )


class Lake(Settings):
    """Tabular learning on FrozenLake, beside its exact value."""

    size: Literal["4x4", "8x8"] = Field(default="4x4", description="4x4 or 8x8")
    slippery: bool = Field(default=True, description="true where two of three steps go astray")
    gamma: float = Field(default=0.99, ge=0, lt=1, description="the discount, in [0, 1)")
    epsilon: float = Field(default=0.5, gt=0, le=1, description="the exploration probability, in (0, 1]")
    rates: Annotated[tuple[Rate, ...], AfterValidator(rising)] = Field(
        default=(0.1, 0.2, 0.5), min_length=2, description="learning rates in rising order, each in (0, 1]"
    )
    learners: int = Field(default=80, ge=2, le=100_000, description="independent learners for each rate")
    steps: int = Field(default=30_000, ge=100, le=100_000_000, description="environment steps of each learner")


class Treadmill(Settings):
    """The one-state world in which ends are confused on purpose."""

    fall: float = Field(default=0.01, gt=0, lt=1, description="the probability of a fall in each step, in (0, 1)")
    limit: int = Field(default=50, ge=1, le=1_000_000, description="the time limit, in steps")
    gamma: float = Field(default=0.99, ge=0, lt=1, description="the discount, in [0, 1)")
    episodes: int = Field(default=2500, ge=100, le=1_000_000, description="episodes of experience for each seed")
    updates: int = Field(default=600, gt=0, le=1_000_000, description="updates of the value")


class Agent(Settings):
    """Deep Q-learning: the world, the network, and how it explores, remembers and learns."""

    world: Literal["cartpole", "pong", "breakout"] = Field(
        default="cartpole", description="cartpole, or pong or breakout (they need the extra atari)"
    )
    variants: tuple[Literal["DQN", "double", "dueling", "n-step", "prioritised", "all", "time limit as end"], ...] = (
        Field(
            default=("DQN", "double", "dueling", "n-step", "prioritised"),
            min_length=1,
            description="DQN, double, dueling, n-step, prioritised, all (of these) or `time limit as end`",
        )
    )
    hidden: tuple[Units, ...] = Field(default=(128, 128), description="units of the hidden layers (cartpole)")
    lr: float = Field(default=2e-3, gt=0, description="the learning rate of Adam")
    gamma: float = Field(default=0.99, ge=0, lt=1, description="the discount, in [0, 1)")
    updates: int = Field(default=1000, gt=0, le=10_000_000, description="updates in an epoch; greedy episodes follow")
    steps_per_update: float = Field(default=4.0, gt=0, description="environment steps for each update")
    environments: int = Field(default=16, gt=0, le=4096, description="environments that are stepped side by side")
    warmup: int = Field(default=1000, ge=0, description="environment steps before the first update")
    capacity: int = Field(default=50_000, ge=1000, description="transitions in the replay, at least 1000")
    target_updates: int = Field(default=1, gt=0, description="updates between two moves of the target network")
    tau: float = Field(default=0.03, gt=0, le=1, description="the share of the way that it moves, in (0, 1]")
    epsilon_end: float = Field(default=0.05, ge=0, le=1, description="the last exploration probability")
    epsilon_steps: int = Field(default=8000, gt=0, description="environment steps in which exploration falls to it")
    huber_delta: float = Field(default=10.0, gt=0, description="the error at which the loss becomes linear")
    n_step: int = Field(default=3, ge=2, le=1000, description="steps of reward in a target of `n-step`, from 2 up")
    alpha: float = Field(default=0.6, ge=0, description="how much more often large errors are replayed")
    episodes: int = Field(default=20, gt=0, le=10_000, description="greedy episodes after each epoch")
    final_episodes: int = Field(default=100, gt=0, le=10_000, description="greedy episodes at the end, other ones")
    target: float = Field(default=195.0, description="the mean greedy return that counts as learned")


class Disturbances(Settings):
    """What a finished CartPole agent has to bear that it never met in training."""

    lengths: Annotated[tuple[Length, ...], AfterValidator(rising)] = Field(
        default=(0.25, 0.5, 1.0), min_length=2, description="half lengths of the pole, metres, rising"
    )
    noise: Annotated[tuple[Strength, ...], AfterValidator(rising)] = Field(
        default=(0.0, 0.3, 1.0),
        min_length=2,
        description="strengths of the noise on what it sees, from 0 up, rising",
    )
    episodes: int = Field(default=20, gt=0, le=10_000, description="greedy episodes for each of them")


class Config(Settings):
    """Everything that can be set in lesson 4."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="seeds, for example [0, 1, 2]")
    maximum: Maximum = Maximum()
    lake: Lake = Lake()
    treadmill: Treadmill = Treadmill()
    agent: Agent = Agent()
    disturbances: Disturbances = Disturbances()
    training: Training = Training(epochs=6, batch_size=64)
