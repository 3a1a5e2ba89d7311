"""What an agent remembers: the last transitions, in preallocated tensors on the device."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from coursekit.errors import ArgumentError

Batch = dict[str, Tensor]
"""Transitions by name: obs, action, reward, next_obs, terminated, truncated, and `discount` where it is kept."""


class Memory(Protocol):
    """What the agent asks of a replay; `Replay` here and the learner's `ReplayBuffer` answer it."""

    def __len__(self) -> int: ...

    def add(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: Tensor | None = None,
    ) -> Tensor:
        """Store B transitions, and return their slots (B,), int64."""
        ...

    def get(self, slots: Tensor) -> Batch:
        """Return the transitions of these slots (B,)."""
        ...

    def sample(self, batch_size: int, g: torch.Generator) -> Batch:
        """Draw transitions uniformly with replacement."""
        ...


class Priorities(Protocol):
    """What the agent asks of prioritised replay; `PrioritizedReplay` here and the learner's answer it."""

    def add(self, slots: Tensor) -> None:
        """Give new slots the largest priority so far."""
        ...

    def update(self, slots: Tensor, errors: Tensor) -> None:
        """Set the priorities of slots that were learned from, by their errors (B,)."""
        ...

    def sample(self, batch_size: int, beta: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw slots (B,) and their importance weights (B,)."""
        ...


class Replay:
    """A ring of the last `capacity` transitions.

    Everything of a transition but pixels lies in one row of one float32 matrix, so that a mini-batch is one gather.

    Args:
        capacity: transitions that fit.
        obs_shape: of one observation.
        dtype: in which observations are kept: float32, or uint8 for pixels.
        device: of all that is kept and returned.

    Raises:
        ArgumentError: the capacity is below 1.

    Source: Lin 1992; Mnih et al. 2015, algorithm 1.
    """

    def __init__(
        self,
        capacity: int,
        obs_shape: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1:
            raise ArgumentError("Replay", "room for at least one transition", got=capacity, fix="enlarge the capacity")
        self.capacity, self.obs_shape = capacity, obs_shape
        self.in_rows = dtype == torch.float32
        self.width = math.prod(obs_shape)
        scalars = 5  # action, reward, discount, terminated, truncated
        self.rows = torch.zeros(capacity, scalars + (2 * self.width if self.in_rows else 0), device=device)
        self.pixels = (
            None if self.in_rows else torch.zeros(2, capacity, *obs_shape, dtype=dtype, device=device)
        )  # what was seen before and after
        self.added = 0

    def __len__(self) -> int:
        """Return how many transitions are stored."""
        return min(self.added, self.capacity)

    def add(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: Tensor | None = None,
        discount: Tensor | None = None,
    ) -> Tensor:
        """Store B transitions, row 0 first; the oldest ones make room.

        Args:
            obs: (B, *obs_shape).
            action: (B,), whole numbers below 2²⁴.
            reward: (B,); of several steps, their discounted sum.
            next_obs: (B, *obs_shape), what the step led to.
            terminated: (B,), bool.
            truncated: (B,), bool.
            final_obs: (B, *obs_shape), taken instead of `next_obs` in the rows that ended.
            discount: (B,), how much the value of `next_obs` counts if it counts; None keeps 1.

        Returns:
            The slots that were written (B,), int64.

        Raises:
            ArgumentError: more transitions than fit.
        """
        count = len(action)
        if count > self.capacity:
            raise ArgumentError(
                "Replay.add", f"at most {self.capacity} transitions at once", got=count, fix="enlarge the capacity"
            )
        if final_obs is not None:
            ended = (terminated | truncated).reshape(-1, *[1] * len(self.obs_shape))
            next_obs = torch.where(ended, final_obs, next_obs)
        ones = torch.ones_like(self.rows[:count, 0]) if discount is None else discount
        scalars = torch.stack([action.to(ones), reward.to(ones), ones, terminated.to(ones), truncated.to(ones)], 1)
        slots = torch.arange(self.added, self.added + count, device=self.rows.device).remainder_(self.capacity)
        if self.pixels is None:
            self.rows[slots] = torch.cat([obs.reshape(count, -1), next_obs.reshape(count, -1), scalars], 1)
        else:
            self.rows[slots] = scalars
            self.pixels[0, slots], self.pixels[1, slots] = obs, next_obs
        self.added += count
        return slots

    def get(self, slots: Tensor) -> Batch:
        """Return the transitions of these slots (B,), as tensors of their own."""
        rows = self.rows.index_select(0, slots)
        if self.pixels is None:
            seen = rows[:, : 2 * self.width].unflatten(1, (2, *self.obs_shape))
            obs, next_obs = seen[:, 0], seen[:, 1]
        else:
            obs, next_obs = (pixels.index_select(0, slots) for pixels in self.pixels)
        action, reward, discount, terminated, truncated = rows[:, -5:].unbind(1)
        return {
            "obs": obs,
            "action": action.long(),
            "reward": reward,
            "next_obs": next_obs,
            "terminated": terminated.bool(),
            "truncated": truncated.bool(),
            "discount": discount,
        }

    def sample(self, batch_size: int, g: torch.Generator) -> Batch:
        """Draw transitions with replacement, each stored one as likely as the others.

        Raises:
            ArgumentError: nothing is stored yet.
        """
        if self.added == 0:
            raise ArgumentError("Replay.sample", "at least one stored transition", got="none", fix="add first")
        return self.get(torch.randint(len(self), (batch_size,), generator=g, device=self.rows.device))


def memory_state(memory: Memory, added: int, device: torch.device) -> dict[str, Any]:
    """Return what a checkpoint keeps of any replay, by its public methods alone.

    Args:
        memory: the replay.
        added: transitions that it was ever given.
        device: where it lies.
    """
    kept = memory.get(torch.arange(len(memory), device=device))
    return {"added": added, "kept": kept}


def restore_memory(memory: Memory, state: dict[str, Any], device: torch.device) -> None:
    """Fill an empty replay with what `memory_state` returned, every transition in its former slot."""
    kept: Batch = {name: column.to(device) for name, column in state["kept"].items()}
    stored = len(kept["action"])
    # Of a full ring, the oldest transition lies in the next slot to be written. Writing the slots before it once
    # ahead of the rest turns the new ring to the same place.
    turned = state["added"] % stored if stored else 0
    for first, last in ((0, turned), (turned, stored), (0, turned)) if state["added"] > stored else ((0, stored),):
        if last > first:
            memory.add(**{name: column[first:last] for name, column in kept.items()})


class SumTree:
    """Numbers above or equal to zero, one for each slot, that can be changed and drawn from in O(log capacity).

    Each node holds the sum of its 64 children, and not of two as in the paper: three levels reach 262,144 slots. A
    level costs a few tensor operations whatever their width, so that wide and low is faster than narrow and high.

    Args:
        capacity: number of slots. All are 0 at first.
        device: of the nodes and of what is returned.

    Source: Schaul et al. 2016, appendix B.2.1, with another number of children.
    """

    CHILDREN = 64

    def __init__(self, capacity: int, *, device: torch.device | str = "cpu") -> None:
        size = self.CHILDREN
        while size < capacity:
            size *= self.CHILDREN
        self.levels: list[Tensor] = []  # from the leaves up to the root's children, each (nodes above, 64)
        while size > 1:
            size //= self.CHILDREN
            self.levels.append(torch.zeros(size, self.CHILDREN, dtype=torch.float64, device=device))

    @property
    def total(self) -> Tensor:
        """The sum of all numbers, shape ()."""
        return self.levels[-1].sum()

    def get(self, slots: Tensor) -> Tensor:
        """Return the numbers of some slots (B,), float64."""
        return self.levels[0].view(-1)[slots]

    def update(self, slots: Tensor, values: Tensor) -> None:
        """Set the numbers of some slots, and mend the sums above them.

        Args:
            slots: (B,), int64. A slot may come several times, with the same value each time.
            values: (B,), floating, ≥ 0.
        """
        for level in self.levels:
            level.view(-1)[slots] = values.to(level)
            slots = slots // self.CHILDREN
            values = level[slots].sum(1)  # summed anew: a slot that comes twice must not count twice

    def find(self, mass: Tensor) -> Tensor:
        """Return the slot in which each mass falls, when the numbers are laid end to end.

        Args:
            mass: (B,), float64, from 0 to the total. A slot whose number is 0 is never found.
        """
        nodes = torch.zeros_like(mass, dtype=torch.int64)
        for level in reversed(self.levels):
            sums = level[nodes].cumsum(1)
            # Rounding may bring a mass to the very end; the end itself belongs to no child.
            mass = torch.minimum(mass, torch.nextafter(sums[:, -1], torch.zeros_like(mass)))
            child = torch.searchsorted(sums, mass[:, None], right=True)
            before = sums.gather(1, (child - 1).clamp_(min=0)).squeeze(1)
            child = child.squeeze(1)
            mass = torch.where(child > 0, mass - before, mass)
            nodes = nodes * self.CHILDREN + child
        return nodes


class PrioritizedReplay:
    """Which slots of a replay to learn from: those whose error was large more often.

        p_i  = |δ_i| + eps                     priority of slot i
        P(i) = p_i^α / Σ_k p_k^α               probability of slot i
        w_i  = (N · P(i))^−β / max_j w_j       weight that undoes the preference; the maximum is the batch's

    Args:
        capacity: number of slots.
        alpha: α ≥ 0; with 0 all slots are alike.
        eps: added to every |δ|, so that no slot is forgotten.
        device: of all that is kept and returned.

    Source: Schaul et al. 2016, algorithm 1 and section 3.3 (proportional prioritisation).
    """

    def __init__(
        self, capacity: int, *, alpha: float = 0.6, eps: float = 1e-6, device: torch.device | str = "cpu"
    ) -> None:
        if alpha < 0 or eps <= 0:
            raise ArgumentError("PrioritizedReplay", "alpha ≥ 0 and eps > 0", got=f"{alpha} and {eps}", fix="mend them")
        self.tree = SumTree(capacity, device=device)
        self.alpha, self.eps = alpha, eps
        self.largest = torch.ones((), dtype=torch.float64, device=device)

    def add(self, slots: Tensor) -> None:
        """Give new transitions the largest priority that any slot ever had (1 before the first larger one)."""
        self.tree.update(slots, (self.largest**self.alpha).expand(len(slots)))

    def update(self, slots: Tensor, errors: Tensor) -> None:
        """Set the priorities of slots that were learned from.

        Args:
            slots: (B,), int64. A slot may come several times, with the same error each time.
            errors: their errors δ (B,), floating, of either sign.
        """
        priorities = errors.double().abs() + self.eps
        self.largest = torch.maximum(self.largest, priorities.max())
        self.tree.update(slots, priorities**self.alpha)

    def sample(self, batch_size: int, beta: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one slot from each of `batch_size` equal parts of the whole mass.

        Returns:
            Slots (B,), int64, and their weights (B,), float32, the largest of which is 1.
        """
        device = self.largest.device
        inside = torch.rand(batch_size, generator=g, dtype=torch.float64, device=device)
        part = torch.arange(batch_size, device=device)
        slots = self.tree.find((part + inside) * (self.tree.total / batch_size))
        held = self.tree.get(slots)
        # N and the total cancel in the quotient: the largest weight is that of the smallest P.
        return slots, (held.min() / held).pow_(beta).float()
