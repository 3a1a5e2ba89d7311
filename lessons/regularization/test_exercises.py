"""What each exercise of lesson 2 must do: one regime in each check, the smallest inputs first.

The checks of dropout, mixup and cutmix are statistical. Each comparison allows 5 standard errors, or has a bound in
closed form that a right answer crosses as rarely, with probability 6e-7 at most. A grading makes about 60 of them, and
so refuses a right answer once in about 29,000 gradings.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.grading import close, holds, raises, same
from lessons.regularization import probes

EXACT = 1e-12  # float64, after a few operations
SHAPES = [(), (1,), (0,), (2, 3), (2, 1, 3)]
ALARM = math.erfc(5 / math.sqrt(2))  # of a comparison at 5 standard errors, both sides: 5.7e-7


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def seed_of(rng: torch.Generator) -> int:
    """Draw a seed."""
    return whole(rng, 0, 2**31)


# ------------------------------------------------------------------------------------- R1 dropout


def mask_of(got: dict[str, Any], call: int, x: Tensor, p: float, inputs: dict[str, Any]) -> Tensor:
    """Check that every element of one call was dropped or scaled, and so its gradient; return what stayed."""
    output, gradient = got["outputs"][call], got["gradients"][call]
    # No element of x is 0, so what is 0 was dropped.
    stays = output != 0 if isinstance(output, Tensor) and output.shape == x.shape else torch.ones_like(x).bool()
    expected = torch.where(stays, x / (1 - p), torch.zeros_like(x))
    where = f"the output of call {call + 1}"
    close(output, expected, where=where, inputs=inputs)
    factor = torch.where(stays, torch.full_like(x, 1 / (1 - p)), torch.zeros_like(x))
    close(gradient, factor, where=f"{where}, its gradient by x", inputs=inputs)
    return stays


def check_share(stays: Tensor, p: float, inputs: dict[str, Any]) -> None:
    """Compare the share of elements that stayed with 1 − p, at 5 standard errors."""
    share = stays.double().mean().item()
    holds(
        abs(share - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / stays.numel()),
        "each element stays with probability 1 − p",
        got=f"{share:.4f} of them stay",
        expected=f"{1 - p:.4f}",
        inputs=inputs,
    )


def nonzero(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw numbers between 1 and 2 with either sign."""
    size = 1 + torch.rand(shape, generator=rng, dtype=torch.float64)
    sign = torch.randint(2, shape, generator=rng) * 2 - 1
    return (size * sign).to(dtype)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
@pytest.mark.points(2)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_dropout_drops_and_scales(learner, rng, p):
    """A share of p is dropped, the others are divided by 1 − p, and so are their gradients."""
    x = torch.full((400, 400), 2.0, dtype=torch.float64)
    inputs = {"x": x, "p": p, "seed": seed_of(rng)}
    got = learner.run(probes.dropped, **inputs)
    check_share(mask_of(got, 0, x, p, inputs), p, inputs)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
def test_dropout_draws_for_each_element(learner, rng):
    """Every element has a draw of its own: no row and no column is dropped together."""
    x = nonzero(rng, 200, 300)
    inputs = {"x": x, "p": 0.5, "seed": seed_of(rng)}
    stays = mask_of(learner.run(probes.dropped, **inputs), 0, x, 0.5, inputs)
    check_share(stays, 0.5, inputs)
    for axis, name in ((0, "column"), (1, "row")):
        signs = 2 * stays.double() - 1
        sums = signs.sum(axis).square() / x.shape[axis]
        # Sums of independent signs have tails no heavier than the normal ones: Laurent & Massart's bound on χ².
        count, t = len(sums), -math.log(ALARM)
        holds(
            sums.sum().item() <= count + 2 * math.sqrt(count * t) + 2 * t,
            f"the elements of one {name} are dropped independently",
            got=f"their numbers that stay scatter {sums.mean().sqrt().item():.2f} times as much",
            inputs=inputs,
        )


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
@pytest.mark.points(2)
def test_dropout_in_use(learner, rng):
    """After training, dropout changes nothing: the output is x, its gradient 1."""
    x = nonzero(rng, 40, 50)
    inputs = {"x": x, "p": 0.5, "seed": seed_of(rng), "calls": (True, False)}
    got = learner.run(probes.dropped, **inputs)
    check_share(mask_of(got, 0, x, 0.5, inputs), 0.5, inputs)
    same(got["outputs"][1], x, where="the output with training=False", inputs=inputs)
    same(got["gradients"][1], torch.ones_like(x), where="its gradient by x", inputs=inputs)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
def test_dropout_all_or_nothing(learner, rng):
    """p = 1 gives zeros with zero gradients, p = 0 gives x."""
    x = nonzero(rng, 10, 10)
    for p, factor in ((1.0, 0.0), (0.0, 1.0)):
        inputs = {"x": x, "p": p, "seed": seed_of(rng)}
        got = learner.run(probes.dropped, **inputs)
        close(got["outputs"][0], factor * x, where="the output", inputs=inputs)
        close(got["gradients"][0], torch.full_like(x, factor), where="its gradient by x", inputs=inputs)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
def test_dropout_draws_from_the_generator(learner, rng):
    """Each call draws anew, from the generator alone: the same seed gives the same masks again."""
    x = nonzero(rng, 40, 50)
    for own_generator in (True, False):
        inputs = {"x": x, "p": 0.5, "seed": seed_of(rng), "calls": (True, True), "own_generator": own_generator}
        first, again = (learner.run(probes.dropped, **inputs) for _ in range(2))
        other = learner.run(probes.dropped, **{**inputs, "seed": inputs["seed"] + 1})
        masks = [mask_of(first, call, x, 0.5, inputs) for call in range(2)]
        for mask in masks:
            check_share(mask, 0.5, inputs)
        masks.append(mask_of(other, 0, x, 0.5, inputs))
        for one, two, says in ((0, 1, "two calls drop independently"), (0, 2, "two seeds drop independently")):
            agree = (masks[one] == masks[two]).double().mean().item()
            bound = 2.5 / math.sqrt(x.numel())
            holds(abs(agree - 0.5) <= bound, says, got=f"{agree:.4f} of the draws agree", inputs=inputs)
        same(again["outputs"], first["outputs"], where="the outputs under the same seed", inputs=inputs)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
def test_dropout_any_shape_and_dtype(learner, rng):
    """Any shape and floating dtype go in and come out again, a transposed matrix and no elements among them."""
    inputs: dict[str, Any]
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in SHAPES:
            x = nonzero(rng, *shape, dtype=dtype)
            inputs = {"x": x, "p": 0.25, "seed": seed_of(rng)}
            mask_of(learner.run(probes.dropped, **inputs), 0, x, 0.25, inputs)
        x = nonzero(rng, 60, 80, dtype=dtype).mT
        inputs = {"x": x, "p": 0.25, "seed": seed_of(rng)}
        check_share(mask_of(learner.run(probes.dropped, **inputs), 0, x, 0.25, inputs), 0.25, inputs)


