"""The smallest input that still fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from coursekit.grading.learner import Outcome, Raised, Request
from coursekit.grading.naming.shrink import CALLS, Ask, fault, shrink

RNG = torch.Generator().manual_seed(0)
LARGE = torch.randn(4, 3, generator=RNG)


def asking(code: Callable[..., Any]) -> Ask:
    """Return a bench's answer to requests, and count them."""

    def ask(request: Request, seconds: float) -> Outcome:
        vars(ask)["calls"] = vars(ask).get("calls", 0) + 1
        try:
            return Outcome(code(*request.args, **request.kwargs))
        except Exception as error:
            return Outcome(raised=Raised((f"builtins.{type(error).__name__}",), str(error), "", stub=False))

    return ask


def smallest(wrong: Callable[..., Any], right: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return the smallest request in words, or why there is none."""
    found = shrink(Request("call", "f", args, kwargs), asking(wrong), asking(right))
    if found is None:
        return "none"
    assert found.finished
    assert fault(found.got, found.expected)
    return str(found.request)


@pytest.mark.parametrize(
    ("wrong", "right", "args", "kwargs", "expected"),
    [
        pytest.param(lambda x: 3 * x, lambda x: 2 * x, (LARGE.abs(),), {}, "f(tensor([[1]]))", id="one number"),
        pytest.param(lambda x: x.abs(), lambda x: x, (-LARGE.abs(),), {}, "f(tensor([[-1]]))", id="signs stay"),
        pytest.param(
            lambda x: x.flip(0), lambda x: x, (LARGE.abs(),), {}, "f(tensor([[1], [0.5]]))", id="two that differ"
        ),
        pytest.param(
            lambda p, g, lr: p + lr * g,
            lambda p, g, lr: p - lr * g,
            (LARGE.abs(), LARGE.abs().flip(0)),
            {"lr": 0.037},
            "f(tensor([[1]]), tensor([[1]]), lr=0.5)",
            id="tensors together",
        ),
        pytest.param(
            lambda a, b: (a @ b).mT.mT + 1,
            lambda a, b: a @ b,
            (torch.ones(2, 5), torch.ones(5, 3)),
            {},
            "f(tensor([[1]]), tensor([[1]]))",
            id="axes of one length",
        ),
        pytest.param(
            lambda x: x.sum(0), lambda x: x.sum(0, keepdim=True), (LARGE,), {}, "f(tensor([[1]]))", id="a shape"
        ),
        pytest.param(lambda x: x.double(), lambda x: x, (LARGE.abs(),), {}, "f(tensor([[1]]))", id="a dtype"),
        pytest.param(lambda x: x[7], lambda x: x, (LARGE.abs(),), {}, "f(tensor([[1]]))", id="an error"),
        pytest.param(lambda x: x / 0, lambda x: x, (LARGE.abs(),), {}, "f(tensor([[1]]))", id="not finite"),
        pytest.param(lambda n: n + 1, lambda n: n, (57,), {}, "f(2)", id="a whole number"),
        pytest.param(lambda x: -x, lambda x: x, (0.037,), {}, "f(0.5)", id="a fraction stays one"),
        pytest.param(lambda x: -x, lambda x: x, (-31.7,), {}, "f(-2.0)", id="above 1 stays there"),
        pytest.param(
            lambda n, low, high: n + 1, lambda n, low, high: n, (12, 5, 40), {}, "f(2, 2, 2)", id="order stays"
        ),
        pytest.param(
            lambda xs: sum(xs), lambda xs: 2 * sum(xs), ([LARGE.abs()] * 5,), {}, "f([tensor([[1]])])", id="a list"
        ),
        pytest.param(
            lambda x, betas: x * betas[0],
            lambda x, betas: x * betas[1],
            (LARGE.abs(), (0.9, 0.999)),
            {},
            "f(tensor([[1]]), (0.5, 0.9))",
            id="a tuple",
        ),
    ],
)
def test_smaller_inputs(wrong, right, args, kwargs, expected):
    shown = smallest(wrong, right, *args, **kwargs)
    assert shown.replace("-1]])", "1]])") == expected.replace("-1]])", "1]])")


def test_signs_are_those_of_the_check():
    assert smallest(lambda x: 3 * x, lambda x: 2 * x, -LARGE.abs()) == "f(tensor([[-1]]))"


@pytest.mark.parametrize(
    ("wrong", "right", "args"),
    [
        pytest.param(lambda x: 2 * x, lambda x: 2 * x, (LARGE,), id="no failure"),
        pytest.param(lambda x: 3 * x, lambda x: 2 * x, (torch.ones(1),), id="already small"),
        pytest.param(lambda x: 3 * x, lambda x: x / 0, (LARGE,), id="reference not finite"),
        pytest.param(lambda x: 3 * x, lambda x: x[9], (LARGE,), id="reference raises"),
    ],
)
def test_where_nothing_is_smaller(wrong, right, args):
    assert smallest(wrong, right, *args) == "none"


def test_only_calls_are_shrunk():
    assert shrink(Request("run", "f", (LARGE,)), asking(lambda x: 3 * x), asking(lambda x: x)) is None


def test_the_manner_of_failing_stays():
    """It fails with a shape for two rows, and with a value for one: what is shown has the check's own fault."""
    found = shrink(
        Request("call", "f", (LARGE.abs(),)), asking(lambda x: x[:1] if len(x) > 1 else 3 * x), asking(lambda x: x)
    )
    assert found
    assert tuple(found.request.args[0].shape) == (2, 1)


def test_a_symmetric_matrix_stays_symmetric():
    tensor = torch.tensor([[2.3, 0.7], [0.7, 1.9]])
    found = shrink(Request("call", "f", (tensor, 7)), asking(lambda x, n: n + len(x) // 2), asking(lambda x, n: n))
    assert found
    assert torch.equal(found.request.args[0], tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.7, 0.3]]),
        torch.tensor([5, 3, 8]),
        torch.tensor([True, False, True]),
    ],
    ids=["probabilities", "class numbers", "mask"],
)
def test_numbers_that_are_bound_stay(tensor):
    """They may be fewer, but no others."""
    found = shrink(Request("call", "f", (tensor, 7)), asking(lambda x, n: n + 1), asking(lambda x, n: n))
    assert found
    kept = found.request.args[0]
    assert torch.equal(kept, tensor[tuple(slice(size) for size in kept.shape)])


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int8, torch.uint8, torch.bool],
    ids=str,
)
def test_every_dtype(dtype):
    tensor = (4 * LARGE.abs()).to(dtype)
    found = shrink(Request("call", "f", (tensor,)), asking(lambda x: x.to(torch.float32)[0]), asking(lambda x: x))
    if dtype is torch.complex64:
        assert found is None or found.request.args[0].dtype is dtype
    else:
        assert found
        assert (found.request.args[0].dtype, found.request.args[0].numel()) == (dtype, 1)


