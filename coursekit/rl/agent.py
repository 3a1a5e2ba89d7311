"""The third seam: the agent, a `Module` of the harness whose mini-batches come from its own experience."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.data import Data, DataCard, Split
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError, CheckpointError, DeviceError
from coursekit.harness.module import Module, OptimizerFactory, Schedule, fuse, nothing
from coursekit.rl import snapshots
from coursekit.rl.collecting import Collector
from coursekit.rl.environments import EnvironmentFactory
from coursekit.rl.evaluation import play
from coursekit.rl.learning import Learning
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
from coursekit.rl.targets import Functions, dueling

_KEY = "experience"
_DRAWN_AHEAD = 4096  # transitions at most
_SMALL = 1024  # numbers in an observation, above which one gather for each mini-batch is as good
_ONLY_COUNTED = -1  # where `experience` has no episode to name


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
    drawn: list[Transitions] = field(default_factory=list)  # for the next updates, in runs, the last one first
    ready: list[Transitions] = field(default_factory=list)  # the mini-batches of the present run, the last one first

    def state(self, device: torch.device) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        return {
            "steps": self.steps,
            "collector": self.collector.state(),
            "windows": self.windows.state(),
            "memory": memory_state(self.memory, self.added, device),
            "priorities": None if self.priorities is None else snapshots.take(self.priorities),
            "random": self.generator.get_state(),
            "recent": self.recent,
            "drawn": self.drawn,
            "ready": self.ready,
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Take back what `state` returned."""
        self.steps, self.added, self.recent = state["steps"], state["memory"]["added"], state["recent"]
        self.drawn, self.ready = (
            [{name: column.to(device) for name, column in batch.items()} for batch in state[part]]
            for part in ("drawn", "ready")
        )
        self.collector.restore(state["collector"])
        self.windows.restore(state["windows"], device)
        restore_memory(self.memory, state["memory"], device)
        self.generator.set_state(state["random"].cpu())
        if self.priorities is not None and not snapshots.put_back(self.priorities, state["priorities"]):
            # A learner's, which keeps its numbers where they cannot be seen: all begin as new ones.
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
            learner's, or with their `batch_target`, `n_step` is 1.
        priorities: builds prioritised replay as `PrioritizedReplay(capacity, alpha=..., device=...)` does.
        by_hand: whether a `QNetwork` with the usual functions learns by the gradients of `HandWritten`; otherwise, and
            in mixed precision, by autograd.

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
        self.environments, self.learning, self.seed = environments, learning, seed
        self.functions = functions or Functions()
        for needs_one, what in (
            (memory is not Replay, "with a replay that keeps no discounts"),
            (self.functions.batch_target is not None, "with a batch_target, which takes one discount for all"),
        ):
            if needs_one and learning.n_step > 1:
                raise ArgumentError("DQN", f"n_step = 1 {what}", got=learning.n_step, fix="set n_step to 1")
        self.make_memory, self.make_priorities = memory, priorities
        self.target, self.best = (copy.deepcopy(network).requires_grad_(False) for _ in range(2))
        self.register_buffer("best_return", torch.tensor(-math.inf, dtype=torch.float64))
        self.best_return: Tensor
        self.by_hand: tuple[HandWritten, HandWritten] | None = None
        if by_hand and self.functions == Functions() and type(network) is QNetwork and network.join is dueling:
            assert isinstance(self.target, QNetwork)
            self.by_hand = HandWritten(network), HandWritten(self.target)
        self.experience: Experience | None = None
        self._to_restore: dict[str, Any] | None = None
        self._trains = False
        self._step: Callable[[], object] = nothing

    def values(self, obs: Tensor) -> Tensor:
        """Return the network's values (B, A), without a gradient."""
        with torch.no_grad(), self.mixed_precision():
            return self.hands[0].values(obs) if self.hands else self.network(obs).float()

    @property
    def hands(self) -> tuple[HandWritten, HandWritten] | None:
        """The online and the target network by hand, where this training goes by hand."""
        return None if self.position.mixed else self.by_hand

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer; the weights that are learned by hand are one tensor to it."""
        if self.hands is None:
            return super().configure_optimizers()
        online, slow = self.hands
        optimizer = self.make_optimizer([online.flatten()])
        slow.flatten()
        if self.fused:
            fuse(optimizer)
        self._step = _bare_step(optimizer)
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
            experience.ready.clear()

        drawn, slots, weights = self._draw(experience, len(batch[0]))
        if self.schedule is not None:
            rate = self.schedule(position.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        loss, q, error = (self._learn_by_hand if self.hands else self._learn)(drawn, weights)
        if experience.priorities is not None and slots is not None:
            experience.priorities.update(slots, error.sum(1))
        if (position.step + 1) % learning.target_updates == 0:
            self._sync()
        return {"loss": loss, "q": q, **experience.recent}

    def _sync(self) -> None:
        """Move the target network."""
        if self.hands is None:
            self.functions.sync(self.target, self.network, self.learning.tau)
            return
        online, slow = self.hands
        with torch.no_grad():
            slow.follow(online, self.learning.tau)

    def _draw(self, experience: Experience, count: int) -> tuple[Transitions, Tensor | None, Tensor | None]:
        """Return the transitions of one update, and with priorities their slots and weights."""
        learning = self.learning
        if experience.priorities is None:
            if not experience.ready:
                if not experience.drawn:
                    experience.drawn = self._draw_ahead(experience, count)
                experience.ready = _cut(self._look_ahead(experience.drawn.pop()), count)
            return experience.ready.pop(), None, None
        risen = min(1.0, self.position.step / learning.beta_updates)
        beta = learning.beta + (1 - learning.beta) * risen
        slots, weights = experience.priorities.sample(count, beta, experience.generator)
        return self._look_ahead(experience.memory.get(slots)), slots, weights

    def _draw_ahead(self, experience: Experience, count: int) -> list[Transitions]:
        """Draw, in one gather, the mini-batches of all updates until the replay changes.

        They come in runs, the last one first: during a run the target network stands still.
        """
        learning, step = self.learning, self.position.step
        owed = int((experience.steps - learning.warmup) / learning.steps_per_update) - step
        small = math.prod(experience.collector.environments.obs_shape) <= _SMALL
        batches = max(1, min(owed, _DRAWN_AHEAD // count)) if small else 1
        rows = experience.memory.sample(batches * count, experience.generator)
        moves = range(learning.target_updates - step % learning.target_updates, batches, learning.target_updates)
        return _cut(rows, [(last - first) * count for first, last in pairwise([0, *moves, batches])])

    def _look_ahead(self, batch: Transitions) -> Transitions:
        """Add to transitions what only the target network's next move can change; by autograd, nothing."""
        if self.hands is None:
            return batch
        with torch.no_grad():
            after = self.hands[1].values(batch["next_obs"])
            chosen = torch.zeros_like(after).scatter_(1, batch["action"][:, None], 1)
            if self.learning.double:  # the online network has its say in every update anew
                return {**batch, "chosen": chosen, "after": after}
            return {"obs": batch["obs"], "chosen": chosen, "target": self._target(batch, after, None)}

    def _target(self, batch: Transitions, after: Tensor, chooser: Tensor | None) -> Tensor:
        discount = batch.get("discount", self.learning.gamma)
        return self.functions.target(batch["reward"], batch["terminated"], after, discount, chooser)

    def _learn(self, batch: Transitions, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimizer step, with gradients by autograd.

        Returns:
            The loss, the mean value of the taken actions, and a matrix with B rows whose sums are their errors.
        """
        learning, functions = self.learning, self.functions

        def online(obs: Tensor) -> Tensor:
            return self.network(obs).float()

        def slow(obs: Tensor) -> Tensor:
            return self.target(obs).float()

        with self.mixed_precision():
            with torch.no_grad():
                if functions.batch_target is None:
                    chooser = online(batch["next_obs"]) if learning.double else None
                    target = self._target(batch, slow(batch["next_obs"]), chooser)
                else:
                    target = functions.batch_target(batch, online, slow, learning.gamma, learning.double)
            q = online(batch["obs"])
        loss = functions.loss(q, batch["action"], target, learning.huber_delta, weights)
        self.optimizer.zero_grad()
        self.backward_pass(loss)
        self.optimizer.step()
        taken = q.detach().gather(1, batch["action"][:, None])
        return loss.detach(), taken.mean(), taken - target[:, None]

    @torch.no_grad()
    def _learn_by_hand(self, batch: Transitions, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Do the same by matrix products, with what `_look_ahead` added."""
        assert self.hands is not None
        online, delta, chosen = self.hands[0], self.learning.huber_delta, batch["chosen"]
        q, inputs = online.forward(batch["obs"])
        if self.learning.double:
            target = self._target(batch, batch["after"], online.values(batch["next_obs"]))
        else:
            target = batch["target"]
        error = (q - target[:, None]).mul_(chosen)  # (B, A), 0 at every action that was not taken
        slope = error.clamp(-delta, delta)  # Huber's derivative
        share = slope / len(q) if weights is None else slope * weights[:, None] / len(q)
        online.backward(share, inputs)
        self._step()
        # ½·slope² + |slope|·(|error| − |slope|) is the parabola inside δ and the line outside; share is slope·w/B.
        loss = torch.dot(share.view(-1), torch.sub(error, slope, alpha=0.5).view(-1))
        return loss, torch.dot(q.view(-1), chosen.view(-1)) / len(q), error

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
        parts.append(f"by_hand={self.by_hand is not None}")
        return ", ".join([*parts, _name(self.make_memory), _name(self.make_priorities)])


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return a step without what PyTorch wraps around its own: a mark for profilers, hooks, a switch of autograd.

    Call it under `torch.no_grad()`. The wrapping is a third of the time of such a small step. An optimizer that has
    hooks keeps it.
    """
    hooked = any(value for name, value in vars(optimizer).items() if name.endswith("_hooks"))
    if hooked or not type(optimizer).__module__.startswith("torch.optim."):
        return optimizer.step
    return partial(inspect.unwrap(type(optimizer).step), optimizer)


def _cut(rows: Transitions, sizes: int | list[int]) -> list[Transitions]:
    """Cut transitions into parts of so many rows; the last part comes first."""
    parts = zip(*(column.split(sizes) for column in rows.values()), strict=True)
    return [dict(zip(rows, part, strict=True)) for part in parts][::-1]


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