@pytest.mark.exercise("dropout")
@pytest.mark.statistical
def test_dropout_refuses_other_p(learner, rng):
    """A p outside [0, 1] raises a ValueError."""
    x = nonzero(rng, 20, 20)
    inputs = {"x": x, "p": 0.5, "seed": seed_of(rng)}
    check_share(mask_of(learner.run(probes.dropped, **inputs), 0, x, 0.5, inputs), 0.5, inputs)
    for p in (-0.25, 1.25):
        refused = {**inputs, "p": p}
        raises(
            lambda refused=refused: learner.run(probes.dropped, **refused), ValueError, where=f"dropout with p = {p}"
        )


# ---------------------------------------------------------------------------------- R2 batch_norm


def pytorch_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Call PyTorch's with the arguments in our order."""
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


BATCH_NORM = SimpleNamespace(batch_norm=pytorch_batch_norm)


def batch_norm_inputs(rng: torch.Generator, channels: int, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Draw weight, bias and running statistics."""
    return {
        "weight": draw(rng, channels, dtype=dtype),
        "bias": draw(rng, channels, dtype=dtype),
        "running_mean": draw(rng, channels, dtype=dtype),
        "running_var": 0.5 + draw(rng, channels, dtype=dtype).square(),
    }


def follow_batch_norm(learner: Any, rtol: float | None = 1e-10, **inputs: Any) -> None:
    """Compare outputs, running statistics and gradients of every call with PyTorch's."""
    got = learner.run(probes.batch_normed, **inputs)
    expected = probes.batch_normed(BATCH_NORM, **inputs)
    for call, theirs in enumerate(expected):
        mine = got[call]
        kind = "training" if inputs["training"][call] else "use"
        shown, told = {"x": inputs["batches"][call], **_settings(inputs)}, f"call {call + 1} ({kind})"
        scale = (inputs["weight"], inputs["bias"])
        close(mine["output"], theirs["output"], where=f"output of {told}", inputs=shown, rtol=rtol, scale=scale)
        where = f"(running_mean, running_var) after {told}"
        close(mine["running"], theirs["running"], where=where, inputs=shown, rtol=rtol, scale=inputs["batches"][call])
        same(mine["x"], inputs["batches"][call], where=f"x after {told}", inputs=shown)
        where = "whether (running_mean, running_var) ask for gradients"
        same(mine["asks"], [False, False], where=f"{where} after {told}", inputs=shown)
        if "gradients" in theirs:
            where = f"gradients by (x, weight, bias) of {told}"
            size = inputs["cotangents"][call]
            close(mine["gradients"], theirs["gradients"], where=where, inputs=shown, rtol=rtol, scale=size)


def _settings(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: inputs[name]
        for name in ("weight", "bias", "running_mean", "running_var", "settings")
        if inputs.get(name) is not None
    }


@pytest.mark.exercise("batch_norm")
def test_batch_norm_first_batch(learner, rng):
    """One channel, the values 1 and 3: mean 2, variance 1 to divide by, variance 2 to remember."""
    one = torch.ones(1, dtype=torch.float64)
    follow_batch_norm(
        learner,
        batches=[torch.tensor([[1.0], [3.0]], dtype=torch.float64)],
        training=[True],
        weight=2 * one,
        bias=one,
        running_mean=0 * one,
        running_var=one,
    )


@pytest.mark.exercise("batch_norm")
@pytest.mark.points(2)
def test_batch_norm_trains_then_is_used(learner, rng):
    """Two training batches and two in use, of (b, c) features; the running statistics move only in training."""
    batches = [1 + 2 * draw(rng, size, 3) for size in (5, 4, 6, 1)]
    follow_batch_norm(learner, batches=batches, training=[True, True, False, False], **batch_norm_inputs(rng, 3))


@pytest.mark.exercise("batch_norm")
@pytest.mark.points(2)
def test_batch_norm_images(learner, rng):
    """Images (b, c, height, width) share their statistics over rows, columns and the batch."""
    batches = [1 + 2 * draw(rng, *shape) for shape in ((3, 2, 4, 5), (1, 2, 3, 3), (2, 2, 4, 5))]
    follow_batch_norm(learner, batches=batches, training=[True, True, False], **batch_norm_inputs(rng, 2))


@pytest.mark.exercise("batch_norm")
@pytest.mark.points(2)
def test_batch_norm_in_use(learner, rng):
    """In use every sample is treated alone, by the running statistics: one row, no row, and a far-off row."""
    batches = [draw(rng, 1, 3), draw(rng, 0, 3), 100 + draw(rng, 4, 3)]
    follow_batch_norm(learner, batches=batches, training=[False] * 3, **batch_norm_inputs(rng, 3))


@pytest.mark.exercise("batch_norm")
@pytest.mark.points(2)
@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 4, 5)], ids=["features", "images"])
def test_batch_norm_gradients(learner, rng, shape):
    """Gradients by x, weight and bias are right, through mean and variance; statistics keep no graph."""
    batches = [draw(rng, *shape) for _ in range(3)]
    cotangents = [draw(rng, *shape) for _ in range(3)]
    inputs = batch_norm_inputs(rng, shape[1])
    follow_batch_norm(learner, batches=batches, training=[True, True, False], cotangents=cotangents, **inputs)


@pytest.mark.exercise("batch_norm")
def test_batch_norm_settings(learner, rng):
    """Another momentum and a large eps count; a channel whose values are all equal becomes its bias."""
    batches = [draw(rng, 5, 3) for _ in range(3)]
    batches[0][:, 1] = 0.5
    settings = {"momentum": 0.25, "eps": 0.5}
    inputs = batch_norm_inputs(rng, 3)
    follow_batch_norm(learner, batches=batches, training=[True, True, False], settings=settings, **inputs)


@pytest.mark.exercise("batch_norm")
def test_batch_norm_needs_two_values(learner, rng):
    """In training, one value for each channel raises a ValueError; in use it is fine."""
    for shape in ((1, 3), (1, 3, 1, 1)):
        inputs = {"batches": [draw(rng, *shape)], **batch_norm_inputs(rng, 3)}
        follow_batch_norm(learner, training=[False], **inputs)
        where = f"batch_norm in training, with x of shape {shape}"
        raises(
            lambda inputs=inputs: learner.run(probes.batch_normed, training=[True], **inputs), ValueError, where=where
        )


@pytest.mark.exercise("batch_norm")
def test_batch_norm_any_layout_and_dtype(learner, rng):
    """float32 comes out as float32, and tensors that are not contiguous work."""
    for dtype, rtol in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        inputs = batch_norm_inputs(rng, 3, dtype)
        rows = [draw(rng, 3, 5, dtype=dtype).mT for _ in range(2)]
        follow_batch_norm(learner, rtol, batches=rows, training=[True, False], **inputs)
        image = draw(rng, 2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)
        follow_batch_norm(learner, rtol, batches=[image, image.transpose(2, 3)], training=[True, False], **inputs)


# ---------------------------------------------------------------------------------- R3 layer_norm


def compare_layer_norm(
    learner: Any, x: Tensor, shape: tuple[int, ...], weight: Tensor, bias: Tensor, rtol: float = 1e-10, **settings: Any
) -> None:
    """Compare the output with PyTorch's."""
    got = learner.layer_norm(x, shape, weight, bias, **settings)
    expected = F.layer_norm(x, shape, weight, bias, **settings)
    close(got, expected, where="layer_norm", rtol=rtol, scale=(weight, bias))


