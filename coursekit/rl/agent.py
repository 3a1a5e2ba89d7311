"""The third seam: the agent, a `Module` of the harness whose mini-batches come from its own experience."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.data import Data, DataCard, Split
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError, CheckpointError, DeviceError
from coursekit.harness.module import Module, OptimizerFactory, Schedule, fuse
from coursekit.rl.collecting import Collector
from coursekit.rl.environments import EnvironmentFactory
from coursekit.rl.evaluation import play
from coursekit.rl.networks import HandWritten, QNetwork
from coursekit.rl.replay import Batch as Transitions
from coursekit.rl.replay import (
    Memory,
    Priorities,
    PrioritizedReplay,
    Replay,
    memory_state,
    restore_memory,
)
from coursekit.rl.returns import NStep
from coursekit.rl.targets import Functions

_KEY = "experience"
_DRAWN_AHEAD = 4096  # transitions at most
_SMALL = 1024  # numbers in an observation, above which one gather for each mini-batch is as good
_ONLY_COUNTED = -1  # where `experience` has no episode to name


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


@dataclass(eq=False)
class Experience:
    """Everything of a training that is neither weight nor optimizer: what a checkpoint keeps beside them."""

    collector: Collector
    windows: NStep
    memory: Memory
    priorities: Priorities | None
    generator: torch.Generator
    steps: int = 0
    added: int = 0
    recent: dict[str, Tensor] = field(default_factory=dict)  # what each row of the history averages
    drawn: list[Transitions] = field(default_factory=list)  # mini-batches for the next updates, the last one first

    def state(self, device: torch.device) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        return {
            "steps": self.steps,
            "collector": self.collector.state(),
            "windows": self.windows.state(),
            "memory": memory_state(self.memory, self.added, device),
            "priorities": self.priorities.state() if isinstance(self.priorities, PrioritizedReplay) else None,
            "random": self.generator.get_state(),
            "recent": self.recent,
            "drawn": self.drawn,
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Take back what `state` returned."""
        self.steps, self.added, self.recent = state["steps"], state["memory"]["added"], state["recent"]
        self.drawn = [{name: column.to(device) for name, column in batch.items()} for batch in state["drawn"]]
        self.collector.restore(state["collector"])
        self.windows.restore(state["windows"], device)
        restore_memory(self.memory, state["memory"], device)
        self.generator.set_state(state["random"].cpu())
        if isinstance(self.priorities, PrioritizedReplay):
            self.priorities.restore(state["priorities"])
        elif self.priorities is not None:  # a learner's keeps its numbers where it likes: all begin as new ones
            self.priorities.add(torch.arange(len(self.memory), device=device))


