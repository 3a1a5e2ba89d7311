"""The networks that are explained: two for pictures, one for tables, and one that explains itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DigitNetwork(nn.Sequential):
    """A small convolutional network: three layers of 3 × 3 filters, one halving, one linear layer.

    Images (b, c, h, w) become logits (b, classes). The ReLUs work in place, as in most published networks: a tool that
    keeps a layer's output has to copy it.

    Args:
        shape: (c, h, w) of an image; h and w are even.
        classes: how many there are.
        channels: filters of the first layer; the other two have twice as many.
    """

    def __init__(self, shape: Sequence[int], classes: int, channels: int) -> None:
        places = (shape[1] // 2) * (shape[2] // 2)
        super().__init__(
            nn.Conv2d(shape[0], channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(2 * channels * places, classes),
        )

    @property
    def last_convolution(self) -> nn.Module:
        """The last layer whose output still lies on a plane: where Grad-CAM looks."""
        return self[5]

    @property
    def convolutions(self) -> dict[str, nn.Module]:
        """The three convolutions, from the image to the answer."""
        return {"first layer": self[0], "second layer": self[2], "third layer": self[5]}


class AttentionNetwork(nn.Module):
    """The same convolutions, then one learned query that reads their places by attention (Ilse et al. 2018 in kind).

    Images (b, c, h, w) become logits (b, classes). All that reaches the answer passes through the weights of
    `attention`, an `nn.MultiheadAttention`.

    Args:
        shape: (c, h, w) of an image; h and w are even.
        classes: how many there are.
        channels: filters of the first layer; a place has twice as many features.
    """

    def __init__(self, shape: Sequence[int], classes: int, channels: int) -> None:
        super().__init__()
        width = 2 * channels
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()
        )
        self.query = nn.Parameter(torch.randn(1, 1, width) / math.sqrt(width))
        # Without it the sum over places would not know where anything stood.
        self.position = nn.Parameter(torch.randn(1, shape[1] * shape[2], width) / math.sqrt(width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to logits (b, classes)."""
        places = self.features(images).flatten(2).transpose(1, 2) + self.position  # (b, h * w, width)
        read, _ = self.attention(self.query.repeat(len(images), 1, 1), places, places)
        return self.head(read[:, 0])


class TableNetwork(nn.Sequential):
    """A multilayer perceptron: rows (b, features) become logits (b, classes).

    Args:
        features: columns of the table.
        classes: how many there are.
        hidden: units of each hidden layer; none makes it logistic regression.
    """

    def __init__(self, features: int, classes: int, hidden: Sequence[int]) -> None:
        widths = [features, *hidden]
        layers = [[nn.Linear(narrow, wide), nn.ReLU()] for narrow, wide in itertools.pairwise(widths)]
        super().__init__(*itertools.chain(*layers), nn.Linear(widths[-1], classes))


class AdditiveNetwork(nn.Module):
    """A neural additive model (Agarwal et al. 2021): each feature has a network of its own, and their results add up.

    Inputs (b, ...) are read as rows of features and become logits (b, classes). What a feature contributes depends on
    that feature alone, so the model can be drawn in full: one curve for each feature and class.

    Args:
        features: columns of the table, or pixels.
        classes: how many there are.
        units: ReLUs of each feature's network: the curve is a chain of at most that many bends.
    """

    def __init__(self, features: int, classes: int, units: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(features, units))
        # Bends from -2 to 2: where normalised features lie.
        self.offset = nn.Parameter(torch.empty(features, units).uniform_(-2, 2))
        self.weight = nn.Parameter(torch.randn(features, units, classes) / units)
        self.bias = nn.Parameter(torch.zeros(classes))

    def contributions(self, inputs: Tensor) -> Tensor:
        """Return what each feature adds to each logit: (b, features, classes)."""
        hidden = (inputs.flatten(1).unsqueeze(-1) * self.slope + self.offset).relu()  # (b, features, units)
        return torch.einsum("bfu,fuc->bfc", hidden, self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (b, ...) to logits (b, classes)."""
        return self.contributions(inputs).sum(1) + self.bias


class LogOdds(nn.Module):
    """One number instead of two logits: how strongly the network takes the first class for the second.

    Two logits may move up and down together without a change of the probabilities; their difference cannot. It is the
    log odds of the first class, so whatever is attributed to a feature is in nats.

    Args:
        network: with logits (b, 2).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (b, ...) to log odds (b,)."""
        logits = self.network(inputs)
        return logits[:, 0] - logits[:, 1]