@pytest.mark.exercise("layer_norm")
def test_layer_norm_one_row(learner, rng):
    """The row (1, 3) has mean 2 and variance 1, and becomes (−1, 1) times weight plus bias."""
    x, weight, bias = (torch.tensor(row, dtype=torch.float64) for row in ([[1.0, 3.0]], [2.0, 5.0], [1.0, 0.0]))
    compare_layer_norm(learner, x, (2,), weight, bias)


@pytest.mark.exercise("layer_norm")
@pytest.mark.points(2)
def test_layer_norm_last_axis(learner, rng):
    """Rows of (b, d), of (b, t, d) and of (d,), each with statistics of its own."""
    for shape in ((4, 4), (1, 4), (0, 4), (4,), (2, 3, 4)):
        compare_layer_norm(learner, 1 + 2 * draw(rng, *shape), (4,), draw(rng, 4), draw(rng, 4))


@pytest.mark.exercise("layer_norm")
@pytest.mark.points(2)
def test_layer_norm_several_axes(learner, rng):
    """Two and three last axes at once, with a weight and a bias of their shape."""
    for shape, leading in (((3, 3), (3,)), ((2, 4), (2, 3)), ((2, 4), ()), ((2, 3, 4), (2,))):
        compare_layer_norm(learner, 1 + 2 * draw(rng, *leading, *shape), shape, draw(rng, *shape), draw(rng, *shape))


@pytest.mark.exercise("layer_norm")
def test_layer_norm_eps(learner, rng):
    """A large eps counts inside the root, and a row of equal values becomes the bias."""
    x = draw(rng, 4, 5)
    x[1] = 0.5
    compare_layer_norm(learner, x, (5,), draw(rng, 5), draw(rng, 5), eps=0.5)
    compare_layer_norm(learner, 1e-3 * draw(rng, 4, 5), (5,), draw(rng, 5), draw(rng, 5))


@pytest.mark.exercise("layer_norm")
@pytest.mark.points(2)
def test_layer_norm_autograd(learner, rng):
    """Autograd finds the right gradients by x, weight and bias: mean and variance are part of the graph."""
    for shape, leading in (((4,), (3,)), ((2, 3), (2,))):
        x, weight, bias = draw(rng, *leading, *shape), draw(rng, *shape), draw(rng, *shape)
        inputs = {"x": x, "normalized_shape": shape, "weight": weight, "bias": bias}
        _, got = learner.gradients("layer_norm", x, shape, weight, bias, wrt=(0, 2, 3))
        parts = [part.clone().requires_grad_() for part in (x, weight, bias)]
        output = F.layer_norm(parts[0], shape, parts[1], parts[2])
        expected = torch.autograd.grad(output.sum(), parts)
        where = "gradients of the sum by (x, weight, bias)"
        close(got, expected, where=where, inputs=inputs, rtol=1e-10, scale=weight)


@pytest.mark.exercise("layer_norm")
def test_layer_norm_any_layout_and_dtype(learner, rng):
    """float32 comes out as float32, and tensors that are not contiguous work."""
    for dtype, rtol in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        weight, bias = draw(rng, 4, dtype=dtype), draw(rng, 4, dtype=dtype)
        compare_layer_norm(learner, draw(rng, 4, 5, dtype=dtype).mT, (4,), weight, bias, rtol)
        compare_layer_norm(learner, draw(rng, 4, 3, 2, dtype=dtype).permute(2, 1, 0), (4,), weight, bias, rtol)


def compare_backward(
    learner: Any,
    grad_output: Tensor,
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor,
    rtol: float = 1e-9,
    **rest: Any,
) -> None:
    """Compare the three gradients by hand with autograd's on PyTorch's layer_norm."""
    inputs = {"grad_output": grad_output, "x": x, "normalized_shape": shape, "weight": weight, **rest}
    settings = {"settings": rest} if rest else {}
    got = learner.run(
        probes.layer_norm_gradients, grad_output=grad_output, x=x, normalized_shape=shape, weight=weight, **settings
    )
    parts = [part.clone().requires_grad_() for part in (x, weight, torch.zeros_like(weight))]
    output = F.layer_norm(parts[0], shape, parts[1], parts[2], **rest)
    expected = torch.autograd.grad(output, parts, grad_output)
    where = "(grad_x, grad_weight, grad_bias)"
    close(got, expected, where=where, inputs=inputs, rtol=rtol, scale=(grad_output, grad_output, grad_output))


@pytest.mark.exercise("layer_norm")
def test_layer_norm_backward_one_row(learner, rng):
    """One row of three numbers."""
    compare_backward(learner, draw(rng, 1, 3), draw(rng, 1, 3), (3,), draw(rng, 3))


@pytest.mark.exercise("layer_norm")
@pytest.mark.points(2)
def test_layer_norm_backward(learner, rng):
    """The gradients by hand equal autograd's for (b, d), (b, t, d) and several last axes."""
    for shape, leading in (((5,), (5,)), ((4,), (2, 3)), ((3, 3), (3,)), ((2, 4), (2, 2))):
        x, grad_output = 1 + 2 * draw(rng, *leading, *shape), draw(rng, *leading, *shape)
        compare_backward(learner, grad_output, x, shape, draw(rng, *shape))


@pytest.mark.exercise("layer_norm")
def test_layer_norm_backward_eps(learner, rng):
    """A large eps counts in the backward pass too."""
    compare_backward(learner, draw(rng, 4, 5), draw(rng, 4, 5), (5,), draw(rng, 5), eps=0.5)


@pytest.mark.exercise("layer_norm")
def test_layer_norm_backward_edges(learner, rng):
    """No leading axis, no row at all, float32, and tensors that are not contiguous."""
    for shape, leading in (((4,), ()), ((2, 3), ()), ((4,), (0,))):
        x, grad_output = draw(rng, *leading, *shape), draw(rng, *leading, *shape)
        compare_backward(learner, grad_output, x, shape, draw(rng, *shape))
    for dtype, rtol in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        x, grad_output, weight = (
            draw(rng, 4, 5, dtype=dtype).mT,
            draw(rng, 4, 5, dtype=dtype).mT,
            draw(rng, 4, dtype=dtype),
        )
        compare_backward(learner, grad_output, x, (4,), weight, rtol)


# ----------------------------------------------------------------------------------- R4 penalties


def compare_penalty(
    learner: Any,
    named_params: list[tuple[str, Tensor]],
    weights: list[str],
    l1: float,
    l2: float,
    once: bool = False,
    rtol: float = EXACT,
) -> None:
    """Compare the penalty and its gradients with the formula.

    Args:
        weights: names of those that count.
    """
    inputs = {"named_params": named_params, "l1": l1, "l2": l2}
    got = learner.run(probes.penalised, once=once, **inputs)
    counted = [p for name, p in named_params if name in weights]
    expected = torch.stack([l1 * p.abs().sum() + l2 * (p * p).sum() for p in counted]).sum()
    close(got["penalty"], expected, where="the penalty", inputs=inputs, rtol=rtol)
    for (name, p), gradient in zip(named_params, got["gradients"], strict=True):
        where = f"the gradient by {name}"
        if name in weights:
            close(gradient, l1 * p.sign() + 2 * l2 * p, where=where, inputs=inputs, rtol=rtol)
        else:
            unmoved = gradient is None or (isinstance(gradient, Tensor) and not bool(gradient.any()))
            holds(unmoved, f"{where} is nothing, or zero", got=gradient, inputs=inputs)


