"""Early stopping: watch one column of the history, keep the best weights, end a training that brings nothing new."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from coursekit.errors import ArgumentError


class Stopper(Protocol):
    """What `fit` asks after each epoch: whether to stop, and at the end for the best weights."""

    def step(self, value: float, module: nn.Module) -> bool:
        """Take the watched value of one epoch and the module as it is then; return True to stop."""
        ...

    def restore(self, module: nn.Module) -> None:
        """Copy the best parameters and buffers back into the module."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A stopper whose training can be continued from a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything it knows, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...


class EarlyStopping:
    """Stop when a value has not improved for some epochs, and go back to the weights of its best epoch.

    NaN is never an improvement. The first value that is a number is the first best one.

    Args:
        patience: epochs in a row without improvement after which training stops.
        mode: `min` where small values are good (a loss), `max` where large ones are (accuracy).
        min_delta: an improvement must be larger than this.

    Raises:
        ArgumentError: patience below 1, another mode, or a negative min_delta.

    Source: Prechelt 1998; the count is that of `lightning.pytorch.callbacks.EarlyStopping`.
    """

    def __init__(self, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0) -> None:
        where = "EarlyStopping"
        if patience < 1:
            raise ArgumentError(where, "a patience of 1 epoch or more", got=patience, fix="wait at least one epoch")
        if mode not in ("min", "max"):
            raise ArgumentError(where, "a mode among min and max", got=repr(mode), fix="write min for a loss")
        if not min_delta >= 0:
            raise ArgumentError(where, "a min_delta of 0 or more", got=min_delta, fix="leave it out")
        self.patience, self.mode, self.min_delta = patience, mode, min_delta
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0
        self.weights: dict[str, Tensor] = {}

    def step(self, value: float, module: nn.Module) -> bool:
        """Take the value of one epoch and the module as it is then; return True to stop."""
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.waited = value, 0
            # Copies: a state_dict holds the live weights, which the next step changes.
            self.weights = {name: part.detach().clone() for name, part in module.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, module: nn.Module) -> None:
        """Copy the best weights back; without any improvement so far, nothing changes."""
        if self.weights:
            module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything it knows, as plain values and tensors."""
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.best, self.waited, self.weights = state["best"], state["waited"], dict(state["weights"])
