"""Whether two tensors of random numbers were drawn alike: compared as samples, and not number by number.

Two right ways of drawing give other numbers from the same generator, and so do two ways of making one mistake.
What is compared, each at 5 standard errors (a same draw is refused once in 1.7 million comparisons):

    distribution    two-sample Kolmogorov-Smirnov, with the threshold in closed form
    mean, variance  sharper than the former for a scale that is off by a few per cent
    ends            how many lie beyond the other sample: a cut-off tail, a wrong bound
    neighbours      correlation of each element with the next: a ramp is no draw
    structure       equal rows, equal columns, how many distinct values; for a few values, which ones

Smirnov 1939; `5 sigma` of two sides is p = 5.7e-7.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

LEAST = 200  # elements from which a tensor is a sample; fewer tell too little at 5 standard errors
SIGMAS = 5.0
_ALPHA = math.erfc(SIGMAS / math.sqrt(2))
_KOLMOGOROV = math.sqrt(-math.log(_ALPHA / 2) / 2)
_FEW = 64  # distinct values up to which they are taken for outcomes of a discrete draw
_LIKE = 1.5  # factor by which counts of distinct values may differ
_GRID = 4096  # places at which two distributions are compared: the distance is at most 1 / 4096 too small


class Sample:
    """A tensor seen as a sample. What is costly is computed once, at first use.

    Args:
        tensor: any shape and dtype but complex, at least `LEAST` elements.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @cached_property
    def values(self) -> Tensor:
        """All elements (n,), float64."""
        return self.tensor.detach().cpu().reshape(-1).double()

    @cached_property
    def finite(self) -> bool:
        """Whether there is no NaN and no infinity."""
        return bool(torch.isfinite(self.values).all())

    @cached_property
    def largest(self) -> float:
        """The largest element without its sign."""
        return self.values.abs().max().item()

    @cached_property
    def mean(self) -> float:
        """The mean."""
        return self.values.mean().item()

    @cached_property
    def moments(self) -> tuple[float, float]:
        """(second, fourth) central moment."""
        squares = (self.values - self.mean).square()
        return squares.mean().item(), squares.square().mean().item()

    @cached_property
    def neighbours(self) -> float:
        """The correlation of each element with the next; 0 where nothing varies."""
        centred = self.values - self.mean
        variance = self.moments[0]
        return (centred[1:] * centred[:-1]).mean().item() / variance if variance > 0 else 0.0

    @cached_property
    def ordered(self) -> Tensor:
        """All elements (n,), rising."""
        # Sorted in their own dtype, which is faster.
        return self.tensor.detach().cpu().reshape(-1).sort().values.double()

    @cached_property
    def distinct(self) -> Tensor:
        """The distinct values, rising."""
        return torch.unique_consecutive(self.ordered)

    @cached_property
    def lines(self) -> tuple[int, int]:
        """(distinct rows, distinct columns), where the first axis counts rows; (1, n) of a flat tensor."""
        if self.tensor.dim() < 2:
            return 1, len(self.values)
        table = self.values.view(self.tensor.shape[0], -1)
        # Two rows are the same when their products with one random vector are.
        weights = [torch.rand(size, generator=_generator(), dtype=torch.float64) for size in table.shape]
        return len(torch.unique(table @ weights[1])), len(torch.unique(table.mT.contiguous() @ weights[0]))

    @cached_property
    def discrete(self) -> bool:
        """Whether it has only a few distinct values."""
        return len(self.distinct) <= _FEW

    @cached_property
    def size(self) -> int:
        """How many independent draws the tensor shows: copies of a row, a column or a number do not count."""
        if not self.discrete:
            return len(self.distinct)
        rows, columns = self.lines
        height = self.tensor.shape[0] if self.tensor.dim() > 1 else 1
        if columns == 1:
            return height
        return len(self.values) // height if rows == 1 else len(self.values)


def is_sample(value: object) -> bool:
    """Return whether a plain value is a tensor of enough numbers."""
    return type(value) is Tensor and value.numel() >= LEAST and not value.is_complex()


def drawn_alike(first: Sample, second: Sample) -> bool:
    """Return whether two tensors of one shape look like draws from one distribution (see the head of this file)."""
    if not (first.finite and second.finite):
        return False
    # Most pairs end with the first line, which does not order the second sample; that is what takes long. Where it
    # has far fewer independent draws than the first, the structures differ anyway.
    return (
        _moments_agree(first, second, first.size / _LIKE, first.size / _LIKE)
        and _structures_agree(first, second)
        and _moments_agree(first, second, first.size, second.size)
        and _distributions_agree(first, second)
    )


def _moments_agree(first: Sample, second: Sample, size: float, other_size: float) -> bool:
    gap = _rounding(first, second)
    error = SIGMAS * math.sqrt(first.moments[0] / size + second.moments[0] / other_size)
    if abs(first.mean - second.mean) > error + gap:
        return False
    squares = [max(one.moments[1] - one.moments[0] ** 2, 0.0) for one in (first, second)]
    error = SIGMAS * math.sqrt(squares[0] / size + squares[1] / other_size)
    if abs(first.moments[0] - second.moments[0]) > error + gap**2:
        return False
    return abs(first.neighbours - second.neighbours) <= SIGMAS * math.sqrt(1 / size + 1 / other_size)


def _structures_agree(first: Sample, second: Sample) -> bool:
    if first.discrete != second.discrete:
        return False
    counts = [(len(first.distinct), len(second.distinct)), *zip(first.lines, second.lines, strict=True)]
    if not all(max(pair) <= _LIKE * min(pair) for pair in counts):
        return False
    if not first.discrete:
        return True
    gap = _rounding(first, second)
    return len(first.distinct) == len(second.distinct) and bool(((first.distinct - second.distinct).abs() <= gap).all())


def _distributions_agree(first: Sample, second: Sample) -> bool:
    allowed = _KOLMOGOROV * math.sqrt(1 / first.size + 1 / second.size)
    return _distance(first, second) <= allowed and _ends_agree(first, second) and _ends_agree(second, first)


def _distance(first: Sample, second: Sample) -> float:
    """Return the largest difference between the two distribution functions."""
    gap = _rounding(first, second)
    places = first.ordered[:: max(1, len(first.ordered) // _GRID)] + gap
    below = [torch.searchsorted(one.ordered, places, right=True) / len(one.ordered) for one in (first, second)]
    return (below[0] - below[1]).abs().max().item()


def _ends_agree(inner: Sample, outer: Sample) -> bool:
    """Return whether no more of `outer` lies beyond `inner` than chance would have.

    That the k most extreme of two like samples all come from one has the probability (its share) ** k.
    """
    share = outer.size / (inner.size + outer.size)
    most = math.log(_ALPHA) / math.log(share) * len(outer.values) / outer.size
    gap = _rounding(inner, outer)
    above = (outer.ordered > inner.ordered[-1] + gap).sum().item()
    below = (outer.ordered < inner.ordered[0] - gap).sum().item()
    return max(above, below) <= most


def _rounding(first: Sample, second: Sample) -> float:
    """Return the distance at which two numbers of these samples may be the same number, rounded differently."""
    scale = max(first.largest, second.largest)
    dtype = first.tensor.dtype
    return scale * (4 * torch.finfo(dtype).eps if dtype.is_floating_point else 0.0)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