@pytest.mark.exercise("penalties")
def test_penalty_of_one_weight(learner, rng):
    """The weight (3, −4) has L1 = 7 and L2 = 25."""
    w = [("weight", torch.tensor([[3.0, -4.0]], dtype=torch.float64))]
    compare_penalty(learner, w, ["weight"], 1.0, 0.0)
    compare_penalty(learner, w, ["weight"], 0.0, 1.0)
    compare_penalty(learner, w, ["weight"], 0.5, 0.25)


@pytest.mark.exercise("penalties")
@pytest.mark.points(2)
def test_penalty_leaves_biases_out(learner, rng):
    """Biases and norm layers are left out by their one axis, a table of biases by its name."""
    named = [
        ("layers.0.weight", draw(rng, 3, 2)),
        ("layers.0.bias", draw(rng, 3)),
        ("layers.1.weight", draw(rng, 3)),
        ("layers.1.bias", draw(rng, 3)),
        ("convolution.weight", draw(rng, 2, 1, 3, 3)),
        ("attention.bias", draw(rng, 2, 4)),
        ("bias", draw(rng, 2, 2)),
        ("bias.weight", draw(rng, 2, 2)),
        ("unbias", draw(rng, 2, 3)),
        ("scale", draw(rng).reshape(())),
    ]
    counted = ["layers.0.weight", "convolution.weight", "bias.weight", "unbias"]
    compare_penalty(learner, named, counted, 0.3, 0.7)


@pytest.mark.exercise("penalties")
@pytest.mark.points(2)
def test_penalty_adds_up_weights(learner, rng):
    """Weights of different sizes add up element by element; a zero weight has no L1 gradient."""
    small, large = draw(rng, 1, 2), draw(rng, 4, 5)
    large[0, 0] = 0.0
    compare_penalty(learner, [("small", small), ("large", large)], ["small", "large"], 0.3, 0.7)


@pytest.mark.exercise("penalties")
@pytest.mark.points(2)
def test_penalty_takes_an_iterator(learner, rng):
    """An iterator that can be walked only once, as model.named_parameters() is, works like a list."""
    named = [("a.weight", draw(rng, 2, 3)), ("a.bias", draw(rng, 2)), ("b.weight", draw(rng, 1, 2))]
    compare_penalty(learner, named, ["a.weight", "b.weight"], 0.3, 0.7, once=True)


@pytest.mark.exercise("penalties")
def test_penalty_without_weights(learner, rng):
    """Without any weight the penalty is a zero of shape (); with one it has the weight's dtype."""
    w = draw(rng, 2, 2)
    for named in ([("layer.bias", draw(rng, 3))], []):
        got = learner.l1_l2_penalty(named, 0.3, 0.7)
        zero = isinstance(got, Tensor) and got.shape == () and float(got) == 0.0
        holds(zero, "the penalty is a tensor 0 of shape ()", got=got, inputs={"named_params": named})
    for dtype, rtol in ((torch.float32, 1e-5), (torch.float64, EXACT)):
        named = [("layer.weight", w.to(dtype).mT), ("empty.weight", w[:0].to(dtype))]
        compare_penalty(learner, named, ["layer.weight", "empty.weight"], 0.3, 0.7, rtol=rtol)


def compare_threshold(learner: Any, w: Tensor, threshold: float) -> None:
    """Compare with PyTorch's softshrink: the zeros exactly, the rest up to rounding."""
    got, expected = learner.soft_threshold(w, threshold), F.softshrink(w, threshold)
    close(got, expected, where="soft_threshold", scale=(w, threshold))
    zeros = expected == 0
    same(got[zeros] + 0.0, torch.zeros_like(w[zeros]), where="what should be exactly zero")  # −0 + 0 is 0


@pytest.mark.exercise("penalties")
def test_threshold_landmarks(learner, rng):
    """With threshold 1: 3 becomes 2, −3 becomes −2, and all from −1 to 1 becomes exactly 0."""
    compare_threshold(learner, torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64), 1.0)


@pytest.mark.exercise("penalties")
@pytest.mark.points(2)
def test_threshold_minimises(learner, rng):
    """The result minimises ½ · (z − w)² + threshold · |z|; threshold 0 changes nothing."""
    w = draw(rng, 50)
    w[7] = 0.0
    for threshold in (0.0, 0.25, 0.8):
        compare_threshold(learner, w, threshold)


