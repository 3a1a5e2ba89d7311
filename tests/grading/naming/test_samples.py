"""Telling draws from draws: what is drawn alike agrees, and each way in which draws can differ is seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from coursekit.grading.naming.samples import LEAST, Sample, drawn_alike, is_sample

Draw = Callable[[torch.Generator], Tensor]
SHAPE = (60, 100)


def normal(scale: float = 1.0, shape: tuple[int, ...] = SHAPE, shift: float = 0.0) -> Draw:
    return lambda rng: torch.randn(shape, generator=rng) * scale + shift


def uniform(low: float, high: float, shape: tuple[int, ...] = SHAPE) -> Draw:
    return lambda rng: torch.rand(shape, generator=rng) * (high - low) + low


def cut(bound: float) -> Draw:
    """Draw from the normal distribution again until every number lies within the bound."""

    def draw(rng: torch.Generator) -> Tensor:
        many = torch.randn(2 * math.prod(SHAPE), generator=rng)
        return many[many.abs() < bound][: math.prod(SHAPE)].view(SHAPE)

    return draw


def mask(keep: float, shape: tuple[int, ...] = SHAPE, scale: float = 1.0) -> Draw:
    return lambda rng: (torch.rand(shape, generator=rng) < keep).float().expand(SHAPE).contiguous() * scale


def whole(high: int) -> Draw:
    return lambda rng: torch.randint(high, SHAPE, generator=rng)


def same_rows(rng: torch.Generator) -> Tensor:
    return torch.randn((1, SHAPE[1]), generator=rng).expand(SHAPE)


def ramp(rng: torch.Generator) -> Tensor:
    return torch.linspace(-1, 1, math.prod(SHAPE)).view(SHAPE)


def share(first: Draw, second: Draw, times: int) -> float:
    """Return how often two draws count as alike."""
    rng = torch.Generator().manual_seed(0)
    return sum(drawn_alike(Sample(first(rng)), Sample(second(rng))) for _ in range(times)) / times


@pytest.mark.parametrize(
    "draw",
    [
        normal(),
        normal(shape=(LEAST,)),
        normal(0.01, shift=3.0),
        uniform(-1, 1),
        uniform(0, 1e6, (30, 4, 5, 3)),
        mask(0.5),
        mask(0.9, scale=2.0),
        mask(0.5, (1, SHAPE[1])),
        mask(0.5, (SHAPE[0], 1)),
        whole(10),
        whole(1000),
        same_rows,
        ramp,
        lambda rng: normal()(rng).bfloat16(),
        lambda rng: normal()(rng).double(),
        lambda rng: normal()(rng).mT,
        lambda rng: torch.full((LEAST,), 7.0),
    ],
    ids=[
        "normal",
        "few",
        "shifted",
        "uniform",
        "4d",
        "mask",
        "scaled-mask",
        "row-mask",
        "column-mask",
        "whole",
        "large",
        "rows",
        "ramp",
        "bf16",
        "f64",
        "mT",
        "constant",
    ],
)
def test_what_is_drawn_alike_agrees(draw):
    assert share(draw, draw, 50) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (normal(), normal(1.1)),
        (normal(), normal(shift=0.15)),
        (normal(), uniform(-math.sqrt(3), math.sqrt(3))),
        (uniform(-1, 1), uniform(-1.02, 1.02)),
        (uniform(-1, 1), uniform(0, 1)),
        (normal(), cut(2.5)),
        (uniform(-1, 1), ramp),
        (normal(), same_rows),
        (mask(0.5), mask(0.6)),
        (mask(0.5), mask(0.5, scale=2.0)),
        (mask(0.5), mask(0.5, (1, SHAPE[1]))),
        (mask(0.5), mask(0.5, (SHAPE[0], 1))),
        (mask(0.5, (1, SHAPE[1])), mask(0.5, (SHAPE[0], 1))),
        (mask(0.5), normal()),
        (whole(10), whole(9)),
        (lambda rng: torch.full((LEAST,), 7.0), lambda rng: torch.zeros(LEAST)),
        (normal(), lambda rng: normal()(rng).index_fill(0, torch.tensor([3]), math.nan)),
        (normal(), lambda rng: normal()(rng).index_fill(0, torch.tensor([3]), math.inf)),
    ],
    ids=[
        "scale",
        "shift",
        "family",
        "bound",
        "half",
        "tail",
        "ramp",
        "rows",
        "rate",
        "values",
        "row-mask",
        "column-mask",
        "masks",
        "kind",
        "ends",
        "constant",
        "nan",
        "inf",
    ],
)
def test_what_is_drawn_otherwise_does_not(first, second):
    assert share(first, second, 10) == share(second, first, 10) == 0


@pytest.mark.slow
def test_rates_at_the_size_of_lesson_1():
    """2,000 like pairs of 122,880 elements agree; a scale that is off by 3 % never does."""
    shape = (256, 32, 5, 3)
    assert share(normal(shape=shape), normal(shape=shape), 1000) == 1
    assert share(uniform(-1, 1, shape), uniform(-1, 1, shape), 1000) == 1
    assert share(normal(shape=shape), normal(1.03, shape), 100) == 0
    assert share(uniform(-1, 1, shape), uniform(-1.005, 1.005, shape), 100) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.ones(LEAST), True),
        (torch.ones(LEAST - 1), False),
        (torch.ones(LEAST, dtype=torch.complex64), False),
        (torch.ones(LEAST, dtype=torch.bool), True),
        ([1.0] * LEAST, False),
        (None, False),
    ],
    ids=[
        "enough",
        "few",
        "complex",
        "bool",
        "list",
        "none",
    ],
)
def test_what_counts_as_a_sample(value, expected):
    assert is_sample(value) == expected
