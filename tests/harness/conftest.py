"""A small training that every harness test can shape: real digits, a tiny network, dropout that draws numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from coursekit import runtime
from coursekit.data import Data, load
from coursekit.harness import Classifier


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits", limit=320)


@pytest.fixture
def build() -> Callable[..., Classifier]:
    def make(seed: int = 0, *, lr: float = 0.05, dropout: float = 0.2, **kwargs: object) -> Classifier:
        runtime.seed_everything(seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10)
        )
        return Classifier(network, optimizer=lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9), **kwargs)  # pyright: ignore

    return make