@pytest.mark.exercise("penalties")
def test_threshold_any_shape_and_dtype(learner, rng):
    """Any shape and floating dtype go in and come out again, a transposed matrix and no elements among them."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in SHAPES:
            w = draw(rng, *shape, dtype=dtype)
            compare_threshold(learner, w.mT if w.dim() > 1 else w, 0.25)


@pytest.mark.exercise("penalties")
def test_threshold_refuses_negatives(learner, rng):
    """A threshold below 0 raises a ValueError."""
    w = draw(rng, 20)
    compare_threshold(learner, w, 0.5)
    raises(lambda: learner.soft_threshold(w, -0.5), ValueError, where="soft_threshold with threshold = -0.5")


# ----------------------------------------------------------------------------------- R5 smooth_ce


def compare_smooth_ce(
    learner: Any,
    logits: Tensor,
    targets: Tensor,
    smoothing: float,
    rtol: float | None = EXACT,
    ignore_index: int | None = None,
    weight: Tensor | None = None,
    scale: float = 0.0,
) -> None:
    """Compare the loss and its gradient by the logits with those of F.cross_entropy; `scale` is as in `close`."""
    named: dict[str, Any] = {} if ignore_index is None else {"ignore_index": ignore_index}
    if weight is not None:
        named["weight"] = weight
    leaf = logits.clone().requires_grad_()
    expected = F.cross_entropy(leaf, targets, label_smoothing=smoothing, **named)
    (slope,) = torch.autograd.grad(expected, leaf)
    got, gradients = learner.gradients("smooth_ce", logits, targets, smoothing, **named)
    close(got, expected.detach(), where="smooth_ce", rtol=rtol, scale=scale)
    close(gradients[0], slope, where="its gradient by the logits", rtol=rtol, scale=1 / len(logits))
    again = learner.smooth_ce(logits, targets, smoothing, **named)  # where the arguments are seen to stay as they are
    close(again, expected.detach(), where="smooth_ce", rtol=rtol, scale=scale)


def classes(rng: torch.Generator, b: int, k: int) -> Tensor:
    """Draw (b,) class numbers."""
    return torch.randint(k, (b,), generator=rng)


@pytest.mark.exercise("label_smoothing")
def test_smooth_ce_one_row(learner, rng):
    """One row of three classes, with the probabilities 0.6, 0.3 and 0.1."""
    logits = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log()
    compare_smooth_ce(learner, logits, torch.tensor([0]), 0.3)


@pytest.mark.exercise("label_smoothing")
@pytest.mark.points(2)
def test_smooth_ce_batch(learner, rng):
    """Batches of several sizes, numbers of classes and smoothings give the loss and the gradient of PyTorch."""
    for b, k, smoothing in ((4, 5, 0.1), (6, 3, 0.25), (1, 4, 0.5)):
        compare_smooth_ce(learner, 2 * draw(rng, b, k), classes(rng, b, k), smoothing)


@pytest.mark.exercise("label_smoothing")
def test_smooth_ce_ends(learner, rng):
    """smoothing = 0 is the plain cross entropy; at 1 the label plays no part."""
    for smoothing in (0.0, 1.0):
        compare_smooth_ce(learner, 2 * draw(rng, 5, 4), classes(rng, 5, 4), smoothing)


@pytest.mark.exercise("label_smoothing")
def test_smooth_ce_two_classes(learner, rng):
    """Two classes: the label keeps 1 − ε / 2."""
    compare_smooth_ce(learner, 2 * draw(rng, 5, 2), classes(rng, 5, 2), 0.2)


@pytest.mark.exercise("label_smoothing")
@pytest.mark.points(2)
def test_smooth_ce_ignores(learner, rng):
    """Rows with ignore_index leave the loss, its divisor and the gradient; it may be −100, 255 or a class."""
    for number, given in ((-100, None), (255, 255), (2, 2)):
        targets = torch.tensor([0, 1, number, 3, number])
        compare_smooth_ce(learner, 2 * draw(rng, 5, 4), targets, 0.2, ignore_index=given)


@pytest.mark.exercise("label_smoothing")
@pytest.mark.points(2)
def test_smooth_ce_class_weights(learner, rng):
    """Class weights enter both parts and the divisor, with ignored rows too."""
    weight = 0.5 + draw(rng, 4).square()
    compare_smooth_ce(learner, 2 * draw(rng, 6, 4), classes(rng, 6, 4), 0.2, weight=weight)
    compare_smooth_ce(learner, 2 * draw(rng, 4, 4), torch.tensor([0, -100, 3, 2]), 0.2, weight=weight)


@pytest.mark.exercise("label_smoothing")
@pytest.mark.points(2)
def test_smooth_ce_large_logits(learner, rng):
    """Logits of ±10,000 neither overflow nor underflow, also where rows lie far apart."""
    # Half a rounding of a logit of 10,000 is 5e-4 in float32: logits − logsumexp is right up to that.
    for dtype, rtol in ((torch.float32, 2e-3), (torch.float64, 1e-10)):
        far = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype)
        compare_smooth_ce(learner, far, torch.tensor([0, 1]), 0.1, rtol, scale=1.0)
        apart = 2 * draw(rng, 2, 3, dtype=dtype) + torch.tensor([[1e4], [-1e4]], dtype=dtype)
        compare_smooth_ce(learner, apart.round(), torch.tensor([0, 1]), 0.1, rtol, scale=1.0)


@pytest.mark.exercise("label_smoothing")
def test_smooth_ce_any_layout_and_dtype(learner, rng):
    """float32 and bfloat16 come out as they went in, of shape (); transposed logits work."""
    for dtype, rtol in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float64, EXACT)):
        compare_smooth_ce(learner, draw(rng, 4, 5, dtype=dtype).mT, classes(rng, 5, 4), 0.2, rtol)


# ------------------------------------------------------------------------------ R6 mixup, cutmix

MIXERS = ["mixup", "cutmix"]


def images(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw images in which no two numbers are equal."""
    count = math.prod(shape)
    return torch.randperm(count, generator=rng).reshape(shape).to(dtype) / 64 + 1


