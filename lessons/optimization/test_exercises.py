"""What each exercise of lesson 1 must do: one regime in each check, the smallest inputs first.

The checks of `init_` are statistical. Each of their 39 comparisons allows 5 standard errors, over 122 880 weights or
more, and so refuses a right answer with probability 6e-7: all together once in about 40 000 gradings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.grading import close, holds, raises, same
from lessons.optimization import probes

EXACT = 1e-12  # float64, after at most ten steps
SHAPES = [(), (1,), (0,), (2, 3), (2, 1, 3)]


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


# --------------------------------------------------------------------------- O1 sgd_momentum_step


def sgd(p: Tensor, gradients: list[Tensor], rates: list[float], **settings: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (p, buf) after each step of torch.optim.SGD."""
    weight = nn.Parameter(p.clone())
    optimizer = torch.optim.SGD([weight], lr=rates[0], **settings)
    for g, lr in zip(gradients, rates, strict=True):
        weight.grad, optimizer.param_groups[0]["lr"] = g, lr
        optimizer.step()
        yield weight.detach().clone(), optimizer.state[weight]["momentum_buffer"].clone()


def follow_sgd(
    learner: Any, p: Tensor, gradients: list[Tensor], rates: list[float], rtol: float | None = None, **settings: Any
) -> None:
    """Let the learner take these steps, each from where their own step before ended."""
    buf = None
    for number, expected in enumerate(sgd(p, gradients, rates, **settings), start=1):
        inputs = {"p": p, "g": gradients[number - 1], "buf": buf, "lr": rates[number - 1], **settings}
        got = learner.sgd_momentum_step(p, inputs["g"], buf, lr=inputs["lr"], **settings)
        scale = (p, (buf, inputs["g"]))
        close(got, expected, where=f"(p, buf) after step {number}", inputs=inputs, rtol=rtol, scale=scale)
        p, buf = got


