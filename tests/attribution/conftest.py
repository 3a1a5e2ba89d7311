"""Small networks with fixed weights, the rows they are explained on, and a generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


class Viewed(nn.Module):
    """A CNN that flattens by `.view`, which pictures laid out channels last cannot take; its ReLUs work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x).view(len(x), -1)))


def _seeded(build: type[nn.Module] | object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()  # type: ignore[operator]


@pytest.fixture
def cnn() -> nn.Module:
    """Pictures (n, 2, 10, 10) to 5 scores; float64, in training mode."""
    return _seeded(Viewed).double()


@pytest.fixture
def mlp() -> nn.Module:
    """Rows (n, 6) to 3 scores; float64."""
    return _seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))).double()


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture
def pictures(g: torch.Generator) -> Tensor:
    return torch.randn(4, 2, 10, 10, generator=g, dtype=torch.float64)


@pytest.fixture
def table(g: torch.Generator) -> Tensor:
    return torch.randn(5, 6, generator=g, dtype=torch.float64)


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 3, 1, 4])
