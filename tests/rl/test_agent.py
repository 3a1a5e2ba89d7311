"""The agent through the harness: by hand as by autograd, stopped as not, with a learner's parts as with ours."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from coursekit import runtime
from coursekit.config import Training
from coursekit.errors import ArgumentError, CheckpointError, DeviceError, StoppedError
from coursekit.harness import Run, fit
from coursekit.harness.checkpoint import read_checkpoint
from coursekit.rl import (
    DQN,
    CartPole,
    Functions,
    Gymnasium,
    Learning,
    PrioritizedReplay,
    QNetwork,
    dqn_loss,
    dueling,
    experience,
    play,
)
from lessons.dqn.solution import PrioritizedReplay as Learners

UPDATES, BATCH, EPOCHS = 20, 16, 3
LEARNING: dict[str, Any] = {
    "environments": 4,
    "rollout": 2,
    "steps_per_update": 4,
    "warmup": 30,
    "capacity": 60,
    "epsilon_steps": 200,
}


def agent(
    *, seed: int = 0, dueling: bool = False, join: Any = dueling, environments: Any = CartPole, **options: Any
) -> DQN:
    """A small agent; options of `DQN` by name, all others of `Learning`."""
    runtime.seed_everything(seed)
    names = ("functions", "memory", "priorities", "by_hand", "schedule")
    own = {name: options.pop(name) for name in names if name in options}
    return DQN(
        QNetwork(environments(1).obs_shape[0], (16, 8), environments(1).actions, dueling=dueling, join=join),
        environments=environments,
        learning=Learning(**LEARNING | options),
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-3),
        seed=seed,
        **own,
    )


def train(module: DQN, out: Path | None = None, *, epochs: int = EPOCHS, **settings: Any) -> Run:
    data = experience("CartPole-v1", updates=UPDATES, batch_size=BATCH, episodes=5)
    given: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "device": "cpu", "threads": 1} | settings
    return fit(module, data, Training(**given), out=out, quiet=True)


def rows(run: Run) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]


VARIANTS = {
    "dqn": {},
    "double": {"double": True},
    "dueling": {"dueling": True, "double": True},
    "n_step": {"n_step": 3},
    "prioritized": {"prioritized": True, "n_step": 2, "double": True},
    "hard target, small delta": {"tau": 1.0, "target_updates": 7, "huber_delta": 0.1},
    "target moves within what is drawn ahead": {"tau": 0.5, "target_updates": 5, "rollout": 12},
    "double, likewise": {"double": True, "tau": 0.5, "target_updates": 5, "rollout": 12},
}
EVERY = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


@EVERY
def test_it_learns_by_hand_as_by_autograd(variant):
    """Equal up to rounding: of losses and of weights, after 60 updates."""
    by_hand, by_autograd = agent(**variant), agent(**variant, by_hand=False)
    assert by_hand.by_hand is not None
    assert by_autograd.by_hand is None
    first, second = train(by_hand), train(by_autograd)
    assert first.curve("step") == [20, 40, 60]
    for mine, theirs in zip(by_hand.state_dict().values(), by_autograd.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert first.curve("loss") == pytest.approx(second.curve("loss"), rel=1e-3)
    assert first.curve("q") == pytest.approx(second.curve("q"), rel=1e-3, abs=1e-4)


def interrupt_at(step: int, flag: Path, now: int) -> float:
    """A schedule that sends Ctrl-C once."""
    if now == step - 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGINT)
    return 1e-3


@EVERY
@pytest.mark.parametrize("step", [7, 20, 33])
def test_a_stopped_training_continues_bit_for_bit(variant, step, tmp_path):
    """Inside an epoch and at its end; the replay of 60 has turned round by then."""
    schedule = partial(interrupt_at, step, tmp_path / "sent")
    with pytest.raises(StoppedError):
        train(agent(**variant, schedule=schedule), tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["coursekit"]["position"]["step"] == step
    resumed = train(agent(**variant, schedule=schedule), tmp_path / "run")
    straight = train(agent(**variant, schedule=schedule))
    assert rows(resumed) == rows(straight)
    assert len(resumed.history) == EPOCHS
    for mine, theirs in zip(resumed.module.state_dict().values(), straight.module.state_dict().values(), strict=True):
        assert mine.equal(theirs)
    one, other = resumed.module, straight.module
    assert isinstance(one, DQN)
    assert isinstance(other, DQN)
    assert one.experience is not None
    assert other.experience is not None
    slots = torch.arange(60)
    mine, theirs = one.experience.memory.get(slots), other.experience.memory.get(slots)
    assert all(mine[name].equal(theirs[name]) for name in mine)


def test_hooks_of_the_optimizer_are_called_and_change_nothing():
    called = []

    def hooked(parameters: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        optimizer.register_step_post_hook(lambda *_: called.append("step"))
        return optimizer

    module = agent()
    module.make_optimizer = hooked
    assert rows(train(module)) == rows(train(agent()))
    assert len(called) == EPOCHS * UPDATES


@pytest.mark.parametrize("restart", [False, True])
def test_a_gymnasium_environment_continues_by_the_same_steps(restart, tmp_path):
    schedule = partial(interrupt_at, 33, tmp_path / "sent")
    options = {"environments": partial(Gymnasium, "Acrobot-v1", max_episode_steps=30), "restart": restart}
    with pytest.raises(StoppedError):
        train(agent(**options, schedule=schedule), tmp_path / "run")
    resumed = train(agent(**options, schedule=schedule), tmp_path / "run")
    assert rows(resumed) == rows(train(agent(**options, schedule=schedule)))
    taken = read_checkpoint(tmp_path / "run" / "last.ckpt")["experience"]["collector"]["environments"]["taken"]
    assert len(taken) == (10 * 2 if restart else 270 // 4 + 1), "steps since the epoch began, or all"


def test_a_finished_training_is_read_back_with_its_best_network(tmp_path):
    done = train(agent(), tmp_path)
    back = train(agent(), tmp_path)
    assert rows(done) == rows(back)
    assert isinstance(back.module, DQN)
    assert isinstance(done.module, DQN)
    assert float(back.module.best_return) == float(done.module.best_return) == max(done.curve("val_return"))
    for mine, theirs in zip(back.module.best.parameters(), done.module.best.parameters(), strict=True):
        assert mine.equal(theirs)


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path):
    train(agent(), tmp_path)
    others: list[dict[str, Any]] = [
        {"gamma": 0.9},
        {"environments": partial(CartPole, length=0.7)},
        {"double": True},
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="of another configuration"):
            train(agent(**other), tmp_path)


def test_steps_updates_and_columns_are_what_was_asked_for():
    module = agent(steps_per_update=4, warmup=30)
    run = train(module)
    assert module.experience is not None
    # 30 + 60 · 4 environment steps are owed; they come in rollouts of 8.
    assert module.experience.steps == 272
    assert len(module.experience.memory) == 60
    columns = {
        "loss",
        "q",
        "training_return",
        "epsilon",
        "steps",
        "val_return",
        "val_length",
        "val_q",
        "val_discounted",
    }
    assert columns <= set(run.history[0])
    assert 0.05 <= run.curve("epsilon")[-1] < 0.06 < run.curve("epsilon")[0]
    assert run.curve("val_return") == run.curve("val_length"), "each step of CartPole pays 1"
    assert all(0 < returns <= 500 for returns in run.curve("training_return"))


def test_evaluation_is_of_separate_greedy_episodes():
    module = agent()
    run = train(module)
    assert module.experience is not None
    before = module.experience.state(torch.device("cpu")), float(module.best_return)
    data = experience("CartPole-v1", updates=1, batch_size=BATCH, episodes=5)
    again = module.evaluate([(data.validation.inputs, data.validation.targets)])
    assert again["return"] == run.curve("val_return")[-1], "the same seeds, the same episodes"
    module.evaluate([(data.test.inputs, data.test.targets)])
    assert float(module.best_return) == before[1], "what is evaluated after the training chooses nothing"
    after = module.experience.state(torch.device("cpu"))
    assert before[0]["random"].equal(after["random"])
    assert before[0]["collector"]["environments"]["physics"].equal(after["collector"]["environments"]["physics"])


def test_what_was_expected_lies_beside_what_came():
    """An agent that expects 1 / (1 − γ) at every step, on poles that fall: its error is known."""

    def values(obs: Tensor) -> Tensor:
        return torch.tensor([[0.0, 10.0]]).expand(len(obs), 2)

    played = play(values, CartPole(50), seed=1, keep_obs=True)
    assert played.terminated.all()
    assert played.returns.tolist() == played.lengths.tolist()
    assert (played.q == 10).all()
    assert 8 <= float(played.returns.min()) <= float(played.returns.max()) <= 12, "always to the right"
    m = played.lengths.double()
    torch.testing.assert_close(played.discounted(0.9)[0], (1 - 0.9**m) / 0.1)
    assert played.obs is not None
    assert played.obs.shape == (int(m.max()), 50, 4)
    assert played.running.sum(0).equal(played.lengths)
    short = play(values, CartPole(3), seed=1, limit=4)
    assert short.lengths.tolist() == [4, 4, 4]
    assert not short.terminated.any()


def test_noise_on_what_is_seen_changes_actions_and_nothing_else():
    seen: list[Tensor] = []

    def values(obs: Tensor) -> Tensor:
        seen.append(obs)
        return torch.stack([-obs[:, 2], obs[:, 2]], 1)

    played = play(values, CartPole(2), seed=0, observe=torch.zeros_like, keep_obs=True)
    assert all(not obs.any() for obs in seen)
    assert played.obs is not None
    assert played.obs.any()


class Ring:
    """A replay as a learner would write it: lists, and the public methods alone."""

    def __init__(self, capacity: int, obs_shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity, self.rows, self.added = capacity, {}, 0

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, obs, action, reward, next_obs, terminated, truncated, final_obs=None) -> Tensor:
        slots = [(self.added + row) % self.capacity for row in range(len(action))]
        given = (obs, action, reward, next_obs, terminated, truncated)
        self.rows |= {slot: [part[row].clone() for part in given] for row, slot in enumerate(slots)}
        self.added += len(action)
        return torch.tensor(slots)

    def get(self, slots: Tensor) -> dict[str, Tensor]:
        names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
        if not len(slots):
            return {}
        columns = zip(*(self.rows[slot] for slot in slots.tolist()), strict=True)
        return {name: torch.stack(column) for name, column in zip(names, columns, strict=True)}

    def sample(self, batch_size: int, g: torch.Generator) -> dict[str, Tensor]:
        return self.get(torch.randint(len(self), (batch_size,), generator=g))


class Opaque(PrioritizedReplay):
    """Priorities of a learner who keeps something that no checkpoint can hold."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen = {"slots": set()}