def test_memory_that_is_not_contiguous_stays_so():
    wrong = asking(lambda x: x if x.is_contiguous() else x + 1)
    found = shrink(Request("call", "f", (LARGE.mT,)), wrong, asking(lambda x: x))
    assert found
    assert not found.request.args[0].is_contiguous()


def test_a_changed_argument_is_a_fault():
    assert fault(Outcome(1.0, changed=("argument 1",)), Outcome(1.0)) == "changes an argument"
    assert fault(Outcome(2.0), Outcome(1.0, changed=("argument 1",))) == ""


def test_code_that_stops_is_not_asked_again():
    calls = 0

    def stops(request: Request, seconds: float) -> Outcome:
        nonlocal calls
        calls += 1
        return Outcome(request.args[0] * 3) if calls == 1 else Outcome(timed_out=True, seconds=seconds)

    assert shrink(Request("call", "f", (LARGE,)), stops, asking(lambda x: x)) is None
    assert calls == 2


def test_the_budget_holds():
    """Whatever remains when it is over is shown as smaller, and not as the smallest."""
    numbers = tuple(range(1000, 1100))
    learner = asking(lambda *given: sum(given) + (min(given) >= 500))
    found = shrink(Request("call", "f", numbers), learner, asking(lambda *given: sum(given)))
    assert found
    assert not found.finished
    assert vars(learner)["calls"] <= CALLS

    def slow(request: Request, seconds: float) -> Outcome:
        time.sleep(min(0.1, seconds))
        return Outcome(sum(request.args) + (min(request.args) >= 500))

    started = time.perf_counter()
    found = shrink(Request("call", "f", numbers), slow, asking(lambda *given: sum(given)))
    assert time.perf_counter() - started < 1.5
    assert found
    assert not found.finished
