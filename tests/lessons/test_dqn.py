"""Lesson 4's own pieces against closed forms: the lake, the treadmill, the maximum of noise, the settings."""

from __future__ import annotations

import math

import pytest
import torch

from coursekit.errors import ArgumentError
from lessons.dqn.config import Config
from lessons.dqn.frozen_lake import frozen_lake, learn, policy_values, value_iteration
from lessons.dqn.lesson import biases, expected_maximum
from lessons.dqn.treadmill import Treadmill, fitted_values


@pytest.mark.parametrize("size", ["4x4", "8x8"])
def test_every_row_of_the_lake_is_a_distribution(size):
    lake = frozen_lake(size)
    torch.testing.assert_close(lake.transition.sum(-1), torch.ones_like(lake.reward))
    assert int((~lake.goes_on).sum()) == {"4x4": 5, "8x8": 11}[size]  # holes and the goal


def test_without_ice_the_value_is_the_discount_of_the_shortest_way():
    q = value_iteration(frozen_lake(slippery=False), 0.9)
    assert float(q[0].max()) == pytest.approx(0.9**5, abs=1e-9)  # six steps, the last one pays


def test_the_slippery_lake_is_worth_what_its_greedy_policy_earns():
    lake = frozen_lake()
    q = value_iteration(lake, 0.99)
    assert float(q[0].max()) == pytest.approx(0.5420, abs=5e-5)
    torch.testing.assert_close(policy_values(lake, q.argmax(1)[None], 0.99)[0], q.amax(1), atol=1e-8, rtol=0)


def test_value_iteration_refuses_a_discount_of_one():
    with pytest.raises(ArgumentError, match=r"gamma in \[0, 1\)"):
        value_iteration(frozen_lake(), 1.0)


@pytest.mark.parametrize("double", [False, True])
def test_without_ice_and_noise_the_tables_find_the_exact_value(double):
    lake = frozen_lake(slippery=False)
    exact = float(value_iteration(lake, 0.9)[0].max())

    def at_random(q, epsilon, generator):
        return torch.randint(q.shape[1], (len(q),), generator=generator)

    learned = learn(
        lake, at_random, seed=0, lr=torch.full((20,), 0.5), steps=30_000, gamma=0.9, epsilon=1.0, looks=3, double=double
    )
    assert learned.steps == [10_000, 20_000, 30_000]
    torch.testing.assert_close(learned.estimate[-1], torch.full((20,), exact, dtype=torch.float64), atol=1e-2, rtol=0)
    torch.testing.assert_close(learned.achieved[-1], torch.full((20,), exact, dtype=torch.float64), atol=1e-9, rtol=0)


def test_every_episode_on_the_treadmill_ends_once():
    world = Treadmill(fall=0.1, limit=20, gamma=0.9)
    terminated, truncated = world.walk(5000, seed=0)
    assert int((terminated | truncated).sum()) == 5000
    assert not bool((terminated & truncated).any())
    # The mean length of 5000 episodes of at most 20 steps: its standard error is below 20 / 2 / √5000 = 0.15.
    assert len(terminated) / 5000 == pytest.approx(world.mean_length, abs=5 * 0.15)


def test_fitted_values_reach_the_closed_form():
    world = Treadmill(fall=0.1, limit=20, gamma=0.9)
    ends = torch.zeros(10, dtype=torch.bool)
    ends[0] = True

    def target(reward, no_future, following, gamma):
        return reward + gamma * following.amax(1) * ~no_future

    assert fitted_values(target, ends, world.gamma, 200)[-1] == pytest.approx(world.value(0.1), rel=1e-5)


def test_the_expected_maximum_in_closed_form():
    assert expected_maximum(2, "normal") == pytest.approx(1 / math.sqrt(math.pi), abs=1e-9)
    assert expected_maximum(3, "normal") == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-9)
    assert expected_maximum(3, "uniform") == pytest.approx(math.sqrt(3) / 2)


def test_the_biases_of_a_gap_begin_and_end_where_they_must():
    assert biases(0.0) == pytest.approx((expected_maximum(2, "normal"), 0.0))
    assert biases(20.0) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lake": {"rates": (0.5, 0.1)}},
        {"maximum": {"actions": (2, 2)}},
        {"disturbances": {"lengths": (1.0, 0.5)}},
    ],
    ids=str,
)
def test_numbers_that_do_not_rise_are_refused_before_the_run(wrong):
    with pytest.raises(ValueError, match="larger than the one before"):
        Config.model_validate(wrong)
