"""Networks from observations to the values of all actions, and the gradient of the small one written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.errors import ArgumentError
from coursekit.rl.targets import dueling

Join = Callable[[Tensor, Tensor], Tensor]
"""Makes values (B, A) of V (B, 1) and advantages (B, A)."""


class QNetwork(nn.Module):
    """A multilayer perceptron with ReLU between its layers.

    Args:
        inputs: numbers in an observation.
        hidden: widths of the hidden layers.
        actions: A.
        dueling: whether the last layer gives V and A(·), joined to Q, instead of Q itself. The streams share every
            hidden layer; in the paper each has one of its own.
        join: joins V (B, 1) and A (B, A) to Q; `dueling` or one like it.

    Raises:
        ArgumentError: a size is below 1.

    Source: Wang et al. 2016, equation 9, for the dueling head.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], actions: int, *, dueling: bool = False, join: Join = dueling
    ) -> None:
        super().__init__()
        widths = [inputs, *hidden, actions + dueling]
        if min(inputs, actions, *hidden, 1) < 1:
            raise ArgumentError("QNetwork", "sizes of at least 1", got=widths, fix="enlarge them")
        self.dueling, self.join = dueling, join
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, obs: Tensor) -> Tensor:
        """Return values (B, A) of observations (B, inputs)."""
        x = obs.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        x = self.layers[-1](x)
        return self.join(x[:, :1], x[:, 1:]) if self.dueling else x

    def extra_repr(self) -> str:
        """Say what the printed layers do not show."""
        return f"dueling={self.dueling}"


class HandWritten:
    """The same `QNetwork`, forward and backward as plain matrix products.

    On a network this small, building and walking autograd's graph costs more than the arithmetic. The gradients equal
    autograd's; `tests/rl/test_networks.py` proves it. Call everything under `torch.no_grad()`.

    Args:
        network: whose parameters are read; a dueling one joins its streams by `dueling`.

    Attributes:
        flat: all weights end to end, after `flatten`.
    """

    flat: nn.Parameter

    def __init__(self, network: QNetwork) -> None:
        self.join = network.join if network.dueling else None
        # Parameters keep their identity when a module moves or loads; only their data change.
        self.layers: list[tuple[Tensor, Tensor]] = []
        for layer in network.layers:
            assert isinstance(layer, nn.Linear)
            self.layers.append((layer.weight, layer.bias))
        # Where `backward` writes. Kept here, since Lightning empties every `.grad` when a training begins.
        self.gradients: list[Tensor] = []

    def flatten(self) -> nn.Parameter:
        """Lay all weights end to end, and their gradients too; the network's parameters become views.

        An optimizer that works element by element then has one tensor to go through instead of two for each layer.
        """
        parts = [part for layer in self.layers for part in layer]
        self.flat = nn.Parameter(torch.cat([part.detach().reshape(-1) for part in parts]))
        self.flat.grad = torch.zeros_like(self.flat)
        sizes = [part.numel() for part in parts]
        slopes = self.flat.grad.split(sizes)
        self.gradients = [slope.view_as(part) for part, slope in zip(parts, slopes, strict=True)]
        for part, values, slope in zip(parts, self.flat.detach().split(sizes), self.gradients, strict=True):
            part.data, part.grad = values.view_as(part), slope
        return self.flat

    def follow(self, online: HandWritten, tau: float) -> None:
        """Move these weights a share τ of the way to another network's, as `sync` does; both lie flat."""
        self.flat.lerp_(online.flat, tau)

    def values(self, obs: Tensor) -> Tensor:
        """Return values (B, A) of observations (B, inputs)."""
        return self.forward(obs)[0]

    def forward(self, obs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the values (B, A), and what goes into each layer, for `backward`."""
        x = obs.flatten(1)
        inputs = [x]
        for weight, bias in self.layers[:-1]:
            x = torch.addmm(bias, x, weight.t()).relu_()
            inputs.append(x)
        weight, bias = self.layers[-1]
        x = torch.addmm(bias, x, weight.t())
        return (x if self.join is None else self.join(x[:, :1], x[:, 1:])), inputs

    def backward(self, gradient: Tensor, inputs: list[Tensor]) -> None:
        """Write the gradient of every parameter; `flatten` has made room for them.

        Args:
            gradient: of the loss with respect to the values (B, A).
            inputs: what `forward` returned.
        """
        if self.join is not None:
            # Q = V + A − mean A: V meets every action's gradient, and A its own less the mean.
            total = gradient.sum(1, keepdim=True)
            gradient = torch.cat([total, gradient - total / gradient.shape[1]], 1)
        for depth in range(len(self.layers) - 1, -1, -1):
            torch.mm(gradient.t(), inputs[depth], out=self.gradients[2 * depth])
            torch.sum(gradient, 0, out=self.gradients[2 * depth + 1])
            if depth:
                gradient = torch.mm(gradient, self.layers[depth][0])
                gradient = torch.ops.aten.threshold_backward(gradient, inputs[depth], 0)  # 0 where ReLU was closed


class AtariNetwork(nn.Module):
    """The convolutional network of the Atari papers, from four grey frames of 84 × 84 pixels.

    Args:
        actions: A.
        frames: stacked frames.
        dueling: whether two streams of 512 units give V and A(·), joined to Q.
        join: as for `QNetwork`.

    Source: Mnih et al. 2015, methods; Wang et al. 2016, equation 9, for the dueling streams.
    """

    def __init__(self, actions: int, *, frames: int = 4, dueling: bool = False, join: Join = dueling) -> None:
        super().__init__()
        self.dueling, self.join = dueling, join
        self.features = nn.Sequential(
            nn.Conv2d(frames, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip

        def stream(outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Linear(512, outputs))

        self.advantage = stream(actions)
        self.value = stream(1) if dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """Return values (B, A) of pixels (B, frames, 84, 84), uint8."""
        x = self.features(obs.to(self.dtype) / 255)
        advantage = self.advantage(x)
        return advantage if self.value is None else self.join(self.value(x), advantage)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype

    def extra_repr(self) -> str:
        """Say what the printed layers do not show."""
        return f"dueling={self.dueling}"
