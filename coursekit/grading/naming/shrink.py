"""The smallest input on which a function still fails, to be shown in place of the check's own.

Axes of one length are shortened together, in all tensors at once; then numbers become simple ones, such as 1, 0.5 and
2. Signs stay, what lies between 0 and 1 stays there, and no two numbers change their order: an input that the
exercise does not allow would tell the learner nothing. A smaller input counts only where the reference still
answers with finite numbers, and where the learner's code still fails in the same manner.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from coursekit.grading.differences import Tolerance, difference
from coursekit.grading.learner import Outcome, Request

CALLS = 40  # of the learner's code
SECONDS = 0.5  # wall time of the whole search

Ask = Callable[[Request, float], Outcome]  # a request, and the seconds that it may take
_Change = Callable[[Any], Any]  # of one leaf


@dataclass(frozen=True)
class Smaller:
    """A smaller request that still fails.

    Args:
        request: with the smaller input.
        got: what came of it.
        expected: what the reference gave.
        finished: whether every smaller one that is known was tried; False when the budget ran out before.
    """

    request: Request
    got: Outcome
    expected: Outcome
    finished: bool


def shrink(
    request: Request, learner: Ask, reference: Ask, *, calls: int = CALLS, seconds: float = SECONDS
) -> Smaller | None:
    """Return the smallest request that still fails, or None when there is no smaller one.

    Args:
        request: a `call` that fails.
        learner: does a request with the learner's code.
        reference: does it with the reference.
        calls: of the learner's code, at most.
        seconds: wall time, at most.
    """
    search = _Search(request, learner, reference, calls, time.perf_counter() + seconds)
    return search.run() if request.kind == "call" else None


def fault(got: Outcome, expected: Outcome) -> str:
    """Return the manner in which a result fails, in one word or two; empty when it does not, or cannot be judged."""
    if _stopped(expected) or expected.raised or expected.changed or not _finite(expected.value) or _stopped(got):
        return ""
    if got.raised:
        return f"raises {got.raised.kinds[0]}"
    if got.changed:
        return "changes an argument"
    if difference(got.value, expected.value, "", tolerance=Tolerance(), nan_equal=True) is None:
        return ""
    if _form(got.value) != _form(expected.value):
        return "form"
    return "value" if _finite(got.value) else "not finite"


class _Search:
    """Takes one smaller request after the other, and keeps those that still fail."""

    def __init__(self, request: Request, learner: Ask, reference: Ask, calls: int, until: float) -> None:
        self._request = request
        self._learner = learner
        self._reference = reference
        self._left = calls
        self._until = until
        self._fault = ""
        self._outcomes = (Outcome(), Outcome())
        self._tried: set[tuple[Any, ...]] = set()

    def run(self) -> Smaller | None:
        first = self._request
        self._fault = self._try(first)
        if not self._fault:
            return None
        for stage in (_shorter, _simpler, _shorter):
            self._walk(stage)
        if self._request is first:
            return None
        return Smaller(self._request, *self._outcomes, finished=self._within())

    def _walk(self, stage: Callable[[Request], Iterator[Request]]) -> None:
        """Take the first request of a stage that still fails, and begin again from there."""
        changed = True
        while changed:
            changed = False
            for smaller in stage(self._request):
                key = _key(smaller)
                if key in self._tried:
                    continue
                if not self._within():
                    return
                self._tried.add(key)
                if self._try(smaller) == self._fault:
                    self._request, changed = smaller, True
                    break

    def _within(self) -> bool:
        return self._left > 0 and time.perf_counter() < self._until

    def _try(self, request: Request) -> str:
        self._left -= 1
        expected = self._reference(request, self._seconds())
        if expected.raised or _stopped(expected):
            return ""
        got = self._learner(request, self._seconds())
        if _stopped(got):  # it may not answer again
            self._left = 0
        found = fault(got, expected)
        if found and found == (self._fault or found):
            self._outcomes = (got, expected)
        return found

    def _seconds(self) -> float:
        return max(self._until - time.perf_counter(), 0.01)


# ------------------------------------------------------------------------------------- shorter


def _shorter(request: Request) -> Iterator[Request]:
    """Yield requests with shorter axes and lists: all at once, then those of one length, the smallest first."""
    tensors = _leaves(request, Tensor)
    bound = {tensor.shape[axis] for tensor in tensors for axis in _axes_of_shares(tensor)}
    lengths = {size for tensor in tensors for size in tensor.shape if size > 1} - bound
    targets = [dict.fromkeys(lengths, 1)] if lengths else []
    targets += [{length: least} for length in lengths for least in {1, 2, length // 2} if least < length]
    smaller = [_mapped(request, lambda leaf, new=new: _narrowed(leaf, new)) for new in targets]
    yield from sorted(smaller, key=lambda one: sum(tensor.numel() for tensor in _leaves(one, Tensor)))
    longest = max((len(part) for part in _lists(request)), default=0)
    if longest > 1:
        yield _mapped(request, lambda leaf: leaf, most=longest // 2)


def _narrowed(leaf: Any, lengths: dict[int, int]) -> Any:
    """Return a tensor with other lengths where its own are among the keys; anything else as it is."""
    if type(leaf) is not Tensor:
        return leaf
    for axis, size in enumerate(leaf.shape):
        leaf = leaf.narrow(axis, 0, lengths.get(size, size))  # a view: what is not contiguous stays so
    return leaf


# ------------------------------------------------------------------------------------- simpler


def _simpler(request: Request) -> Iterator[Request]:
    """Yield requests with simpler numbers: in all tensors, in one; in all fractions, in one number."""
    tensors = [part for part in _leaves(request, Tensor) if _may_be_rounded(part)]
    for change in (_ones, _halves_and_twos, _rounded):
        for chosen in (tensors, *([part] for part in tensors if len(tensors) > 1)):
            if any(_roughness(change(part)) < _roughness(part) for part in chosen):
                ids = {id(part) for part in chosen}
                yield _mapped(request, lambda leaf, ids=ids, change=change: change(leaf) if id(leaf) in ids else leaf)
    numbers = _leaves(request, int, float)
    simplest = [_candidates(number)[:1] or [number] for number in numbers]
    if sum(new[0] != old for new, old in zip(simplest, numbers, strict=True)) > 1:
        yield from _renumbered(request, [new[0] for new in simplest])
    for place, number in enumerate(numbers):
        for candidate in _candidates(number):
            yield from _renumbered(request, [*numbers[:place], candidate, *numbers[place + 1 :]])


def _ones(tensor: Tensor) -> Tensor:
    return tensor.sign()


def _halves_and_twos(tensor: Tensor) -> Tensor:
    simple = torch.tensor([1.0, 0.5, 2.0], dtype=tensor.dtype)
    places = torch.arange(tensor.numel()).reshape(tensor.shape) % 3
    return tensor.sign() * simple[places]


def _rounded(tensor: Tensor) -> Tensor:
    """Round to one digit, and never to zero."""
    size = tensor.double().abs()
    unit = 10.0 ** size.clamp(min=1e-300).log10().floor()
    return torch.where(size > 0, tensor.double().sign() * (size / unit).round() * unit, 0.0).to(tensor.dtype)


def _roughness(tensor: Tensor) -> tuple[int, int]:
    """Return how many distinct sizes the elements have, and how long they are to write."""
    sizes = torch.unique(tensor.abs().double())
    return len(sizes), sum(len(f"{size:.6g}") for size in sizes[:16].tolist())


def _may_be_rounded(tensor: Tensor) -> bool:
    """Return whether a tensor holds free numbers: no class numbers, probabilities or symmetric matrices."""
    if not tensor.is_floating_point() or not tensor.numel() or not bool(torch.isfinite(tensor).all()):
        return False
    if tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1] > 1 and torch.equal(tensor, tensor.mT):
        return False
    return not _axes_of_shares(tensor)


def _axes_of_shares(tensor: Tensor) -> list[int]:
    """Return the axes along which the elements add up to one, as probabilities do."""
    if not tensor.is_floating_point() or tensor.numel() < 2 or bool((tensor < 0).any()):
        return []
    sums = [tensor.double().sum(axis) for axis in range(tensor.dim())]
    return [axis for axis, one in enumerate(sums) if tensor.shape[axis] > 1 and bool(((one - 1).abs() < 1e-3).all())]


def _candidates(number: float) -> list[int | float]:
    """Return simpler numbers of the same kind, sign and side of 1, the simplest first."""
    size = abs(number)
    if type(number) is int:
        found: list[int | float] = [new for new in (2, 3, size // 2, size - 1) if 1 < new < size]
    elif not math.isfinite(size) or size in (0.0, 1.0):
        found = []
    else:
        simple = [0.5, 0.25, 0.1, 0.9] if size < 1 else [2.0, 10.0]
        found = list(simple[: simple.index(size)] if size in simple else simple)
    return [int(math.copysign(new, number)) if type(number) is int else math.copysign(new, number) for new in found]


def _renumbered(request: Request, numbers: list[int | float]) -> Iterator[Request]:
    """Yield the request with these numbers, unless two would change their order."""
    before = _leaves(request, int, float)
    for first, old in enumerate(before):
        for second, other in enumerate(before):
            if type(old) is type(other) and old < other and numbers[first] > numbers[second]:
                return
    left = iter(numbers)
    yield _mapped(request, lambda leaf: next(left) if type(leaf) in (int, float) else leaf)


# -------------------------------------------------------------------------------------- values


def _stopped(outcome: Outcome) -> bool:
    return outcome.timed_out or bool(outcome.ended)


def _leaves(request: Request, *kinds: type) -> list[Any]:
    found: list[Any] = []
    _mapped(request, lambda leaf: (found.append(leaf) if type(leaf) in kinds else None, leaf)[1])
    return found


def _lists(request: Request) -> Iterator[list[Any]]:
    waiting: list[Any] = [request.args, request.kwargs]
    while waiting:
        part = waiting.pop()
        if type(part) is list:
            yield part
        if isinstance(part, list | tuple | dict):
            waiting += part.values() if isinstance(part, dict) else part


def _mapped(request: Request, change: _Change, most: int | None = None) -> Request:
    """Return the request with every leaf changed; `most` cuts lists to this length."""

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(part) for part in value[:most]]
        if isinstance(value, tuple):
            return tuple([walk(part) for part in value])
        if isinstance(value, dict):
            return {key: walk(part) for key, part in value.items()}
        return change(value)

    return replace(request, args=walk(request.args), kwargs=walk(request.kwargs))


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, list | tuple | dict):
        return all(_finite(part) for part in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _form(value: Any) -> Any:
    """Return types, shapes and dtypes without the numbers."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype, value.device)
    if isinstance(value, list | tuple):
        return (type(value), [_form(part) for part in value])
    if isinstance(value, dict):
        return (dict, {key: _form(part) for key, part in value.items()})
    return float if type(value) is int else type(value)


def _key(request: Request) -> tuple[Any, ...]:
    """Return what tells two requests of one search apart, without keeping their tensors."""
    found: list[Any] = []
    for leaf in _leaves(request, Tensor, int, float):
        tensor = leaf.to(torch.complex128).abs() if isinstance(leaf, Tensor) else None
        found.append(leaf if tensor is None else (tuple(leaf.shape), tensor.sum().item(), tensor.square().sum().item()))
    return tuple(found)