def test_a_learners_parts_take_the_places_of_ours(tmp_path):
    called = []

    def loss(*arguments: Any) -> Tensor:
        called.append("loss")
        return dqn_loss(*arguments)

    parts = {"functions": Functions(loss=loss), "memory": Ring, "priorities": Opaque}
    assert rows(train(agent(memory=Ring, by_hand=False))) == rows(train(agent(by_hand=False)))
    module = agent(**parts, prioritized=True)
    run = train(module, tmp_path / "a")
    assert len(called) == 60
    assert module.by_hand is None
    assert rows(run) == rows(train(agent(prioritized=True, by_hand=False)))


def test_batch_targets_of_a_learner_take_the_place_of_ours():
    def targets(batch: dict[str, Tensor], online: Any, target: Any, gamma: float, double: bool) -> Tensor:
        assert not torch.is_grad_enabled()
        after = target(batch["next_obs"])
        best = online(batch["next_obs"]).argmax(1) if double else after.argmax(1)
        return batch["reward"] + gamma * ~batch["terminated"] * after[torch.arange(len(best)), best]

    for double in (False, True):
        module = agent(functions=Functions(batch_target=targets), double=double)
        assert module.by_hand is None
        assert rows(train(module)) == rows(train(agent(by_hand=False, double=double)))
    with pytest.raises(ArgumentError, match="n_step = 1 with a batch_target"):
        agent(functions=Functions(batch_target=targets), n_step=2)


