"""Atari through ale-py: what is seen, ends, checkpoints, errors; and the agent's training on pixels."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coursekit import runtime
from coursekit.config import Training
from coursekit.errors import ArgumentError, DeviceError, StoppedError
from coursekit.harness import Run, fit
from coursekit.rl import DQN, Atari, AtariNetwork, Learning, experience


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(
        DeviceError, match=r"Atari: the package ale-py .* Got none installed\. Fix: .*coursekit\[atari\]"
    ):
        Atari("pong", 1)


def test_unknown_games_are_refused():
    pytest.importorskip("ale_py")
    with pytest.raises(ArgumentError, match=r"one of ale-py's \d+ games, such as pong"):
        Atari("ping", 1)
    with pytest.raises(ArgumentError, match="at least one environment"):
        Atari("pong", 0)


def test_four_grey_frames_move_on_by_one():
    pytest.importorskip("ale_py")
    games = Atari("breakout", 3, threads=1)
    obs = games.reset(0)
    assert (obs.shape, obs.dtype, games.actions, games.obs_dtype) == ((3, 4, 84, 84), np.uint8, 4, torch.uint8)
    rng, rewards = np.random.default_rng(0), []
    for _ in range(150):
        step = games.step(rng.integers(0, 4, 3))
        np.testing.assert_array_equal(step.next_obs[:, :3], obs[:, 1:])
        ended = step.terminated | step.truncated
        np.testing.assert_array_equal(step.obs[~ended], step.next_obs[~ended])
        rewards.append(step.reward)
        obs = step.obs
    assert set(np.unique(rewards)) <= {0.0, 1.0}
    assert np.any(rewards)


def test_an_end_keeps_its_last_frames():
    pytest.importorskip("ale_py")
    games = Atari("breakout", 4, threads=1, max_frames=200)
    games.reset(0)
    ends = 0
    for _ in range(120):
        step = games.step(np.full(4, 2))
        ended = step.terminated | step.truncated
        ends += ended.sum()
        differs = (step.next_obs != step.obs).any((1, 2, 3))
        assert not differs[~ended].any()
        assert differs[ended].all()
    assert ends >= 4


def test_games_continue_from_their_state_by_the_same_steps():
    pytest.importorskip("ale_py")
    first, second = Atari("pong", 2, threads=1, sticky=0.25), Atari("pong", 2, threads=2, sticky=0.25)
    obs = first.reset(3)
    rng = np.random.default_rng(0)
    for _ in range(60):
        obs = first.step(rng.integers(0, 6, 2)).obs
    np.testing.assert_array_equal(second.restore(first.state()), obs)
    for _ in range(60):
        action = rng.integers(0, 6, 2)
        np.testing.assert_array_equal(first.step(action).obs, second.step(action).obs)


def agent(interrupt: Path) -> DQN:
    runtime.seed_everything(0)

    def schedule(step: int) -> float:
        if step == 220 and not interrupt.exists():
            interrupt.touch()
            os.kill(os.getpid(), signal.SIGINT)
        return 1e-4

    return DQN(
        AtariNetwork(4, dueling=True),
        environments=partial(Atari, "breakout", threads=1, max_frames=2000),
        learning=Learning(
            double=True,
            n_step=3,
            prioritized=True,
            environments=8,
            rollout=4,
            warmup=400,
            steps_per_update=4,
            capacity=1500,
            restart=True,
        ),
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, eps=1.5e-4),
        schedule=schedule,
    )


def train(module: DQN, out: Path | None) -> Run:
    data = experience("breakout", updates=150, batch_size=32, episodes=2)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 32, "device": "cpu", "threads": 1, "checkpoint_seconds": 600}
    return fit(module, data, Training(**settings), out=out, quiet=True)


@pytest.mark.slow
def test_the_agent_learns_from_pixels_and_continues_bit_for_bit(tmp_path):
    """300 updates, everything switched on. What they teach is no more than that the loss stays a number."""
    pytest.importorskip("ale_py")
    with pytest.raises(StoppedError):
        train(agent(tmp_path / "sent"), tmp_path / "run")
    resumed = train(agent(tmp_path / "sent"), tmp_path / "run")
    straight = train(agent(tmp_path / "sent"), None)
    for name in ("loss", "q", "training_return", "val_return", "val_q"):
        assert resumed.curve(name) == straight.curve(name)
    assert resumed.curve("step") == [150, 300]
    for mine, theirs in zip(resumed.module.state_dict().values(), straight.module.state_dict().values(), strict=True):
        assert mine.equal(theirs)
    assert all(0 < loss < 1 for loss in straight.curve("loss"))
    fresh = agent(tmp_path / "sent").network
    pairs = zip(straight.module.network.parameters(), fresh.parameters(), strict=True)
    assert not any(new.equal(old) for new, old in pairs), "every layer has learned"
