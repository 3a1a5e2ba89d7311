"""A network whose weights are an exponential moving average of another's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.errors import ArgumentError
from coursekit.metrics import evaluating


class MovingAverage(nn.Module):
    """The exponential moving average of a network's weights: θ̄ ← δ θ̄ + (1 − δ) θ after each optimizer step.

    As a submodule of a `Module` it goes into every checkpoint, count of updates included, so that a resumed training
    continues it bit for bit. Weights are averaged in their own precision. Buffers (BatchNorm's statistics, the vectors
    of spectral normalisation) are copied: they are averages already, or belong to the weights as they are.

    Moves as `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)` but for the warm-up: update t = 0,
    1, 2, ... uses δ = min(decay, (1 + t) / (10 + t)), as TensorFlow's `ExponentialMovingAverage` does with
    `num_updates`. Without it, the random starting weights weigh heavily for about 1 / (1 − decay) steps.

    Args:
        network: whose weights are averaged; the average begins as its copy.
        decay: δ, in [0, 1).
        warmup: whether δ rises to `decay`.

    Attributes:
        network: the averaged network, whose weights need no gradient.
        updates: how many there have been.

    Raises:
        ArgumentError: the decay is out of its range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999, *, warmup: bool = True) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ArgumentError("MovingAverage", "a decay from 0 to below 1", got=decay, fix="choose one there")
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.warmup, self.updates = decay, warmup, 0

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the averaged network makes of the inputs, always in evaluation mode."""
        with evaluating(self.network):
            return self.network(*inputs, **named)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards a network of the same architecture.

        Raises:
            ArgumentError: its parameters or buffers are not those of the averaged network.
        """
        mine, theirs = (dict(part.named_parameters()) for part in (self.network, network))
        kept, given = (dict(part.named_buffers()) for part in (self.network, network))
        if mine.keys() != theirs.keys() or kept.keys() != given.keys():
            odd = sorted((mine.keys() ^ theirs.keys()) | (kept.keys() ^ given.keys()))
            raise ArgumentError(
                "MovingAverage.update",
                "the network whose copy is averaged",
                got=f"one that differs in {', '.join(odd[:3])}",
                fix="average the network that is trained",
            )
        if mine:
            given_weights = [theirs[name].detach() for name in mine]
            # One call for all of them, as in torch.optim.swa_utils.
            torch._foreach_lerp_(list(mine.values()), given_weights, 1 - self.current_decay)  # pyright: ignore[reportPrivateImportUsage]
        for name, buffer in kept.items():
            buffer.copy_(given[name])
        self.updates += 1

    @property
    def current_decay(self) -> float:
        """The δ of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    def get_extra_state(self) -> Tensor:
        """Return the count of updates, which a checkpoint keeps beside the weights."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` returned."""
        self.updates = int(state)

    def extra_repr(self) -> str:
        """Say what the averaged network does not."""
        return f"decay={self.decay}, warmup={self.warmup}"