def test_a_dueling_head_of_a_learner_takes_the_place_of_ours():
    def join(value: Tensor, advantage: Tensor) -> Tensor:
        return dueling(value, advantage)

    module = agent(dueling=True, join=join)
    assert module.by_hand is None
    assert rows(train(module)) == rows(train(agent(dueling=True, by_hand=False)))


@pytest.mark.parametrize("parts", [{"memory": Ring}, {"memory": Ring, "priorities": Learners, "prioritized": True}])
def test_a_training_with_a_learners_memory_continues_bit_for_bit(parts, tmp_path):
    schedule = partial(interrupt_at, 33, tmp_path / "sent")
    with pytest.raises(StoppedError):
        train(agent(**parts, schedule=schedule), tmp_path / "run")
    resumed = train(agent(**parts, schedule=schedule), tmp_path / "run")
    assert rows(resumed) == rows(train(agent(**parts, schedule=schedule)))


def test_priorities_that_no_checkpoint_can_hold_begin_anew(tmp_path):
    parts: dict[str, Any] = {"priorities": Opaque, "prioritized": True}
    schedule = partial(interrupt_at, 33, tmp_path / "sent")
    with pytest.raises(StoppedError):
        train(agent(**parts, schedule=schedule), tmp_path)
    resumed = train(agent(**parts, schedule=schedule), tmp_path)
    straight = train(agent(**parts, schedule=schedule))
    assert len(resumed.history) == EPOCHS
    assert rows(resumed)[:1] == rows(straight)[:1]
    assert rows(resumed)[1:] != rows(straight)[1:]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("tau", -0.1),
        ("n_step", 0),
        ("environments", 0),
        ("capacity", 7),
        ("steps_per_update", 0),
        ("steps_per_update", float("inf")),
        ("huber_delta", 0),
        ("huber_delta", float("nan")),
        ("warmup", -1),
        ("alpha", -1),
        ("beta_updates", 0),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ArgumentError, match=rf"Learning\.{name}: .* Got .* Fix: "):
        Learning(**LEARNING | {name: value})


def test_settings_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ArgumentError, match="n_step = 1 with a replay that keeps no discounts"):
        agent(memory=Ring, n_step=2)
    with pytest.raises(ArgumentError, match="at least one update, transition and episode"):
        experience("CartPole-v1", updates=0, batch_size=1)
    with pytest.raises(DeviceError, match="32 or bf16 for a DQN"):
        train(agent(), precision="64")


def test_a_checkpoint_without_experience_is_refused():
    with pytest.raises(CheckpointError, match="a checkpoint with its experience"):
        agent().on_load_checkpoint({})


def test_mixed_precision_learns_too():
    run = train(agent(), precision="bf16")
    assert all(torch.tensor(run.curve("loss")).isfinite())


def test_the_harness_counts_multiplications_without_playing():
    def never(count: int) -> CartPole:
        return CartPole(count, limit=1)

    run = train(agent(environments=never), threads=0, epochs=1)
    assert run.curve("val_length") == [1]