def check_mix(name: str, x: Tensor, y: Tensor, result: Any, lam: Any, inputs: dict[str, Any]) -> list[slice] | None:
    """Check one result against its own partners and λ.

    Args:
        y: (b,), all different, so that the labels tell who the partners are.

    Returns:
        Rows and columns of the box, for CutMix, where the partners and the box let it be seen.
    """
    mixed, first, second = result
    same(first, y, where="the first labels", inputs=inputs)
    holds(
        isinstance(second, Tensor) and second.dtype == y.dtype and torch.equal(second.sort().values, y.sort().values),
        "the second labels are those of the batch in another order",
        got=second,
        inputs=inputs,
    )
    holds(type(lam) is float and 0 <= lam <= 1, "λ is a Python float from 0 to 1", got=lam, inputs=inputs)
    partners = torch.tensor([y.tolist().index(label) for label in second.tolist()], dtype=torch.int64)
    if name == "mixup":
        expected = lam * x + (1 - lam) * x[partners]
        close(mixed, expected, where="the inputs, mixed with those of the second labels by λ", inputs=inputs)
        return None
    same(list(mixed.shape), list(x.shape), where="the shape of the images", inputs=inputs)
    moved = [row for row, partner in enumerate(partners.tolist()) if partner != row]
    pasted = (mixed == x[partners]) & (mixed != x)
    box = [slice(0, 0), slice(0, 0)]
    if moved:
        marks = pasted[moved].flatten(0, 1).any(0)
        for axis in (0, 1):
            hit = marks.any(1 - axis).nonzero().flatten().tolist()
            box[axis] = slice(hit[0], hit[-1] + 1) if hit else slice(0, 0)
    expected = x.clone()
    expected[:, :, box[0], box[1]] = x[partners][:, :, box[0], box[1]]
    same(mixed, expected, where="the images, with one box of those of the second labels", inputs=inputs)
    if not moved:
        return None
    area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
    share = 1 - area / (x.shape[2] * x.shape[3])
    told = {**inputs, "box": f"rows {box[0].start} to {box[0].stop}, columns {box[1].start} to {box[1].stop}"}
    close(lam, share, where="λ, the share of the image that is left", inputs=told, scale=1.0)
    return box


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.points(2)
@pytest.mark.parametrize("name", MIXERS)
def test_mix_is_what_it_says(learner, rng, name):
    """Images, both labels and λ fit together in twenty calls, and the batch keeps its values."""
    x, y = images(rng, 4, 2, 6, 9), torch.tensor([3, 0, 7, 5])
    inputs = {"name": name, "x": x, "y": y, "alpha": 1.0, "seed": seed_of(rng), "times": 20}
    got = learner.run(probes.mixed, **inputs)
    for result, lam in zip(got["results"], got["lam"], strict=True):
        check_mix(name, x, y, result, lam, inputs)
    same([got["x"], got["y"]], [x, y], where="(x, y) afterwards", inputs=inputs)
    same(got["shares"], False, where="whether the mixed images lie in x's memory", inputs=inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.points(2)
def test_mixup_lambda(learner, rng):
    """λ follows Beta(alpha, alpha)."""
    x, y = images(rng, 2, 1), torch.tensor([0, 1])
    cumulative = {
        0.5: lambda v: 2 / math.pi * v.sqrt().asin(),  # the arcsine law
        4.0: lambda v: v**4 * (35 - 84 * v + 70 * v**2 - 20 * v**3),
    }
    for alpha, share in cumulative.items():
        inputs = {"name": "mixup", "x": x, "y": y, "alpha": alpha, "seed": seed_of(rng), "times": 400}
        lam = learner.run(probes.mixed_often, **inputs)["lam"]
        ordered, count = lam.sort().values.clamp(0, 1), len(lam)
        steps = torch.arange(count + 1, dtype=torch.float64) / count
        theirs = share(ordered)
        distance = torch.maximum(steps[1:] - theirs, theirs - steps[:-1]).max().item()
        # Massart 1990: the distance exceeds d with a probability of at most 2·exp(−2·n·d²).
        bound = math.sqrt(math.log(2 / ALARM) / 2 / count)
        holds(
            distance <= bound,
            f"λ follows Beta({alpha:g}, {alpha:g}) (Kolmogorov's distance is at most {bound:.3f})",
            got=f"distance {distance:.3f}, mean {lam.mean().item():.3f}, standard deviation {lam.std().item():.3f}",
            expected=f"mean 0.5, standard deviation {1 / math.sqrt(4 * (2 * alpha + 1)):.3f}",
            inputs=inputs,
        )


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
def test_mixup_lambda_near_the_ends(learner, rng):
    """With an alpha near 0, λ is close to 0 or to 1, and hardly ever between them."""
    x, y = images(rng, 2, 1), torch.tensor([0, 1])
    inputs = {"name": "mixup", "x": x, "y": y, "alpha": 0.01, "seed": seed_of(rng), "times": 400}
    lam = learner.run(probes.mixed_often, **inputs)["lam"]
    between = int(((lam > 0.1) & (lam < 0.9)).sum())
    # One draw lies there with probability 0.022; 36 of 400 or more come with less than 1e-10 (Chernoff).
    holds(between <= 36, "λ hardly ever lies between 0.1 and 0.9", got=f"{between} of 400 do", inputs=inputs)
    low, high = int((lam <= 0.1).sum()), int((lam >= 0.9).sum())
    # Each has the probability 0.489; Hoeffding's bound for 128 of 400 or fewer is 3e-10.
    says = "λ is as often close to 0 as to 1"
    holds(min(low, high) >= 128, says, got=f"{low} of 400 below 0.1, {high} above 0.9", inputs=inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.parametrize("name", MIXERS)
def test_mix_partners(learner, rng, name):
    """Partners are drawn anew for each call: everyone meets everyone, themselves too, equally often."""
    x, y = images(rng, 4, 1, 3, 3), torch.arange(4)
    inputs = {"name": name, "x": x, "y": y, "alpha": 1.0, "seed": seed_of(rng), "times": 150}
    partners = learner.run(probes.mixed_often, **inputs)["partners"]
    fits = partners.shape == (150, 4) and torch.equal(partners.sort(1).values, y.expand(150, 4))
    holds(fits, "the second labels are those of the batch in another order", got=partners, inputs=inputs)
    share = F.one_hot(partners, 4).double().mean(0)  # [row, partner]
    worst = (share - 0.25).abs().max().item()
    says = "every row meets every partner in a quarter of the calls"
    bound = math.sqrt(math.log(2 / ALARM) / 2 / 150)  # Hoeffding's
    holds(worst <= bound, says, got=f"off by {worst:.3f}", inputs=inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.points(2)
def test_cutmix_box(learner, rng):
    """Boxes have the image's proportions, lie anywhere, reach over the border, and follow Beta(alpha, alpha)."""
    x, y = images(rng, 3, 1, 8, 16, dtype=torch.float32), torch.arange(3)
    inputs = {"name": "cutmix", "x": x, "y": y, "alpha": 1.0, "seed": seed_of(rng), "times": 500}
    got = learner.run(probes.mixed_often, **inputs)
    holds(got["mixed"].shape == (500, *x.shape), "the images keep their shape", got=got["mixed"], inputs=inputs)
    boxes = []
    for mixed, second, lam in zip(got["mixed"], got["partners"], got["lam"].tolist(), strict=True):
        box = check_mix("cutmix", x, y, [mixed, y, second], lam, inputs)
        if box is not None and box[0].stop > 0:
            boxes.append([box[0].start, box[0].stop, box[1].start, box[1].stop])
    # Five calls of six show their box, and few boxes are empty: 300 is more than 10 standard errors below.
    holds(len(boxes) >= 300, "most boxes hold something", got=f"{len(boxes)} boxes can be seen", inputs=inputs)
    top, bottom, left, right = torch.tensor(boxes, dtype=torch.float64).T.contiguous()
    inside = (top > 0) & (bottom < 8) & (left > 0) & (right < 16)
    uneven = ((bottom - top) / 8 - (right - left) / 16).abs()[inside]
    holds(
        not bool((uneven >= 1 / 8 + 1 / 16).any()),
        "a box away from the border has the proportions of the image",
        got=f"differing by {uneven.max().item() if len(uneven) else 0.0:.2f}",
        inputs=inputs,
    )
    expected = cut_boxes(rng, 20_000, 8, 16)
    area = (expected[1] - expected[0]) * (expected[3] - expected[2])
    check_alike(128 * (1 - got["lam"]), area, "the area of the box in pixels", inputs)
    seen = area > 0
    for mine, theirs, what in zip(
        (top, bottom, left, right), expected, ("first row", "last row", "first column", "last column"), strict=True
    ):
        check_alike(mine, theirs[seen], f"the {what} of the box", inputs)
    mine, theirs = (top + bottom) / 8 + (left + right) / 16, (expected[0] + expected[1])[seen] / 8
    theirs = theirs + (expected[2] + expected[3])[seen] / 16
    off = (mine.mean() - theirs.mean()).item() / 4
    bound = 5 * theirs.std().item() / 4 * math.sqrt(1 / len(mine) + 1 / len(theirs))
    says = "the box lies around the pixel that was drawn, not to one side of it"
    holds(abs(off) <= bound, says, got=f"off by {off:.3f} of the image", inputs=inputs)


def cut_boxes(rng: torch.Generator, count: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Draw boxes by the docstring's rule with alpha = 1, all at once; return their borders."""
    side = torch.rand(count, generator=rng, dtype=torch.float64).sqrt()
    borders = []
    for size in (height, width):
        length = (size * side).long()
        start = torch.randint(size, (count,), generator=rng) - length // 2
        borders += [start.clamp(min=0), (start + length).clamp(max=size)]
    return tuple(border.double() for border in borders)


def check_alike(mine: Tensor, theirs: Tensor, what: str, inputs: dict[str, Any]) -> None:
    """Compare two samples of whole numbers by Smirnov's distance."""
    edges = torch.arange(-1, int(theirs.max()) + 2, dtype=torch.float64) + 0.5
    shares = [torch.searchsorted(part.sort().values, edges, right=True).double() / len(part) for part in (mine, theirs)]
    distance = (shares[0] - shares[1]).abs().max().item()
    # Massart's bound for both samples, each with half of the false alarms.
    bound = sum(math.sqrt(math.log(4 / ALARM) / 2 / len(part)) for part in (mine, theirs))
    told = f"distance {distance:.3f}, mean {mine.mean().item():.2f}"
    says = f"{what} is distributed as the rule says (Smirnov's distance is at most {bound:.3f})"
    holds(distance <= bound, says, got=told, expected=f"mean {theirs.mean().item():.2f}", inputs=inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.parametrize("name", MIXERS)
def test_mix_draws_from_the_generator(learner, rng, name):
    """All random numbers come from the generator, and without one from PyTorch's own."""
    x, y = images(rng, 5, 1, 7, 8), torch.arange(5)
    for own_generator in (True, False):
        inputs = {"name": name, "x": x, "y": y, "alpha": 1.0, "seed": seed_of(rng), "times": 8}
        inputs["own_generator"] = own_generator
        first, again = (learner.run(probes.mixed, **inputs) for _ in range(2))
        for result, lam in zip(first["results"], first["lam"], strict=True):
            check_mix(name, x, y, result, lam, inputs)
        same(again, first, where="the results under the same seed", inputs=inputs)
        holds(len(set(first["lam"])) > 1, "every call draws a new λ", got=first["lam"], inputs=inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.parametrize("name", MIXERS)
def test_mix_any_shape_and_dtype(learner, rng, name):
    """float32 stays float32, one image and no image work, and so does memory that is not contiguous."""
    shapes = [(6, 2, 5, 4), (1, 1, 3, 3), (0, 1, 3, 3)] + ([(4,), (3, 5)] if name == "mixup" else [])
    for shape in shapes:
        for x in (
            images(rng, *shape, dtype=torch.float32),
            images(rng, *reversed(shape)).permute(*range(len(shape))[::-1]),
        ):
            y = torch.arange(len(x))
            inputs = {"name": name, "x": x, "y": y, "alpha": 2.0, "seed": seed_of(rng), "times": 3}
            got = learner.run(probes.mixed, **inputs)
            for result, lam in zip(got["results"], got["lam"], strict=True):
                check_mix(name, x, y, result, lam, inputs)


@pytest.mark.exercise("mixing")
@pytest.mark.statistical
@pytest.mark.parametrize("name", MIXERS)
def test_mix_refuses_other_alphas(learner, rng, name):
    """An alpha that is not above 0 raises a ValueError."""
    x, y = images(rng, 3, 1, 4, 4), torch.arange(3)
    inputs = {"name": name, "x": x, "y": y, "alpha": 0.5, "seed": seed_of(rng)}
    got = learner.run(probes.mixed, **inputs)
    check_mix(name, x, y, got["results"][0], got["lam"][0], inputs)
    for alpha in (0.0, -1.0):
        refused = {**inputs, "alpha": alpha}
        raises(lambda refused=refused: learner.run(probes.mixed, **refused), ValueError, where=f"{name}, alpha {alpha}")


# ------------------------------------------------------------------------------ R7 EarlyStopping

NAN = math.nan


def best_so_far(values: list[float], mode: str, min_delta: float) -> list[int | None]:
    """Return for each step the number of the best step so far, straight from the definition."""
    best: list[int | None] = []
    for step, value in enumerate(values):
        last = best[-1] if best else None
        if math.isnan(value):
            better = False
        elif last is None:
            better = True
        else:
            better = value < values[last] - min_delta if mode == "min" else value > values[last] + min_delta
        best.append(step if better else last)
    return best


def follow_stopping(
    learner: Any, values: list[float], patience: int = 2, mode: str = "min", min_delta: float = 0.0, **rest: Any
) -> None:
    """Compare all that EarlyStopping says and keeps with the definition."""
    settings = {"patience": patience, "mode": mode, "min_delta": min_delta}
    inputs = {"values": values, **settings}
    got = learner.run(probes.watched, values=values, settings=settings, **rest)
    check_stopping(got, values, settings, inputs, rest.get("restore_each_time", False))


def check_stopping(
    got: Any, values: list[float], settings: dict[str, Any], inputs: dict[str, Any], each_time: bool
) -> None:
    """Compare a report of `probes.watched` with the definition."""
    best = best_so_far(values, settings["mode"], settings["min_delta"])
    since = [step + 1 if at is None else step - at for step, at in enumerate(best)]
    kept = [1000.0 if at is None else float(at) for at in best]
    same(got["stops"], [wait >= settings["patience"] for wait in since], where="what step returned", inputs=inputs)
    same(got["best_step"], best, where="best_step after each step", inputs=inputs)
    expected = [None if at is None else values[at] for at in best]
    same(got["best"], expected, where="best after each step", inputs=inputs)
    count = len(got["seen"][0]) if got["seen"] else 4
    live = [[float(step)] * count for step in range(len(values))]
    same(got["seen"], live, where="the module after each step", inputs=inputs)
    marks = [[mark] * count for mark in ([*kept, kept[-1]] if each_time else kept[-1:])]
    same(got["restored"], marks, where="the module's parameters and buffers after restore", inputs=inputs)
    memory = torch.full((1, 2), kept[-1], dtype=torch.float64)
    same(got["memory"], memory, where="the memory of the module's weight after restore", inputs=inputs)


@pytest.mark.exercise("early_stopping")
@pytest.mark.points(2)
def test_stopping_waits(learner, rng):
    """With patience 2, the second value in a row that is no better says stop; with patience 1, the first."""
    follow_stopping(learner, [3.0, 2.0, 2.5, 2.25])
    follow_stopping(learner, [3.0, 2.0, 2.5], patience=1)
    follow_stopping(learner, [3.0, 4.0, 5.0, 6.0, 7.0], patience=4)


@pytest.mark.exercise("early_stopping")
@pytest.mark.points(2)
def test_stopping_starts_again(learner, rng):
    """A better value sets the waiting back to nothing; values that only beat the one before do not."""
    follow_stopping(learner, [3.0, 4.0, 2.0, 2.5, 1.0, 1.5, 1.25, 0.5, 0.75])
    follow_stopping(learner, [1.0, 4.0, 3.0, 2.0], patience=3)


@pytest.mark.exercise("early_stopping")
def test_stopping_ties(learner, rng):
    """An equal value is no better, and neither is one that is better by min_delta alone."""
    follow_stopping(learner, [2.0, 2.0, 2.0])
    follow_stopping(learner, [2.0, 2.125, 2.0, 3.0], min_delta=0.25)
    follow_stopping(learner, [2.0, 1.75, 1.5, 1.25, 0.75], min_delta=0.25, patience=3)
    follow_stopping(learner, [2.0, 1.9, 1.8, 1.7], min_delta=0.5, patience=3)


@pytest.mark.exercise("early_stopping")
@pytest.mark.points(2)
def test_stopping_max_mode(learner, rng):
    """With mode="max" large values are good, and min_delta asks for more."""
    follow_stopping(learner, [0.5, 0.75, 0.75, 0.625, 0.875], mode="max")
    follow_stopping(learner, [0.5, 0.75, 1.0, 1.5, 1.25], mode="max", min_delta=0.25)
    follow_stopping(learner, [-2.0, -3.0, -1.0, -1.5], mode="max")


@pytest.mark.exercise("early_stopping")
@pytest.mark.points(2)
def test_stopping_nan(learner, rng):
    """NaN is never better, neither first nor later; what comes after it still can be."""
    follow_stopping(learner, [3.0, NAN, 2.0, NAN, NAN])
    follow_stopping(learner, [NAN, 3.0, 4.0, 2.0], patience=3)
    follow_stopping(learner, [NAN, NAN, NAN], patience=2)
    follow_stopping(learner, [NAN, 0.5, 0.25], mode="max")
    follow_stopping(learner, [math.inf, 3.0, math.inf, 2.0])


@pytest.mark.exercise("early_stopping")
@pytest.mark.points(2)
def test_stopping_restores(learner, rng):
    """The best weights and buffers come back in place, stopped or not, again and again; with no best, nothing does."""
    follow_stopping(learner, [3.0, 1.0, 2.0], patience=5, restore_each_time=True)
    follow_stopping(learner, [3.0, 1.0, 2.0, 0.5, 2.0, 3.0], patience=2, restore_each_time=True)
    follow_stopping(learner, [NAN, NAN], patience=2, restore_each_time=True)
    follow_stopping(learner, [0.0, 0.0, 1.0], patience=2, restore_each_time=True)


@pytest.mark.exercise("early_stopping")
def test_stopping_any_history(learner, rng):
    """Histories drawn at random, with ties and NaN, in both modes; values as tensors too."""
    for mode in ("min", "max"):
        values = [whole(rng, 0, 8) / 4 - 1 for _ in range(14)]
        values[whole(rng, 0, 13)] = NAN
        follow_stopping(learner, values, whole(rng, 1, 3), mode, 0.25)
        follow_stopping(learner, values, whole(rng, 1, 3), mode, 0.0, as_tensors=True)


@pytest.mark.exercise("early_stopping")
def test_stopping_defaults(learner, rng):
    """Without more settings, small values are good and any better value counts."""
    values = [2.0, 2.5, 1.9375, 2.0, 2.0]
    inputs = {"values": values, "patience": 2}
    got = learner.run(probes.watched, values=values, settings={"patience": 2})
    check_stopping(got, values, {"patience": 2, "mode": "min", "min_delta": 0.0}, inputs, False)


@pytest.mark.exercise("early_stopping")
def test_stopping_refuses_bad_settings(learner, rng):
    """A patience below 1, an unknown mode and a min_delta below 0 raise a ValueError."""
    follow_stopping(learner, [2.0, 1.0, 2.0])
    for bad in ({"patience": 0}, {"patience": 2, "mode": "up"}, {"patience": 2, "min_delta": -0.5}):
        raises(
            lambda bad=bad: learner.run(probes.watched, values=[1.0], settings=bad),
            ValueError,
            where=f"EarlyStopping({', '.join(f'{name}={value!r}' for name, value in bad.items())})",
        )


# ------------------------------------------------------------------------------ R8 bootstrap_loss

MODES = ["soft", "hard"]


def bootstrapped(logits: Tensor, targets: Tensor, beta: float, mode: str) -> Tensor:
    """Return the loss as PyTorch's cross entropy against a whole distribution of labels."""
    q = F.softmax(logits, dim=1)
    believed = q if mode == "soft" else F.one_hot(q.detach().argmax(1), logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, beta * F.one_hot(targets, logits.shape[1]).to(logits.dtype) + (1 - beta) * believed)


def compare_bootstrap(
    learner: Any,
    logits: Tensor,
    targets: Tensor,
    beta: float,
    mode: str,
    rtol: float | None = EXACT,
    scale: float = 0.0,
) -> None:
    """Compare the loss and its gradient by the logits; `scale` is as in `close`."""
    leaf = logits.clone().requires_grad_()
    expected = bootstrapped(leaf, targets, beta, mode)
    (slope,) = torch.autograd.grad(expected, leaf)
    got, gradients = learner.gradients("bootstrap_loss", logits, targets, beta, mode)
    close(got, expected.detach(), where="bootstrap_loss", rtol=rtol, scale=scale)
    close(gradients[0], slope, where="its gradient by the logits", rtol=rtol, scale=1 / len(logits))
    again = learner.bootstrap_loss(logits, targets, beta, mode)  # where the arguments are seen to stay as they are
    close(again, expected.detach(), where="bootstrap_loss", rtol=rtol, scale=scale)


@pytest.mark.exercise("bootstrapping")
@pytest.mark.parametrize("mode", MODES)
def test_bootstrap_one_row(learner, rng, mode):
    """One row with the probabilities 0.75 and 0.25, whose label is the second class."""
    logits = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    compare_bootstrap(learner, logits, torch.tensor([1]), 0.8, mode)


@pytest.mark.exercise("bootstrapping")
@pytest.mark.points(2)
@pytest.mark.parametrize("mode", MODES)
def test_bootstrap_batch(learner, rng, mode):
    """Batches of several sizes give the loss and the gradient of the mixed labels."""
    for b, k, beta in ((4, 5, 0.8), (6, 3, 0.25), (1, 4, 0.5)):
        compare_bootstrap(learner, 2 * draw(rng, b, k), classes(rng, b, k), beta, mode)


@pytest.mark.exercise("bootstrapping")
@pytest.mark.parametrize("mode", MODES)
def test_bootstrap_ends(learner, rng, mode):
    """beta = 1 is the cross entropy; beta = 0 believes the model alone."""
    for beta in (1.0, 0.0):
        compare_bootstrap(learner, 2 * draw(rng, 5, 4), classes(rng, 5, 4), beta, mode)


@pytest.mark.exercise("bootstrapping")
@pytest.mark.parametrize("mode", MODES)
def test_bootstrap_large_logits(learner, rng, mode):
    """Logits of ±10,000 neither overflow nor underflow, nor do their gradients."""
    # Half a rounding of a logit of 10,000 is 5e-4 in float32: logits − logsumexp is right up to that.
    for dtype, rtol in ((torch.float32, 2e-3), (torch.float64, 1e-10)):
        far = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 0.0, 1e4]], dtype=dtype)
        compare_bootstrap(learner, far, torch.tensor([0, 1]), 0.75, mode, rtol, scale=1.0)
        apart = (4 * draw(rng, 2, 3, dtype=dtype)).round() + torch.tensor([[1e4], [-1e4]], dtype=dtype)
        compare_bootstrap(learner, apart, torch.tensor([0, 1]), 0.75, mode, rtol, scale=1.0)


@pytest.mark.exercise("bootstrapping")
@pytest.mark.parametrize("mode", MODES)
def test_bootstrap_any_layout_and_dtype(learner, rng, mode):
    """float32 and bfloat16 come out as they went in, of shape (); transposed logits work."""
    for dtype, rtol in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float64, EXACT)):
        # Logits far enough apart for bfloat16 to tell their probabilities apart.
        logits = torch.stack([torch.randperm(5, generator=rng) for _ in range(4)]).to(dtype) / 2
        compare_bootstrap(learner, logits.T.contiguous().mT, classes(rng, 4, 5), 0.75, mode, rtol)


@pytest.mark.exercise("bootstrapping")
def test_bootstrap_ties(learner, rng):
    """Where several classes are equally likely, hard mode believes the first."""
    logits = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    compare_bootstrap(learner, logits, torch.tensor([0, 2]), 0.5, "hard")


@pytest.mark.exercise("bootstrapping")
def test_bootstrap_refuses_bad_settings(learner, rng):
    """A beta outside [0, 1] and an unknown mode raise a ValueError."""
    logits, targets = draw(rng, 3, 4), classes(rng, 3, 4)
    compare_bootstrap(learner, logits, targets, 0.5, "soft")
    for beta, mode in ((-0.25, "soft"), (1.25, "hard"), (0.5, "middle")):
        where = f"bootstrap_loss with beta = {beta} and mode = {mode!r}"
        raises(lambda b=beta, m=mode: learner.bootstrap_loss(logits, targets, b, m), ValueError, where=where)