class DQN(Module):
    """Deep Q-learning: act, remember, and move the values of what was done towards what came of it.

    One optimizer step of the harness is one update from the replay; the environment steps that it is owed are taken
    before it. A mini-batch of the harness only says by its length how many transitions to draw (`experience`).
    The history's columns: `loss`, `q` (mean value of the taken actions), `training_return` (mean over the last 100
    episodes of the exploring agent), `epsilon`, `steps`, and after each epoch of separate greedy episodes
    `val_return`, `val_length`, `val_q` (the value expected of the first observation) and `val_discounted` (what came
    of it).

    Args:
        network: from observations (B, ...) to values (B, A).
        environments: builds N environments, for example `CartPole`.
        learning: how to explore, remember and learn.
        optimizer: builds the optimizer over the network's parameters.
        schedule: learning rate of each update; None keeps the optimizer's own.
        seed: of environments, exploration and sampling.
        functions: what to compute with; a learner's own may stand in.
        memory: builds a replay as `Replay(capacity, obs_shape, dtype=..., device=...)` does; with one of the
            learner's, `n_step` is 1.
        priorities: builds prioritised replay as `PrioritizedReplay(capacity, alpha=..., device=...)` does.
        by_hand: whether a `QNetwork` with the usual functions learns by the gradients of `HandWritten`; otherwise by
            autograd.

    Attributes:
        target: the slow copy of the network.
        best: the network after the epoch with the highest mean greedy return, the first of equals.
        best_return: that return.

    Raises:
        ArgumentError: settings that do not fit each other.

    Source: Mnih et al. 2015, algorithm 1; van Hasselt, Guez & Silver 2016; Wang et al. 2016; Schaul et al. 2016.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        environments: EnvironmentFactory,
        learning: Learning,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        seed: int = 0,
        functions: Functions | None = None,
        memory: Callable[..., Memory] = Replay,
        priorities: Callable[..., Priorities] = PrioritizedReplay,
        by_hand: bool = True,
    ) -> None:
        super().__init__(network, optimizer=optimizer, schedule=schedule)
        if memory is not Replay and learning.n_step > 1:
            raise ArgumentError(
                "DQN", "n_step = 1 with a replay that keeps no discounts", got=learning.n_step, fix="set n_step to 1"
            )
        self.environments, self.learning, self.seed = environments, learning, seed
        self.functions = functions or Functions()
        self.make_memory, self.make_priorities = memory, priorities
        self.target, self.best = (copy.deepcopy(network).requires_grad_(False) for _ in range(2))
        self.register_buffer("best_return", torch.tensor(-math.inf, dtype=torch.float64))
        self.best_return: Tensor
        self.by_hand: tuple[HandWritten, HandWritten] | None = None
        if by_hand and self.functions == Functions() and type(network) is QNetwork:
            assert isinstance(self.target, QNetwork)
            self.by_hand = HandWritten(network), HandWritten(self.target)
        self.experience: Experience | None = None
        self._to_restore: dict[str, Any] | None = None
        self._trains = False

    def values(self, obs: Tensor) -> Tensor:
        """Return the network's values (B, A), without a gradient."""
        if self.by_hand is not None and not self.position.mixed:
            return self.by_hand[0].values(obs)
        with torch.no_grad(), self.mixed_precision():
            return self.network(obs).float()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer; the weights that are learned by hand are one tensor to it."""
        if self.by_hand is None or self.position.mixed:
            return super().configure_optimizers()
        optimizer = self.make_optimizer([self.by_hand[0].flatten()])
        if self.fused:
            fuse(optimizer)
        return optimizer

    # ------------------------------------------------------------------ experience

    def begin(self) -> Experience:
        """Build environments and replay on the module's device, or bring them back from a checkpoint."""
        learning, device = self.learning, self.device
        if next(self.network.parameters()).dtype != torch.float32:
            raise DeviceError("training.precision", "32 or bf16 for a DQN", got="64", fix="write training.precision=32")
        if self.trainer.world_size > 1:
            raise DeviceError(
                "DQN",
                "one process: its experience is not shared",
                got=f"{self.trainer.world_size} processes",
                fix="start it without torchrun",
            )
        environments = self.environments(learning.environments)
        room = {"device": device}
        self.experience = experience = Experience(
            Collector(environments, learning.rollout, seed=self.seed, device=device),
            NStep(learning.n_step, learning.gamma),
            self.make_memory(learning.capacity, environments.obs_shape, dtype=environments.obs_dtype, **room),
            self.make_priorities(learning.capacity, alpha=learning.alpha, **room) if learning.prioritized else None,
            torch.Generator(device).manual_seed(self.seed),
        )
        if self._to_restore is not None:
            experience.restore(self._to_restore, device)
            self._to_restore = None
        return experience

    def collect(self, experience: Experience) -> None:
        """Take one rollout with ε-greedy actions, and remember it."""
        learning, functions, generator = self.learning, self.functions, experience.generator
        epsilon = functions.epsilon(
            experience.steps, learning.epsilon_start, learning.epsilon_end, learning.epsilon_steps
        )
        rollout = experience.collector.collect(lambda obs: functions.explore(self.values(obs), epsilon, generator))
        transitions = experience.windows(rollout)
        experience.steps += rollout.action.numel()
        if count := len(transitions["action"]):
            if self.make_memory is not Replay:
                del transitions["discount"]
            slots = experience.memory.add(**transitions)
            experience.added += count
            if experience.priorities is not None:
                experience.priorities.add(slots)
        returns = experience.collector.returns
        now = {
            "training_return": sum(returns) / len(returns) if returns else 0.0,
            "epsilon": epsilon,
            "steps": experience.steps,
        }
        experience.recent = {name: torch.tensor(value, dtype=torch.float64) for name, value in now.items()}

    # ------------------------------------------------------------------ one update

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        """Take the environment steps that are due, then one optimizer step on transitions from the replay."""
        experience, learning, position = self.experience or self.begin(), self.learning, self.position
        if learning.restart and position.step == position.first and position.step:
            experience.collector.restart((self.seed + 1_000_003 * position.step) % 2**31)
            experience.windows.forget()
        due = learning.warmup + (position.step + 1) * learning.steps_per_update
        while experience.steps < due or len(experience.memory) == 0:
            self.collect(experience)
            experience.drawn.clear()

        drawn, slots, weights = self._draw(experience, len(batch[0]))
        if self.schedule is not None:
            rate = self.schedule(position.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        by_hand = self.by_hand is not None and not position.mixed
        loss, taken, error = (self._gradients_by_hand if by_hand else self._gradients)(drawn, weights)
        self.optimizer.step()
        if experience.priorities is not None and slots is not None:
            experience.priorities.update(slots, error)
        if (position.step + 1) % learning.target_updates == 0:
            self.functions.sync(self.target, self.network, learning.tau)
        return {"loss": loss, "q": taken.mean(), **experience.recent}

    def _draw(self, experience: Experience, count: int) -> tuple[Transitions, Tensor | None, Tensor | None]:
        """Return transitions, and with priorities their slots and weights."""
        if experience.priorities is None:
            if not experience.drawn:
                experience.drawn = self._draw_ahead(experience, count)
            return experience.drawn.pop(), None, None
        learning = self.learning
        risen = min(1.0, self.position.step / learning.beta_updates)
        beta = learning.beta + (1 - learning.beta) * risen
        slots, weights = experience.priorities.sample(count, beta, experience.generator)
        return experience.memory.get(slots), slots, weights

    def _draw_ahead(self, experience: Experience, count: int) -> list[Transitions]:
        """Draw, in one gather, the mini-batches of all updates until the replay changes; the last one comes first."""
        learning = self.learning
        owed = int((experience.steps - learning.warmup) / learning.steps_per_update) - self.position.step
        small = math.prod(experience.collector.environments.obs_shape) <= _SMALL
        batches = max(1, min(owed, _DRAWN_AHEAD // count)) if small else 1
        rows = experience.memory.sample(batches * count, experience.generator)
        parts = zip(*(column.split(count) for column in rows.values()), strict=True)
        return [dict(zip(rows, part, strict=True)) for part in parts][::-1]

    def _gradients(self, batch: Transitions, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Write the gradients by autograd; return the loss, the values of the taken actions, and their errors."""
        learning, functions = self.learning, self.functions
        discount = batch.get("discount", learning.gamma)
        with self.mixed_precision():
            with torch.no_grad():
                chooser = self.network(batch["next_obs"]).float() if learning.double else None
                after = self.target(batch["next_obs"]).float()
            q = self.network(batch["obs"]).float()
        target = functions.target(batch["reward"], batch["terminated"], after, discount, chooser)
        loss = functions.loss(q, batch["action"], target, learning.huber_delta, weights)
        self.optimizer.zero_grad()
        self.backward_pass(loss)
        taken = q.detach().gather(1, batch["action"][:, None]).squeeze(1)
        return loss.detach(), taken, taken - target

    @torch.no_grad()
    def _gradients_by_hand(self, batch: Transitions, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Do the same by matrix products."""
        assert self.by_hand is not None
        online, slow = self.by_hand
        learning, functions, action = self.learning, self.functions, batch["action"][:, None]
        q, inputs = online.forward(batch["obs"])
        chooser = online.values(batch["next_obs"]) if learning.double else None
        target = functions.target(
            batch["reward"],
            batch["terminated"],
            slow.values(batch["next_obs"]),
            batch.get("discount", learning.gamma),
            chooser,
        )
        taken = q.gather(1, action).squeeze(1)
        error = taken - target
        slope = error.clamp(-learning.huber_delta, learning.huber_delta)  # Huber's derivative
        share = slope / len(slope) if weights is None else slope * weights / len(slope)
        online.backward(torch.zeros_like(q).scatter_(1, action, share[:, None]), inputs)
        # ½·slope² + |slope|·(|error| − |slope|) is the parabola inside δ and the line outside; share is slope·w/B.
        loss = torch.dot(share, error - 0.5 * slope)
        return loss, taken, error

    # ------------------------------------------------------------------ greedy episodes

    def evaluate(self, batches: Any) -> dict[str, float]:
        """Return means over greedy episodes, one for each row; in training, keep the network if it is the best yet."""
        scores = super().evaluate(batches)
        if self._trains and scores.get("return", -math.inf) > float(self.best_return):
            self.best_return.fill_(scores["return"])
            self.best.load_state_dict(self.network.state_dict())
        return scores

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Play one greedy episode for each row; the first row's number seeds them."""
        seed, episodes = int(batch[0][0, 0]), len(batch[0])
        if seed == _ONLY_COUNTED:  # a row of the training part: the harness counts multiplications
            environments = self.environments(1)
            obs = torch.zeros(1, *environments.obs_shape, dtype=environments.obs_dtype, device=self.device)
            return {"q": self.values(obs)}
        played = play(self.values, self.environments(episodes), seed=seed, device=self.device)
        return {
            "return": played.returns,
            "length": played.lengths.double(),
            "q": played.q[0].double(),
            "discounted": played.discounted(self.learning.gamma)[0],
        }

    def on_train_start(self) -> None:
        """From here on `evaluate` compares."""
        self._trains = True

    def on_train_end(self) -> None:
        """What is evaluated later chooses nothing."""
        self._trains = False

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the replay, the environments and the random state."""
        if self.experience is not None:
            checkpoint[_KEY] = self.experience.state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep them until the device is known."""
        if _KEY not in checkpoint:
            raise CheckpointError("DQN", "a checkpoint with its experience", got="none in it", fix="delete the file")
        self._to_restore, self.experience = checkpoint[_KEY], None

    def extra_repr(self) -> str:
        """Say everything that changes the history: a checkpoint of other settings is not continued."""
        names = [f"{part.name}={_name(getattr(self.functions, part.name))}" for part in fields(self.functions)]
        parts = [repr(self.learning), f"seed={self.seed}", f"environments={_name(self.environments)}", *names]
        return ", ".join([*parts, _name(self.make_memory), _name(self.make_priorities)])


def _name(thing: Any) -> str:
    """Return a name that is the same in the next process (an address is not)."""
    if hasattr(thing, "func"):  # a partial
        given = [*map(repr, thing.args), *(f"{key}={value!r}" for key, value in thing.keywords.items())]
        return f"{_name(thing.func)}({', '.join(given)})"
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def experience(name: str, *, updates: int, batch_size: int, episodes: int = 100, seed: int = 10_000) -> Data:
    """Return an environment as data for `fit`: what is trained on comes about in training.

    The training part has `updates` · `batch_size` rows that say nothing: a mini-batch only tells the agent to draw as
    many transitions. A row of the validation part is a greedy episode, and so is one of the test part.

    Args:
        name: of the environment.
        updates: optimizer steps in an epoch; greedy episodes follow each.
        batch_size: transitions in a mini-batch, the same as `training.batch_size`.
        episodes: greedy episodes after each epoch, and as many others for the test part.
        seed: of the greedy episodes; far from the training's.

    Raises:
        ArgumentError: a count is below 1.
    """
    if min(updates, batch_size, episodes) < 1:
        raise ArgumentError(
            "experience",
            "at least one update, transition and episode",
            got=f"{updates}, {batch_size} and {episodes}",
            fix="enlarge them",
        )

    def rows(numbers: Tensor) -> Split:
        return Split(numbers[:, None], numbers)

    known = DataCard(
        name=name,
        title=name,
        what="An environment: transitions come about as the agent acts.",
        source="https://gymnasium.farama.org",
        licence="none: no data are stored",
        rows=0,
        shape=(1,),
        classes=(),
        faults=(),
        citation="Towers et al. 2024, Gymnasium",
        home="is simulated",
    )
    numbers = torch.arange(seed, seed + 2 * episodes)
    one = torch.ones(1, 1)
    return Data(
        name,
        train=rows(torch.full((updates * batch_size,), _ONLY_COUNTED)),
        validation=rows(numbers[:episodes]),
        test=rows(numbers[episodes:]),
        classes=(),
        card=known,
        mean=0 * one,
        std=one,
    )
