"""The instrument: a classifier trained on real images, whose inner layer is where samples are compared with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from coursekit.data import Data
from coursekit.metrics import evaluating
from coursekit.metrics.generative import (
    Copies,
    SampleQuality,
    feature_distance,
    find_copies,
    modes_of_classes,
    precision_recall,
)

_ROWS = 2048  # judged at once
_CONVOLVED_FROM = 16  # pixels of height from which the classifier convolves


class FeatureClassifier(nn.Module):
    """Images (b, c, h, w) to logits (b, classes), through features (b, width).

    Below 16 pixels of height a perceptron with two hidden layers, from there on three convolutions with stride 2.

    Args:
        shape: (c, h, w) of one image.
        classes: how many.
        width: of the features.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = shape
        if height < _CONVOLVED_FROM:
            inner: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * height * breadth, 64), nn.ReLU()]
        else:
            sizes = [channels, 32, 64, 128]
            inner = []
            for before, after in pairwise(sizes):
                inner += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            inner += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * sizes[-1], 64), nn.ReLU()]
        self.features = nn.Sequential(*inner, nn.Linear(64, width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (b, classes)."""
        return self.head(self.features(images))


@dataclass(frozen=True, eq=False)
class Quality:
    """What is measured of samples, against the test part.

    Attributes:
        classes: classes that hold their part of the samples.
        shares: of each class among the samples, (classes,).
        distance: Fréchet distance between the features of samples and test rows.
        manifolds: precision and recall by nearest-neighbour manifolds of features.
        copies: samples that are training rows.
        probe: accuracy on test rows of a probe that knows the samples alone: each row gets the class of its nearest
            sample, and each sample has the class that the classifier gives it.
    """

    classes: int
    shares: Tensor
    distance: float
    manifolds: SampleQuality
    copies: Copies
    probe: float


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier and the real rows that samples are compared with.

    Attributes:
        network: the classifier, on the data's device; always used in evaluation mode.
        data: images in the range of the samples.
        least: share of the samples that a class needs to count as covered.
    """

    network: FeatureClassifier
    data: Data
    least: float

    @torch.no_grad()
    def features(self, rows: Tensor) -> Tensor:
        """Return the features (n, width) of images (n, c, h, w), float32 on the CPU."""
        device = next(self.network.parameters()).device
        with evaluating(self.network):
            return torch.cat([self.network.features(part.to(device)).float().cpu() for part in rows.split(_ROWS)])

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return the classifier's probabilities (n, classes) for features."""
        device = next(self.network.parameters()).device
        return self.network.head(features.to(device)).softmax(1).cpu()

    def score(self, samples: Tensor, real: Tensor, labels: Tensor) -> dict[str, float]:
        """Return classes covered and Fréchet distance to other real rows: what the history keeps of each epoch."""
        features = self.features(samples)
        modes = modes_of_classes(self.probabilities(features), least=self.least)
        return {"classes": float(modes.covered), "distance": feature_distance(self.features(real), features)}

    @cached_property
    def _test_features(self) -> Tensor:
        return self.features(self.data.test.inputs)

    def quality(self, samples: Tensor) -> Quality:
        """Measure samples (n, c, h, w) against the test part."""
        samples = samples.cpu()
        features = self.features(samples)
        modes = modes_of_classes(self.probabilities(features), least=self.least)
        test = self._test_features
        given = self.probabilities(features).argmax(1)
        nearest = torch.cat([torch.cdist(part, features).argmin(1) for part in test.split(_ROWS)])
        return Quality(
            classes=modes.covered,
            shares=modes.shares,
            distance=feature_distance(test, features),
            manifolds=precision_recall(test, features[: len(test)]),
            copies=find_copies(samples, self.data.train.inputs.cpu(), self.data.test.inputs.cpu()),
            probe=float((given[nearest] == self.data.test.targets.cpu()).double().mean()),
        )
