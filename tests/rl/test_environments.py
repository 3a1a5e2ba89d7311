"""Gymnasium's environments behind the protocol: ends, copies, checkpoints, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coursekit.errors import ArgumentError
from coursekit.rl import CartPole, Gymnasium


def test_what_a_step_led_to_is_kept_through_the_reset():
    ours, theirs = Gymnasium("CartPole-v1", 4), CartPole(4)
    obs, actions, ends = ours.reset(5), np.random.default_rng(0), 0
    assert (ours.actions, ours.obs_shape, ours.obs_dtype, ours.count) == (2, (4,), torch.float32, 4)
    theirs.reset(0)
    theirs.physics = obs.T.astype(np.float64)  # rounded to float32: close for the length of an episode
    alive = np.ones(4, bool)
    for _ in range(60):
        action = actions.integers(0, 2, 4)
        mine, other = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(mine.next_obs[alive], other.next_obs[alive], atol=1e-4)
        ended = mine.terminated | mine.truncated
        np.testing.assert_array_equal(mine.obs[~ended], mine.next_obs[~ended])
        assert (np.abs(mine.obs[ended]) <= 0.05).all()
        assert (np.abs(mine.next_obs[ended & mine.terminated][:, [0, 2]]) > [2.4, 0.2094]).any(1).all()
        alive &= ~ended
        ends += ended.sum()
    assert ends > 4
    assert not alive.any()


def test_it_continues_from_its_state_by_the_same_steps():
    first, second = Gymnasium("Acrobot-v1", 3), Gymnasium("Acrobot-v1", 3)
    obs = first.reset(11)
    rng = np.random.default_rng(1)
    for _ in range(30):
        obs = first.step(rng.integers(0, 3, 3)).obs
    np.testing.assert_array_equal(second.restore(first.state()), obs)
    for _ in range(30):
        action = rng.integers(0, 3, 3)
        for one, two in zip(first.step(action), second.step(action), strict=True):
            np.testing.assert_array_equal(one, two)


def test_arrays_are_the_callers_own():
    environments = Gymnasium("CartPole-v1", 2)
    before = environments.reset(0)
    kept = before.copy()
    environments.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("CartPole-v1", 0, "at least one environment"),
        ("NoSuchPole-v1", 1, "an environment that Gymnasium can make"),
        ("FrozenLake-v1", 1, "a box of numbers to see and discrete actions"),
        ("Pendulum-v1", 1, "a box of numbers to see and discrete actions"),
    ],
)
def test_what_cannot_be_played_is_refused(name, count, words):
    with pytest.raises(ArgumentError, match=words):
        Gymnasium(name, count)