@pytest.mark.exercise("sgd_momentum")
def test_sgd_first_step(learner, rng):
    """The first step, without a buffer, goes down the gradient and keeps the gradient as the buffer."""
    p, g = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([0.5, -4.0], dtype=torch.float64)
    inputs = {"p": p, "g": g, "buf": None, "lr": 0.25, "momentum": 0.9}
    got = learner.sgd_momentum_step(p, g, None, lr=0.25, momentum=0.9)
    expected = (torch.tensor([0.875, 3.0], dtype=torch.float64), g)
    close(got, expected, where="(p, buf)", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("sgd_momentum")
def test_sgd_coasts(learner, rng):
    """Where the gradient is zero, the buffer carries the parameter on."""
    p, buf = draw(rng, 3), draw(rng, 3)
    inputs = {"p": p, "g": torch.zeros_like(p), "buf": buf, "lr": 0.25, "momentum": 0.5}
    got = learner.sgd_momentum_step(p, inputs["g"], buf, lr=0.25, momentum=0.5)
    close(got, (p - 0.125 * buf, 0.5 * buf), where="(p, buf)", inputs=inputs, rtol=EXACT, scale=(p, buf))


@pytest.mark.exercise("sgd_momentum")
@pytest.mark.points(2)
@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_sgd_ten_steps(learner, rng, nesterov):
    """Ten steps in float64, with a rate that changes, follow torch.optim.SGD."""
    gradients, rates = [draw(rng, 4) for _ in range(10)], [0.3 / (1 + step) for step in range(10)]
    settings = {"momentum": 0.8, "nesterov": True} if nesterov else {"momentum": 0.8}
    follow_sgd(learner, draw(rng, 4), gradients, rates, EXACT, **settings)


@pytest.mark.exercise("sgd_momentum")
def test_sgd_any_shape(learner, rng):
    """Any shape works: a scalar, no elements at all, a transposed matrix."""
    for shape in SHAPES:
        p = draw(rng, *shape).mT if len(shape) > 1 else draw(rng, *shape)
        gradients = [torch.empty_like(p).copy_(draw(rng, *p.shape)) for _ in range(2)]
        follow_sgd(learner, p, gradients, [0.1, 0.1], EXACT, momentum=0.9, nesterov=True)


@pytest.mark.exercise("sgd_momentum")
def test_sgd_keeps_the_dtype(learner, rng):
    """float32 and bfloat16 go in, and come out again."""
    for dtype in (torch.float32, torch.bfloat16):
        gradients = [draw(rng, 5, dtype=dtype) for _ in range(2)]
        follow_sgd(learner, draw(rng, 5, dtype=dtype), gradients, [0.1, 0.1], momentum=0.9)


@pytest.mark.exercise("sgd_momentum")
def test_sgd_returns_new_memory(learner, rng):
    """What was returned stays as it is when the caller overwrites p and g."""
    p, g, later = draw(rng, 3), draw(rng, 3), draw(rng, 3)
    got = learner.run(probes.first_step_then_overwrite, p=p, g=g, later=later, lr=0.25, momentum=0.9)
    inputs = {"p": p, "g": g, "g is overwritten with": later}
    expected = (p - 0.25 * g, g)
    close(got, expected, where="(p, buf) after p and g were overwritten", inputs=inputs, rtol=EXACT, scale=(p, g))


# -------------------------------------------------------------------------------- O2 rmsprop_step


def rmsprop(p: Tensor, g: Tensor, v: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """Return (p, v) after one step of torch.optim.RMSprop from this state."""
    weight = nn.Parameter(p.clone())
    optimizer = torch.optim.RMSprop([weight], **settings)
    optimizer.state[weight] = {"step": torch.tensor(1.0), "square_avg": v.clone()}
    weight.grad = g
    optimizer.step()
    return weight.detach(), optimizer.state[weight]["square_avg"]


def one_rmsprop(learner: Any, p: Tensor, g: Tensor, v: Tensor, rtol: float | None = EXACT, **settings: Any) -> Any:
    """Let the learner take one step, check it, and return it."""
    got = learner.rmsprop_step(p, g, v, **settings)
    inputs = {"p": p, "g": g, "v": v, **settings}
    close(got, rmsprop(p, g, v, **settings), where="(p, v)", inputs=inputs, rtol=rtol, scale=(p, None))
    return got


@pytest.mark.exercise("rmsprop")
def test_rmsprop_first_step(learner, rng):
    """The first step, from v = 0 and with the default alpha and eps, follows the formula."""
    p, g = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([0.5, -4.0], dtype=torch.float64)
    one_rmsprop(learner, p, g, torch.zeros_like(p), lr=0.25)


@pytest.mark.exercise("rmsprop")
def test_rmsprop_zero_gradient(learner, rng):
    """A zero gradient moves nothing and divides nothing by zero, while v decays."""
    p, g = draw(rng, 3), torch.zeros(3, dtype=torch.float64)
    one_rmsprop(learner, p, g, draw(rng, 3).square(), lr=0.25, alpha=0.75)
    one_rmsprop(learner, p, g, torch.zeros_like(p), lr=0.25, alpha=0.75)


@pytest.mark.exercise("rmsprop")
@pytest.mark.points(2)
def test_rmsprop_ten_steps(learner, rng):
    """Ten steps in float64, first with one gradient and then with others, follow torch.optim.RMSprop."""
    p, g, v = draw(rng, 4), draw(rng, 4), torch.zeros(4, dtype=torch.float64)
    for step in range(10):
        p, v = one_rmsprop(learner, p, g, v, lr=0.1, alpha=0.8)
        g = g if step < 3 else draw(rng, 4)


@pytest.mark.exercise("rmsprop")
@pytest.mark.points(2)
def test_rmsprop_eps(learner, rng):
    """Where eps matters (a large eps; gradients near 1e-8), it is added to the root."""
    p, g, v = draw(rng, 3), draw(rng, 3), draw(rng, 3).square()
    one_rmsprop(learner, p, g, v, lr=0.1, eps=0.01)
    one_rmsprop(learner, p, 1e-8 * g, 1e-16 * v, lr=0.1)


@pytest.mark.exercise("rmsprop")
def test_rmsprop_each_element(learner, rng):
    """Each element has its own v: gradients of very different size still give steps of like size."""
    p, size = draw(rng, 3), torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    for element in range(3):  # alone, so that the comparison sees the small ones too
        one_rmsprop(learner, p[element], size[element], torch.zeros((), dtype=torch.float64), lr=0.1)
    one_rmsprop(learner, p, size, torch.zeros_like(p), lr=0.1)


@pytest.mark.exercise("rmsprop")
def test_rmsprop_any_shape_and_dtype(learner, rng):
    """Any shape and any floating dtype go in, and come out again."""
    for shape in SHAPES:
        p = draw(rng, *shape).mT if len(shape) > 1 else draw(rng, *shape)
        g, v = (torch.empty_like(p).copy_(draw(rng, *p.shape)) for _ in range(2))
        one_rmsprop(learner, p, g, v.square(), lr=0.1)
    for dtype in (torch.float32, torch.bfloat16):
        p, g, v = (draw(rng, 5, dtype=dtype) for _ in range(3))
        one_rmsprop(learner, p, g, v.square() + 1, rtol=None, lr=0.1, alpha=0.75)


# ---------------------------------------------------------------------------------- O3 adamw_step


def adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return (p, m, v) after step t of torch.optim.AdamW from this state."""
    weight = nn.Parameter(p.clone())
    optimizer = torch.optim.AdamW([weight], **settings)
    optimizer.state[weight] = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    weight.grad = g
    optimizer.step()
    state = optimizer.state[weight]
    return weight.detach(), state["exp_avg"], state["exp_avg_sq"]


def one_adamw(
    learner: Any,
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    *,
    rtol: float | None = EXACT,
    lr: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Any:
    """Let the learner take one step, check it, and return it."""
    settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    got = learner.adamw_step(p, g, m, v, t, **settings)
    inputs = {"p": p, "g": g, "m": m, "v": v, "t": t, **settings}
    expected, scale = adamw(p, g, m, v, t, **settings), (p, (m, g), None)
    close(got, expected, where=f"(p, m, v) after step {t}", inputs=inputs, rtol=rtol, scale=scale)
    return got


@pytest.mark.exercise("adamw")
def test_adamw_first_step(learner, rng):
    """The first step is about lr long, whatever the size of the gradient."""
    zero = torch.zeros((), dtype=torch.float64)
    for size in (1e-3, -1.0, 1e3):
        one_adamw(learner, zero + 1, zero + size, zero, zero, 1)


@pytest.mark.exercise("adamw")
def test_adamw_decays_without_gradient(learner, rng):
    """A zero gradient leaves the weight to decay by the factor 1 − lr · weight_decay."""
    p, zero = draw(rng, 3), torch.zeros(3, dtype=torch.float64)
    one_adamw(learner, p, zero, zero, zero, 1, weight_decay=0.5)


@pytest.mark.exercise("adamw")
@pytest.mark.points(2)
def test_adamw_ten_steps(learner, rng):
    """Ten steps in float64 with strong decay (lr · weight_decay = 0.05) follow torch.optim.AdamW."""
    p, m, v = draw(rng, 4), torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for t in range(1, 11):
        p, m, v = one_adamw(learner, p, draw(rng, 4), m, v, t, weight_decay=0.5)


@pytest.mark.exercise("adamw")
@pytest.mark.points(2)
def test_adamw_eps(learner, rng):
    """Where eps matters (a large eps; gradients near 1e-8), it is added to the root of the corrected v."""
    p, g, zero = draw(rng, 3), draw(rng, 3), torch.zeros(3, dtype=torch.float64)
    one_adamw(learner, p, g, zero, zero, 1, eps=0.01)
    one_adamw(learner, p, 1e-8 * g, zero, zero, 1)


@pytest.mark.exercise("adamw")
def test_adamw_counts_steps(learner, rng):
    """The corrections follow t: strong at step 1, almost gone at step 1000."""
    p, g, m, v = draw(rng, 3), draw(rng, 3), draw(rng, 3), draw(rng, 3).square()
    for t in (1, 2, 10, 1000):
        one_adamw(learner, p, g, m, v, t, betas=(0.8, 0.95))


@pytest.mark.exercise("adamw")
def test_adamw_any_shape_and_dtype(learner, rng):
    """Any shape and any floating dtype go in, and come out again."""
    for shape in SHAPES:
        p = draw(rng, *shape).mT if len(shape) > 1 else draw(rng, *shape)
        g, m, v = (torch.empty_like(p).copy_(draw(rng, *p.shape)) for _ in range(3))
        one_adamw(learner, p, g, m, v.square(), 3)
    for dtype in (torch.float32, torch.bfloat16):
        p, g, m, v = (draw(rng, 5, dtype=dtype) for _ in range(4))
        one_adamw(learner, p, g, m, v.square() + 1, 3, rtol=None)


# ------------------------------------------------------------------------------------- O4 MyAdamW

PYTORCH = SimpleNamespace(MyAdamW=torch.optim.AdamW, clip_by_global_norm_=nn.utils.clip_grad_norm_)
STRONG = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.5}


def follow_adamw(learner: Any, rtol: float | None = EXACT, **inputs: Any) -> None:
    """Compare the parameters after every step with those of torch.optim.AdamW."""
    got = learner.run(probes.adamw_steps, **inputs)
    expected = probes.adamw_steps(PYTORCH, **inputs)
    for number, (mine, theirs) in enumerate(zip(got, expected, strict=True), start=1):
        close(mine, theirs, where=f"parameters after step {number}", inputs=inputs, rtol=rtol, scale=1.0)


@pytest.mark.exercise("adamw_optimizer")
def test_optimizer_defaults(learner, rng):
    """Three steps with the default settings equal those of torch.optim.AdamW."""
    small = torch.tensor([1.0, 1e-8], dtype=torch.float64)
    gradients = [[draw(rng, 2) * small] for _ in range(3)]
    follow_adamw(learner, parameters=[draw(rng, 2)], gradients=gradients, settings={})


@pytest.mark.exercise("adamw_optimizer")
@pytest.mark.points(2)
def test_optimizer_groups(learner, rng):
    """Two groups with settings of their own are both trained, each by its own."""
    groups = [
        {"params": [0, 2], "lr": 0.3, "weight_decay": 0.0},
        {"params": [1], "betas": (0.5, 0.7), "eps": 0.1},
    ]
    parameters = [draw(rng, 1), draw(rng, 2), draw(rng, 1)]
    gradients = [[draw(rng, len(p)) for p in parameters] for _ in range(3)]
    follow_adamw(learner, parameters=parameters, gradients=gradients, settings=STRONG, groups=groups)


@pytest.mark.exercise("adamw_optimizer")
def test_optimizer_schedule(learner, rng):
    """A rate that is changed in `param_groups` counts from the next step on."""
    gradients = [[draw(rng, 2)] for _ in range(3)]
    follow_adamw(learner, parameters=[draw(rng, 2)], gradients=gradients, settings=STRONG, rates=[0.1, 0.4, 0.2])


@pytest.mark.exercise("adamw_optimizer")
@pytest.mark.points(2)
def test_optimizer_without_gradient(learner, rng):
    """A parameter without a gradient neither moves nor decays; the others do."""
    gradients = [[None, draw(rng, 1)] for _ in range(2)]
    follow_adamw(learner, parameters=[draw(rng, 1), draw(rng, 1)], gradients=gradients, settings=STRONG)


@pytest.mark.exercise("adamw_optimizer")
@pytest.mark.points(2)
def test_optimizer_late_parameter(learner, rng):
    """A parameter whose first gradient comes at step 3 starts at its own t = 1."""
    gradients = [[draw(rng, 1), draw(rng, 1) if step >= 3 else None] for step in (1, 2, 3, 4)]
    follow_adamw(learner, parameters=[draw(rng, 1), draw(rng, 1)], gradients=gradients, settings=STRONG)


@pytest.mark.exercise("adamw_optimizer")
@pytest.mark.points(2)
def test_optimizer_restart(learner, rng):
    """Saved after step 2 and loaded into a new optimizer, it goes on as if it had never stopped."""
    gradients = [[draw(rng, 2)] for _ in range(4)]
    follow_adamw(learner, parameters=[draw(rng, 2)], gradients=gradients, settings=STRONG, restart_after=2)


@pytest.mark.exercise("adamw_optimizer")
@pytest.mark.points(2)
@pytest.mark.parametrize("grad_enabled", [True, False], ids=["usual", "no_grad"])
def test_optimizer_closure(learner, rng, grad_enabled):
    """`step(closure=...)` runs the closure with gradients enabled, before the update, and returns its loss."""
    inputs = {"start": draw(rng, 2), "target": draw(rng, 2), "steps": 3, "settings": STRONG}
    inputs["grad_enabled"] = grad_enabled  # where `step` is called
    got = learner.run(probes.adamw_with_closure, **inputs)
    expected = probes.adamw_with_closure(PYTORCH, **inputs)
    close(got["p"], expected["p"], where="p after 3 steps", inputs=inputs, rtol=EXACT, scale=1.0)
    close(got["losses"], expected["losses"], where="what step returned", inputs=inputs, rtol=EXACT, scale=1.0)


@pytest.mark.exercise("adamw_optimizer")
def test_optimizer_in_place(learner, rng):
    """A parameter changes in its own memory, its gradient does not change."""
    inputs = {"start": draw(rng, 3), "gradient": draw(rng, 3), "settings": STRONG}
    got = learner.run(probes.adamw_with_alias, **inputs)
    expected = probes.adamw_with_alias(PYTORCH, **inputs)
    close(got["p"], expected["p"], where="the parameter", inputs=inputs, rtol=EXACT, scale=1.0)
    close(got["alias"], expected["p"], where="the parameter's former memory", inputs=inputs, rtol=EXACT, scale=1.0)
    close(got["gradient"], inputs["gradient"], where="the gradient after the step", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("adamw_optimizer")
def test_optimizer_any_shape_and_dtype(learner, rng):
    """Any shape works, and float32 parameters stay float32."""
    for dtype, rtol in ((torch.float64, EXACT), (torch.float32, None)):
        parameters = [draw(rng, *shape, dtype=dtype) for shape in SHAPES]
        gradients = [[draw(rng, *shape, dtype=dtype) for shape in SHAPES] for _ in range(2)]
        follow_adamw(learner, rtol=rtol, parameters=parameters, gradients=gradients, settings=STRONG)


# ---------------------------------------------------------------------------- O5 clip_by_global_norm_


def compare_clipping(learner: Any, gradients: list[Tensor | None], max_norm: float, once: bool = False) -> None:
    """Compare the norm and every gradient with those of torch.nn.utils.clip_grad_norm_."""
    inputs = {"gradients": gradients, "max_norm": max_norm}
    got = learner.run(probes.clipped, gradients=gradients, max_norm=max_norm, once=once)
    expected = probes.clipped(PYTORCH, gradients, max_norm)
    close(got["norm"], expected["norm"], where="the norm before clipping", inputs=inputs)
    close(got["gradients"], expected["gradients"], where="the gradients", inputs=inputs)


@pytest.mark.exercise("clip_gradients")
@pytest.mark.points(2)
def test_clip_is_global(learner, rng):
    """Gradients (3) and (4) have the norm 5 together; max_norm = 2.5 halves both."""
    compare_clipping(learner, [torch.tensor([side], dtype=torch.float64) for side in (3.0, 4.0)], 2.5)


@pytest.mark.exercise("clip_gradients")
@pytest.mark.points(2)
def test_clip_takes_an_iterator(learner, rng):
    """An iterator that can be walked only once, as model.parameters() is, works like a list."""
    compare_clipping(learner, [draw(rng, 3), draw(rng, 2, 2)], 0.05, once=True)


@pytest.mark.exercise("clip_gradients")
def test_clip_leaves_small_gradients(learner, rng):
    """Gradients shorter than max_norm stay as they are, and their norm is returned."""
    compare_clipping(learner, [draw(rng, 3), draw(rng, 2, 2)], 100.0)


@pytest.mark.exercise("clip_gradients")
@pytest.mark.points(2)
def test_clip_without_gradient(learner, rng):
    """Parameters without a gradient are passed over; with none at all the norm is a zero of shape ()."""
    compare_clipping(learner, [None, draw(rng, 3), None], 0.05)
    empties: list[list[Tensor | None]] = [[None, None], []]
    for gradients in empties:
        norm = learner.run(probes.clipped, gradients=gradients, max_norm=0.5)["norm"]
        zero = isinstance(norm, Tensor) and norm.shape == () and float(norm) == 0.0
        holds(zero, "the norm is a tensor 0 of shape ()", got=norm, inputs={"gradients": gradients})


@pytest.mark.exercise("clip_gradients")
def test_clip_zero_and_tiny(learner, rng):
    """A zero gradient stays zero, and beside a tiny norm the 1e-6 of the formula counts."""
    compare_clipping(learner, [torch.zeros(3, dtype=torch.float64)], 0.5)
    compare_clipping(learner, [torch.tensor([3e-6, 4e-6], dtype=torch.float64)], 3e-6)


@pytest.mark.exercise("clip_gradients")
def test_clip_huge_and_infinite(learner, rng):
    """Huge gradients are clipped like others; an infinite one makes the norm inf."""
    compare_clipping(learner, [1e15 * draw(rng, 3, dtype=torch.float32)], 0.5)
    infinite = [torch.tensor([1.0, math.inf])]
    norm = learner.run(probes.clipped, gradients=infinite, max_norm=0.5)["norm"]
    same(norm, torch.tensor(math.inf), where="the norm before clipping", inputs={"gradients": infinite})


@pytest.mark.exercise("clip_gradients")
def test_clip_in_place(learner, rng):
    """The tensors that were .grad before are the ones that are scaled."""
    inputs = {"gradients": [draw(rng, 3), draw(rng, 2)], "max_norm": 0.05}
    got, expected = learner.run(probes.clipped, **inputs), probes.clipped(PYTORCH, **inputs)
    close(got["memory"], expected["memory"], where="the former .grad tensors", inputs=inputs)


@pytest.mark.exercise("clip_gradients")
def test_clip_any_shape_and_dtype(learner, rng):
    """Gradients of any shape and of float32 or float64 are clipped, and the norm has their dtype."""
    for dtype in (torch.float32, torch.float64):
        gradients: list[Tensor | None] = [draw(rng, *shape, dtype=dtype) for shape in SHAPES]
        compare_clipping(learner, [*gradients, draw(rng, 3, 2, dtype=dtype).mT], 0.05)


# --------------------------------------------------------------------------------- O6 warmup_cosine


def climb_and_fall(base: float, low: float, warmup: int, total: int) -> list[float]:
    """Return the rates of steps 0 to total − 1: torch.linspace up, CosineAnnealingLR down."""
    climb = torch.linspace(0.0, base, warmup + 2, dtype=torch.float64)[1:-1].tolist()
    if warmup == total:
        return climb
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=low)
    fall = []
    for _ in range(total - warmup):
        fall.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return [*climb, *fall]


def compare_rates(learner: Any, name: str, expected: dict[int, float], **settings: Any) -> None:
    """Ask for the rate of each step, then compare step by step."""
    got = {step: getattr(learner, name)(step, **settings) for step in expected}
    for step, rate in expected.items():
        close(got[step], rate, where=f"the rate of step {step}", inputs={"step": step, **settings})


@pytest.mark.exercise("warmup_cosine")
def test_schedule_landmarks(learner, rng):
    """Step 0 already moves, step `warmup` is the peak, and half-way down is the middle."""
    expected = {0: 0.2, 3: 0.8, 4: 1.0, 8: 0.55}
    compare_rates(learner, "warmup_cosine", expected, base=1.0, min=0.1, warmup=4, total=12)


@pytest.mark.exercise("warmup_cosine")
@pytest.mark.points(2)
def test_schedule_whole_curve(learner, rng):
    """Every step of a schedule with other numbers follows the formula."""
    warmup = whole(rng, 2, 6)
    settings = {"base": 0.3, "min": 0.02, "warmup": warmup, "total": 2 * warmup + whole(rng, 1, 5)}
    expected = climb_and_fall(0.3, 0.02, warmup, settings["total"])
    compare_rates(learner, "warmup_cosine", dict(enumerate(expected)), **settings)


@pytest.mark.exercise("warmup_cosine")
def test_schedule_without_warmup(learner, rng):
    """With warmup = 0 the cosine starts at step 0."""
    total = whole(rng, 4, 9)
    expected = climb_and_fall(0.3, 0.02, 0, total)
    compare_rates(learner, "warmup_cosine", dict(enumerate(expected)), base=0.3, min=0.02, warmup=0, total=total)


@pytest.mark.exercise("warmup_cosine")
def test_schedule_only_warmup(learner, rng):
    """With warmup = total the climb lasts until the end, and then comes min."""
    total = whole(rng, 3, 6)
    expected = [*climb_and_fall(0.3, 0.02, total, total), 0.02]
    compare_rates(learner, "warmup_cosine", dict(enumerate(expected)), base=0.3, min=0.02, warmup=total, total=total)


@pytest.mark.exercise("warmup_cosine")
@pytest.mark.points(2)
def test_schedule_after_the_end(learner, rng):
    """From step `total` on the rate stays at min."""
    total = whole(rng, 6, 9)
    expected = dict.fromkeys([*range(total, total + 6), 10 * total], 0.02)
    compare_rates(learner, "warmup_cosine", expected, base=0.3, min=0.02, warmup=2, total=total)


# ----------------------------------------------------------------------------------------- O7 init_

SCHEMES = ["he_normal", "he_uniform", "xavier_normal", "xavier_uniform"]
LINEAR, CONVOLUTION = (1024, 128), (256, 32, 5, 3)
FANS = {LINEAR: (128, 1024), CONVOLUTION: (32 * 15, 256 * 15)}


def check_weights(weight: Tensor, scheme: str, shape: tuple[int, ...], inputs: dict[str, Any]) -> None:
    """Compare mean, variance and shape of the drawn weights with the scheme's, at 5 standard errors."""
    same(list(weight.shape), list(shape), where="the weight's shape", inputs=inputs)
    w, n = weight.double(), weight.numel()
    fan_in, fan_out = FANS[shape]
    variance = 2 / fan_in if scheme.startswith("he") else 2 / (fan_in + fan_out)
    std = math.sqrt(variance)
    normal = scheme.endswith("normal")
    # Standard error of a sample's variance: σ²·√((kurtosis − 1) / n), with kurtosis 3 (normal) or 1.8 (uniform).
    measured = w.var().item()
    holds(
        abs(measured / variance - 1) <= 5 * math.sqrt((2 if normal else 0.8) / n),
        "the variance of the weights is that of the scheme",
        got=measured,
        expected=variance,
        inputs=inputs,
    )
    holds(
        abs(w.mean().item()) <= 5 * std / math.sqrt(n),
        "the mean of the weights is zero",
        got=w.mean().item(),
        expected=0.0,
        inputs=inputs,
    )
    share = math.erf(1 / math.sqrt(2)) if normal else 1 / math.sqrt(3)
    inside = (w.abs() <= std).double().mean().item()
    holds(
        abs(inside - share) <= 5 * math.sqrt(share * (1 - share) / n),
        f"the weights are drawn from a {'normal' if normal else 'uniform'} distribution",
        got=f"{inside:.4f} of them within one standard deviation",
        expected=f"{share:.4f}",
        inputs=inputs,
    )


@pytest.mark.exercise("initialization")
@pytest.mark.statistical
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [LINEAR, CONVOLUTION], ids=["linear", "convolution"])
def test_init_distribution(learner, rng, shape, scheme):
    """Weights of a wide layer have the scheme's mean, variance and distribution."""
    inputs = {"scheme": scheme, "shapes": [shape], "seed": whole(rng, 0, 2**31)}
    check_weights(learner.run(probes.initialised, **inputs)["weights"][0], scheme, shape, inputs)


@pytest.mark.exercise("initialization")
@pytest.mark.statistical
def test_init_bias(learner, rng):
    """A bias becomes zero, and a layer without one works as well."""
    for bias in (True, False):
        inputs = {"scheme": "he_normal", "shapes": [LINEAR], "seed": whole(rng, 0, 2**31), "bias": bias}
        got = learner.run(probes.initialised, **inputs)
        zeros = [torch.zeros(LINEAR[0])] if bias else []
        same(got["biases"], zeros, where="the bias", inputs=inputs)
        check_weights(got["weights"][0], "he_normal", LINEAR, inputs)


@pytest.mark.exercise("initialization")
@pytest.mark.statistical
def test_init_draws_anew(learner, rng):
    """Two layers get different weights, and the same seed gives the same weights again."""
    inputs = {"scheme": "he_uniform", "shapes": [LINEAR, LINEAR], "seed": whole(rng, 0, 2**31), "dtype": "float64"}
    first, again = (learner.run(probes.initialised, **inputs)["weights"] for _ in range(2))
    check_weights(first[0], "he_uniform", LINEAR, inputs)
    holds(not torch.equal(first[0], first[1]), "two layers get different weights", inputs=inputs)
    same(again, first, where="the weights under the same seed", inputs=inputs)


@pytest.mark.exercise("initialization")
@pytest.mark.statistical
def test_init_leaves_the_rest(learner, rng):
    """Through model.apply only Linear and Conv2d change."""
    inputs = {"scheme": "he_normal", "shape": LINEAR, "seed": whole(rng, 0, 2**31)}
    got = learner.run(probes.applied, **inputs)
    check_weights(got["weight"], "he_normal", LINEAR, inputs)
    untouched = [torch.full((LINEAR[0],), 0.5)] * 2
    same(got["others"], untouched, where="weight and bias of the BatchNorm", inputs=inputs)


@pytest.mark.exercise("initialization")
@pytest.mark.statistical
def test_init_refuses_unknown_schemes(learner, rng):
    """A scheme that is none of the four raises a ValueError."""
    inputs = {"scheme": "he_normal", "shapes": [LINEAR], "seed": whole(rng, 0, 2**31)}
    check_weights(learner.run(probes.initialised, **inputs)["weights"][0], "he_normal", LINEAR, inputs)
    for scheme in ("he_gaussian", "kaiming_normal"):
        unknown = partial(learner.run, probes.initialised, **{**inputs, "scheme": scheme})
        raises(unknown, ValueError, where=f"the scheme {scheme!r}")


# ----------------------------------------------------------------------------- O8 train_accumulated


def micro_batches(rng: torch.Generator, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Draw micro-batches with so many rows: inputs (b, 3) and class numbers below 4."""
    return [(draw(rng, count, 3), torch.randint(4, (count,), generator=rng)) for count in rows]


def big_batches(
    weights: list[Tensor],
    batches: list[tuple[Tensor, Tensor]],
    k: int,
    lr: float,
    max_norm: float | None = None,
    rates: list[float] | None = None,
) -> dict[str, Any]:
    """Take the steps that accumulation must equal, on the groups put together."""
    model = probes.Network(weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for step, first in enumerate(range(0, len(batches), k)):
        inputs, targets = (torch.cat(part) for part in zip(*batches[first : first + k], strict=True))
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        optimizer.step()
        losses.append(loss.item())
    return {"weights": [model.inner.detach(), model.outer.detach()], "losses": losses}


def compare_training(learner: Any, rng: torch.Generator, rows: list[int], k: int, **settings: Any) -> Any:
    """Compare the weights after the pass with those of the big batches; return what came and what was expected."""
    inputs = {"weights": [draw(rng, 3, 5), draw(rng, 5, 4)], "batches": micro_batches(rng, rows), "k": k, "lr": 0.5}
    got = learner.run(probes.accumulated, **inputs, **settings)
    chosen = {name: settings[name] for name in ("max_norm", "rates") if name in settings}
    expected = big_batches(**inputs, **chosen)
    shown = {"rows of the micro-batches": rows, "k": k, "lr": 0.5, **settings}
    close(got["weights"], expected["weights"], where="the weights after the pass", inputs=shown, rtol=1e-10)
    return got, expected, shown


@pytest.mark.exercise("accumulation")
def test_accumulate_one_group(learner, rng):
    """Two equal micro-batches give the step of the big batch."""
    compare_training(learner, rng, [2, 2], k=2)


@pytest.mark.exercise("accumulation")
@pytest.mark.points(2)
def test_accumulate_unequal_rows(learner, rng):
    """Every row counts the same when the last micro-batch is shorter."""
    compare_training(learner, rng, [4, 4, 1], k=3)


@pytest.mark.exercise("accumulation")
@pytest.mark.points(2)
def test_accumulate_last_group(learner, rng):
    """The last group is a step too when it has fewer than k micro-batches."""
    compare_training(learner, rng, [2, 2, 2, 2], k=3)


@pytest.mark.exercise("accumulation")
def test_accumulate_several_groups(learner, rng):
    """No gradient leaks from one group into the next."""
    compare_training(learner, rng, [2, 3, 1, 2], k=2)


@pytest.mark.exercise("accumulation")
def test_accumulate_old_gradients(learner, rng):
    """Gradients that the parameters hold from before do not count."""
    compare_training(learner, rng, [2, 1], k=2, leftover=draw(rng, 3, 5))


@pytest.mark.exercise("accumulation")
def test_accumulate_takes_an_iterator(learner, rng):
    """An iterator that can be walked only once works like a list."""
    compare_training(learner, rng, [2, 3, 1], k=2, once=True)


@pytest.mark.exercise("accumulation")
@pytest.mark.points(2)
def test_accumulate_clips_once(learner, rng):
    """The gradient of the whole group is clipped, once."""
    compare_training(learner, rng, [2, 3, 2, 3], k=2, max_norm=0.05)


@pytest.mark.exercise("accumulation")
@pytest.mark.points(2)
def test_accumulate_schedule(learner, rng):
    """The schedule counts optimizer steps, and its rate holds for the step it names, in every parameter group."""
    rates = [0.1 * (1 + number) for number in range(12)]
    compare_training(learner, rng, [2, 3, 2, 3, 2], k=2, rates=rates)


@pytest.mark.exercise("accumulation")
def test_accumulate_losses(learner, rng):
    """Each step's loss is the mean over the rows of its group, before the step."""
    got, expected, shown = compare_training(learner, rng, [3, 1, 2], k=2)
    close(got["losses"], expected["losses"], where="the losses", inputs=shown, rtol=1e-10)


@pytest.mark.exercise("accumulation")
def test_accumulate_saves_memory(learner, rng):
    """The model sees one micro-batch at a time."""
    got, _, shown = compare_training(learner, rng, [3, 1, 2], k=2)
    same(got["rows"], [3, 1, 2], where="the rows of each forward pass", inputs=shown)


@pytest.mark.exercise("accumulation")
def test_cycle_landmarks(learner, rng):
    """The first rate is peak / 25, the top comes at pct_start · total − 1, the last is the first / 10⁴."""
    expected = {0: 0.04, 2: 0.52, 4: 1.0, 9: 4e-6}
    compare_rates(learner, "one_cycle", expected, peak=1.0, total=10, pct_start=0.5)


@pytest.mark.exercise("accumulation")
@pytest.mark.points(2)
def test_cycle_whole_curve(learner, rng):
    """Every step follows torch.optim.lr_scheduler.OneCycleLR, also where the top lies between two steps."""
    total = whole(rng, 11, 19)
    other = {"pct_start": 0.45, "div_factor": 10.0, "final_div_factor": 100.0}
    choices: list[dict[str, Any]] = [{}, other]
    for chosen in choices:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.8, total_steps=total, cycle_momentum=False, **chosen
        )
        expected = {}
        for step in range(total):
            expected[step] = float(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step < total - 1:
                scheduler.step()
        compare_rates(learner, "one_cycle", expected, peak=0.8, total=total, **chosen)


@pytest.mark.exercise("accumulation")
def test_cycle_after_the_end(learner, rng):
    """After the last step the rate stays at the last rate."""
    total = whole(rng, 8, 12)
    expected = dict.fromkeys([*range(total, total + 4), 10 * total], 0.5 / 25 / 1e4)
    compare_rates(learner, "one_cycle", expected, peak=0.5, total=total)
