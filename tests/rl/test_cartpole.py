"""CartPole here and Gymnasium's are the same environment, step for step."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from coursekit.errors import ArgumentError
from coursekit.rl import CartPole, draw


@pytest.mark.parametrize("length", [0.5, 1.0])
def test_every_step_equals_gymnasiums(length):
    """200 episodes of random actions, to their ends; the same float32 numbers, not only nearly."""
    poles, rng, steps = CartPole(200, length=length), np.random.default_rng(0), 0
    poles.reset(0)
    theirs = [gymnasium.make("CartPole-v1") for _ in range(200)]
    for row, one in enumerate(theirs):
        one.reset(seed=row)
        inner = one.unwrapped
        inner.length, inner.polemass_length = length, length * inner.masspole  # pyright: ignore
        inner.state = poles.physics[:, row].copy()  # pyright: ignore
    running = np.ones(200, bool)
    while running.any():
        action = rng.integers(0, 2, 200)
        step = poles.step(action)
        for row in np.flatnonzero(running):
            obs, reward, terminated, truncated, _ = theirs[row].step(action[row])
            np.testing.assert_array_equal(step.next_obs[row], obs)
            assert (reward, terminated, truncated) == (step.reward[row], step.terminated[row], step.truncated[row])
            running[row] = not (terminated or truncated)
            steps += 1
    assert steps > 3000


def balance(obs):
    """Push towards where the pole falls: it stands for a long time."""
    return (obs[:, 2] + 0.5 * obs[:, 3] + 0.05 * obs[:, 0] + 0.1 * obs[:, 1] > 0).astype(np.int64)


def test_the_time_limit_equals_gymnasiums():
    poles, theirs = CartPole(1), gymnasium.make("CartPole-v1")
    obs = poles.reset(0)
    theirs.reset(seed=0)
    theirs.unwrapped.state = poles.physics[:, 0].copy()  # pyright: ignore
    for number in range(1, 501):
        action = balance(obs)
        step = poles.step(action)
        seen, _, terminated, truncated, _ = theirs.step(int(action[0]))
        np.testing.assert_array_equal(step.next_obs[0], seen)
        assert (terminated, truncated) == (step.terminated[0], step.truncated[0]) == (False, number == 500)
        obs = step.obs
    assert (np.abs(obs) <= 0.05).all(), "the next episode has begun within the step"


def test_an_end_keeps_what_it_led_to_and_begins_anew():
    poles = CartPole(8)
    poles.reset(3)
    ends = 0
    for _ in range(200):
        step = poles.step(np.ones(8, np.int64))
        ended = step.terminated | step.truncated
        out = (np.abs(step.next_obs[:, 0]) > 2.4) | (np.abs(step.next_obs[:, 2]) > 0.2094395)
        np.testing.assert_array_equal(step.terminated, out)
        np.testing.assert_array_equal(step.obs[~ended], step.next_obs[~ended])
        assert (np.abs(step.obs[ended]) <= 0.05).all()
        ends += ended.sum()
    assert ends > 100


def test_what_a_step_returned_is_not_written_to_later():
    poles = CartPole(4)
    first = poles.reset(0)
    step = poles.step(np.zeros(4, np.int64))
    kept = first.copy(), *(part.copy() for part in step)
    for _ in range(50):
        poles.step(np.zeros(4, np.int64))
    for before, after in zip(kept, (first, *step), strict=True):
        np.testing.assert_array_equal(before, after)


def test_starts_follow_from_the_seed_and_are_uniform():
    poles = CartPole(20_000)
    first = poles.reset(7)
    np.testing.assert_array_equal(first, poles.reset(7))
    assert not np.array_equal(first, poles.reset(8))
    assert first.min() >= -0.05
    assert first.max() <= 0.05
    # The standard error of a mean of uniforms on ±0.05; four means, each beyond 5 sigma once in 1.7 million.
    assert (np.abs(first.mean(0)) < 5 * 0.05 / np.sqrt(3 * 20_000)).all()


def test_it_continues_from_its_state():
    poles, rng = CartPole(6), np.random.default_rng(0)
    obs = poles.reset(0)
    actions = rng.integers(0, 2, (100, 6))
    for action in actions[:50]:
        obs = poles.step(action).obs
    state = poles.state()
    rest = [poles.step(action) for action in actions[50:]]
    other = CartPole(6)
    np.testing.assert_array_equal(other.restore(state), obs)
    for mine, theirs in zip(rest, (other.step(action) for action in actions[50:]), strict=True):
        for one, two in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("count", "options"),
    [(0, {}), (1, {"length": 0}), (1, {"length": float("nan")}), (1, {"length": float("inf")}), (1, {"limit": 0})],
)
def test_impossible_poles_are_refused(count, options):
    with pytest.raises(ArgumentError, match=r"CartPole: (at least one environment|a positive length)"):
        CartPole(count, **options)


def test_a_drawing_shows_where_cart_and_pole_are():
    pictures = draw(np.array([[0, 0, 0, 0], [1.2, 0, 0.2, 0], [-1.2, 0, -0.2, 0]]), width=240)
    assert pictures.shape == (3, 120, 240, 3)
    assert pictures.dtype == np.uint8
    blue = (pictures == [0, 114, 178]).all(-1)
    orange = (pictures == [213, 94, 0]).all(-1)
    middles = [np.nonzero(one)[1].mean() for one in blue]
    np.testing.assert_allclose(middles, [119.5, 179.5, 59.5], atol=1)  # 50 pixels a metre
    np.testing.assert_allclose(pictures[1].astype(int), pictures[2][:, ::-1].astype(int), atol=1)  # mirrored
    top = np.nonzero(orange[0])[0].min()
    assert 0 < top < np.nonzero(orange[1])[0].min(), "a leaning pole reaches less high"
    lean = np.nonzero(orange[1][:70])[1].mean()
    assert lean > middles[1], "to the right"
