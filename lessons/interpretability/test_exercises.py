"""What each exercise of lesson 5 must do: one regime in each check, the smallest inputs first.

Where an answer draws random numbers, most checks hold for any draw: they are exact for the samples that were recorded,
or a law makes the result independent of them. What is left is statistical, and its bounds are such that each comparison
refuses a right answer with a probability below 1e-7: Dvoretzky, Kiefer & Wolfowitz (with Massart's constant) for a
distribution, Laurent & Massart for a variance, Chernoff for a frequency, 6 standard errors for a mean, and 6.5 for a
mean of products. There are about 120 such comparisons in all, so right answers to the whole lesson are refused less
often than once in 80 000 gradings.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coursekit.grading import close, holds, same
from lessons.interpretability import probes

EXACT = 1e-11  # float64, after sums of some thousand terms
ALPHA = 1e-7  # of one statistical comparison


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def classes(rng: torch.Generator, rows: int, K: int) -> Tensor:
    """Draw a class for each row."""
    return torch.randint(K, (rows,), generator=rng)


def table(values: list[Any]) -> Tensor:
    """Return float64."""
    return torch.tensor(values, dtype=torch.float64)


def small_network(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw weights for pictures (B, 2, 6, 6) and 4 classes: two convolutions and a last layer."""
    shapes = ((3, 2, 3, 3), (4, 3, 3, 3), (4, 4 * 2 * 2))
    return [coarse(draw(rng, *shape) / math.sqrt(math.prod(shape[1:]) / 2), dtype) for shape in shapes]


def pictures(rng: torch.Generator, rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw pictures for `small_network`."""
    return coarse(draw(rng, rows, 2, 6, 6), dtype)


def coarse(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values in this dtype; in float32 as eighths, of which a convolution makes no rounding errors.

    What a ReLU sees has then the sign that it should have: a rounding error there would change the whole gradient.
    """
    return values if dtype is torch.float64 else (8 * values).round().div(8).to(dtype)


def slopes(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """Return the derivative of each row's score y by that row, from the rows' whole Jacobians; shaped like x."""
    every = torch.func.vmap(torch.func.jacrev(lambda row: model(row[None])[0]))(x)
    return every[torch.arange(len(x)), y].detach()


def strongest(gradient: Tensor) -> Tensor:
    """Return the largest size of each pixel's derivatives."""
    return torch.linalg.vector_norm(gradient, ord=math.inf, dim=1)


def untouched(tensor: Tensor, asks: bool = False) -> dict[str, Any]:
    """Return the state of a tensor that no one has touched, whether or not it asks for a gradient."""
    return {"values": tensor, "requires_grad": asks, "grad": None}


def left_alone(model: nn.Module, training: bool) -> dict[str, Any]:
    """Return the state of a marked model that no one has touched."""
    return probes.state_of(probes.marked(model, training))


# ------------------------------------------------------------------------------------- randomness


def looks_normal(noise: Tensor, where: str, inputs: dict[str, Any]) -> None:
    """Expect numbers that look like independent draws from N(0, 1).

    Args:
        noise: any shape; entries must be independent along each axis.
    """
    flat = noise.flatten().sort().values
    N, x = len(flat), math.log(1 / ALPHA)
    mean, square = float(flat.mean()), float(flat.square().mean())
    holds(abs(mean) <= 6 / math.sqrt(N), f"the mean of {where} is 0", inputs=inputs, got=mean, expected=0.0)
    low, high = 1 - 2 * math.sqrt(x / N), 1 + 2 * math.sqrt(x / N) + 2 * x / N
    holds(low <= square <= high, f"the variance of {where} is 1", inputs=inputs, got=square, expected=1.0)
    below = torch.special.ndtr(flat)
    steps = torch.arange(N + 1, dtype=flat.dtype) / N
    apart = float(torch.maximum((steps[1:] - below).max(), (below - steps[:-1]).max()))
    bound = math.sqrt(math.log(2 / ALPHA) / (2 * N))
    holds(apart <= bound, f"{where} are normally distributed", inputs=inputs, got=apart, expected=0.0)
    for axis, size in enumerate(noise.shape):
        if size > 1:
            products = noise.narrow(axis, 0, size - 1) * noise.narrow(axis, 1, size - 1)
            shared = float(products.mean())
            says = f"neighbours along axis {axis} of {where} (shape {tuple(noise.shape)}) are independent"
            holds(abs(shared) <= 6.5 / math.sqrt(products.numel()), says, inputs=inputs, got=shared, expected=0.0)


def seldom(found: float, expected: float, trials: float, comparisons: int) -> bool:
    """Return whether so rare a frequency of independent trials came that it has a probability below ALPHA."""
    pairs = ((found, expected), (1 - found, 1 - expected))
    divergence = sum(a * math.log(a / b) for a, b in pairs if a > 0)
    return trials * divergence > math.log(2 * comparisons / ALPHA)


# ------------------------------------------------------------------------------------ I1 saliency


def follow_saliency(learner: Any, weights: list[Tensor], x: Tensor, y: Tensor, rtol: float | None = EXACT) -> None:
    """Compare maps with those from the whole Jacobian."""
    got = learner.run(probes.saliency_map, weights=weights, x=x, y=y)
    expected = strongest(slopes(probes.network(weights), x, y)) if len(x) else x.new_zeros(0, *x.shape[2:])
    close(got, expected, where="the maps", inputs={"x": x, "y": y}, rtol=rtol)


@pytest.mark.exercise("saliency")
def test_saliency_of_a_linear_model(learner, rng):
    """A linear model has its own weights as slopes: of the class asked for, the larger of two channels, no sign."""
    weights = table([[0.5, -3.0, 2.0, 1.0], [1.0, 1.0, -1.0, 4.0]])  # two channels of 1 x 2 pixels
    x, y = table([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([0])
    got = learner.run(probes.saliency_map, weights=[weights], x=x, y=y)
    close(got, table([[[2.0, 3.0]]]), where="the map", inputs={"weights": weights, "x": x, "y": y}, rtol=EXACT)


@pytest.mark.exercise("saliency")
@pytest.mark.points(2)
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_saliency_of_a_network(learner, rng, rows):
    """Each picture gets the map of its own class, in batches of 1, 3 and 5."""
    follow_saliency(learner, small_network(rng), pictures(rng, rows), classes(rng, rows, 4))


@pytest.mark.exercise("saliency")
def test_saliency_where_the_model_is_sure(learner, rng):
    """Where one logit is 60 above the others, the map is as strong as anywhere: the score is the logit."""
    weights, x = [table([[60.0, 1.0], [0.0, -2.0]])], table([[[[1.0, 0.0]]]] * 2)
    got = learner.run(probes.saliency_map, weights=weights, x=x, y=torch.tensor([0, 1]))
    expected = table([[[60.0, 1.0]], [[0.0, 2.0]]])
    close(got, expected, where="the maps", inputs={"weights": weights[0], "x": x}, rtol=EXACT)


@pytest.mark.exercise("saliency")
def test_saliency_dtype_and_memory(learner, rng):
    """float32 goes in and comes out; x may lie in memory in any order, and hold no picture at all."""
    weights = small_network(rng, torch.float32)
    follow_saliency(learner, weights, pictures(rng, 2, torch.float32), classes(rng, 2, 4), rtol=1e-4)
    follow_saliency(learner, small_network(rng), pictures(rng, 3).mT, classes(rng, 3, 4))
    follow_saliency(learner, small_network(rng), pictures(rng, 0), classes(rng, 0, 4))


@pytest.mark.exercise("saliency")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_saliency_leaves_all_as_it_was(learner, rng, training):
    """The model's mode, its parameters and their gradients, and the caller's x stay as they were."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    maps = strongest(slopes(probes.network(weights), x, y))
    for asks in (False, True):
        got = learner.run(probes.left_by_saliency, weights=weights, x=x, y=y, training=training, asks=asks)
        inputs = {"x": x, "x.requires_grad": asks, "training": training}
        close(got.pop("given"), maps, where="the maps", inputs=inputs, rtol=EXACT)
        expected = {"model": left_alone(probes.network(weights), training), "x": untouched(x, asks), "graph": False}
        same(got, expected, where="what is left", inputs=inputs)


@pytest.mark.exercise("saliency")
def test_saliency_device(learner, rng):
    """Whatever is made on the way lies where x lies, and not on the default device."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    got = learner.run(probes.saliency_elsewhere, weights=weights, x=x, y=y)
    close(got, strongest(slopes(probes.network(weights), x, y)), where="the maps", inputs={"x": x, "y": y}, rtol=EXACT)


# ------------------------------------------------------------------------- I2 integrated_gradients


def follow_attributions(
    learner: Any, kind: str, weights: list[Tensor], x: Tensor, baseline: Tensor, n: int, rtol: float | None = EXACT
) -> None:
    """Compare attributions with those by the derivative's formula at all midpoints."""
    inputs = {"f": kind, "x": x, "baseline": baseline, "n": n}
    got = learner.run(probes.attributions, kind=kind, weights=weights, x=x, baseline=baseline, n=n)
    along = torch.linspace(0.5 / n, 1 - 0.5 / n, n, dtype=x.dtype)
    points = torch.lerp(baseline.expand_as(x)[None], x[None], along.reshape(n, *[1] * x.dim()))
    if kind == "network":
        hidden = torch.einsum("nbd,hd->nbh", points, weights[0]).cosh() ** -2
        gradient = torch.einsum("nbh,h,hd->nbd", hidden, weights[1], weights[0])
    else:
        gradient = {"linear": points**0, "cubic": 3 * points**2}.get(kind, (points < 1).to(x.dtype)) * weights[0]
    expected = gradient.mean(0) * (x - baseline)
    close(got, expected, where="the attributions", inputs=inputs, rtol=rtol, scale=(x, baseline))


def small_score(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw weights of a network of 4 features."""
    return [draw(rng, 5, 4, dtype=dtype) / 2, draw(rng, 5, dtype=dtype)]


@pytest.mark.exercise("integrated_gradients")
def test_attributions_of_a_linear_function(learner, rng):
    """For a linear f one step is exact: weight times (x − baseline)."""
    x, baseline = table([[1.0, 2.0, -1.0]]), table([0.5, 1.0, 0.0])
    weights = [table([2.0, -1.0, 3.0])]
    got = learner.run(probes.attributions, kind="linear", weights=weights, x=x, baseline=baseline, n=1)
    inputs = {"f": "2·x0 − x1 + 3·x2 + 1", "x": x, "baseline": baseline, "n": 1}
    close(got, table([[1.0, -1.0, -3.0]]), where="the attributions", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("integrated_gradients")
@pytest.mark.points(2)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_attributions_at_midpoints(learner, rng, n):
    """For the cube of each entry the gradients at the midpoints of n steps can be computed by hand."""
    follow_attributions(learner, "cubic", [draw(rng, 3)], draw(rng, 2, 3), torch.zeros(3, dtype=torch.float64), n)


@pytest.mark.exercise("integrated_gradients")
@pytest.mark.points(2)
def test_attributions_from_another_baseline(learner, rng):
    """The path starts at the baseline, wherever that is: one for all rows, or one for each."""
    for baseline in (draw(rng, 3), draw(rng, 1, 3), draw(rng, 2, 3), draw(rng, 1)):
        follow_attributions(learner, "cubic", [draw(rng, 3)], draw(rng, 2, 3), baseline, 3)


@pytest.mark.exercise("integrated_gradients")
@pytest.mark.points(2)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_attributions_of_a_network(learner, rng, rows):
    """Rows of a network's inputs do not mix, in batches of 1, 2 and 5."""
    follow_attributions(learner, "network", small_score(rng), draw(rng, rows, 4), draw(rng, 4), 6)


@pytest.mark.exercise("integrated_gradients")
@pytest.mark.points(2)
def test_attributions_are_complete(learner, rng):
    """At 256 steps the attributions of a row add up to f(x) − f(baseline), to one part in 1000."""
    weights, x, baseline = small_score(rng), draw(rng, 3, 4), draw(rng, 4)
    got = learner.run(probes.attributions, kind="network", weights=weights, x=x, baseline=baseline, n=256)
    inputs = {"x": x, "baseline": baseline, "n": 256}
    same(list(got.shape) if isinstance(got, Tensor) else got, [3, 4], where="the shape", inputs=inputs)
    f = probes.score("network", weights)
    close(
        got.sum(1), f(x) - f(baseline[None]), where="their sums", inputs=inputs, rtol=1e-3, scale=weights[1].abs().sum()
    )


@pytest.mark.exercise("integrated_gradients")
def test_attributions_see_through_saturation(learner, rng):
    """Two formulas of min(x, 1) get the same attributions, also at x = 2, where the slope is 0."""
    weights, x, baseline = [table([1.0, 3.0])], table([[2.0, 0.5], [-1.0, 4.0]]), torch.zeros(1, dtype=torch.float64)
    for kind in ("saturated", "saturated otherwise"):
        follow_attributions(learner, kind, weights, x, baseline, 8)  # no midpoint is 1


@pytest.mark.exercise("integrated_gradients")
def test_attributions_of_pictures(learner, rng):
    """Rows may have any shape, lie in memory in any order, and be no rows at all."""
    for rows in (3, 1, 0):
        x, baseline = draw(rng, rows, 2, 3, 4).mT, draw(rng, 2, 1, 1)
        follow_attributions(learner, "cubic", [draw(rng, 2, 4, 3)], x, baseline, 3)


@pytest.mark.exercise("integrated_gradients")
def test_attributions_in_float32(learner, rng):
    """float32 goes in, and comes out again."""
    dtype = torch.float32
    x, baseline = draw(rng, 3, 4, dtype=dtype), draw(rng, 4, dtype=dtype)
    follow_attributions(learner, "network", small_score(rng, dtype), x, baseline, 4, rtol=None)


@pytest.mark.exercise("integrated_gradients")
def test_attributions_leave_all_as_it_was(learner, rng):
    """x and the baseline stay as they were, and no graph hangs on the result."""
    weights, x, baseline = [draw(rng, 3)], draw(rng, 2, 3), draw(rng, 3)
    shares = torch.einsum("bd,d->bd", x - baseline, weights[0])
    for asks in (False, True):
        got = learner.run(probes.left_by_attributions, weights=weights, x=x, baseline=baseline, n=2, asks=asks)
        inputs = {"x": x, "baseline": baseline, "requires_grad of both": asks}
        close(got.pop("given"), shares, where="the attributions", inputs=inputs, rtol=EXACT)
        expected = {"x": untouched(x, asks), "baseline": untouched(baseline, asks), "graph": False}
        same(got, expected, where="what is left", inputs=inputs)


@pytest.mark.exercise("integrated_gradients")
def test_attributions_device(learner, rng):
    """Whatever is made on the way lies where x lies, and not on the default device."""
    weights, x, baseline = draw(rng, 3), draw(rng, 2, 3), draw(rng, 3)
    got = learner.run(probes.attributions_elsewhere, weights=[weights], x=x, baseline=baseline, n=3)
    expected = torch.einsum("bd,d->bd", x - baseline, weights)
    close(got, expected, where="the attributions", inputs={"x": x, "baseline": baseline, "n": 3}, rtol=EXACT)


# ----------------------------------------------------------------------------------- I3 smoothgrad


def levelled(rng: torch.Generator, rows: int) -> Tensor:
    """Draw pictures, each at its level, and each with a range of its own."""
    sizes = torch.arange(1, rows + 1, dtype=torch.float64).reshape(rows, 1, 1, 1)
    return probes.APART * (sizes - 1) + sizes * pictures(rng, rows)


def spread(x: Tensor) -> Tensor:
    """Return each picture's range (B, 1, 1, 1, 1)."""
    flat = x.flatten(1)
    return (flat.max(1).values - flat.min(1).values).reshape(-1, 1, 1, 1, 1)


@pytest.mark.exercise("smoothgrad")
@pytest.mark.points(2)
@pytest.mark.parametrize("n", [1, 3])
def test_smoothgrad_without_noise(learner, rng, n):
    """With sigma = 0 the map is the saliency map, whatever n."""
    for rows in (1, 3):
        weights, x, y = small_network(rng), pictures(rng, rows), classes(rng, rows, 4)
        got = learner.run(probes.smooth_map, weights=weights, x=x, y=y, sigma=0.0, n=n, seed=whole(rng, 0, 10**6))
        expected = strongest(slopes(probes.network(weights), x, y))
        close(got, expected, where="the maps", inputs={"x": x, "y": y, "sigma": 0.0, "n": n}, rtol=EXACT)


@pytest.mark.exercise("smoothgrad")
def test_smoothgrad_of_flat_pictures(learner, rng):
    """A picture of one colour has no range, and so gets no noise."""
    weights, y = small_network(rng), classes(rng, 2, 4)
    x = draw(rng, 2, 1, 1, 1).expand(2, 2, 6, 6)
    got = learner.run(probes.smooth_map, weights=weights, x=x, y=y, sigma=0.3, n=2, seed=whole(rng, 0, 10**6))
    close(got, strongest(slopes(probes.network(weights), x, y)), where="the maps", inputs={"x": x, "y": y}, rtol=EXACT)


def recorded_smooth(learner: Any, rng: torch.Generator, rows: int, sigma: float, n: int) -> tuple[Tensor, Any]:
    """Let the learner explain pictures, and compare the maps with those of the copies that f was asked about.

    Returns:
        (noise over sigma times range (B, n, C, H, W), inputs).
    """
    weights, x, y = small_network(rng), levelled(rng, rows), classes(rng, rows, 4)
    settings = {"sigma": sigma, "n": n, "seed": whole(rng, 0, 10**6)}
    got = learner.run(probes.smooth_points, weights=weights, x=x, y=y, **settings)
    inputs = {"x": x, "y": y, **settings}
    points = got["points"]
    same(_shape(points), [rows, n, 2, 6, 6], where="the shape of the noisy copies", inputs=inputs)
    levels = probes.APART * torch.arange(rows).repeat_interleave(n).reshape(-1, 1, 1, 1)
    gradient = slopes(probes.network(weights), points.flatten(0, 1) - levels, y.repeat_interleave(n))
    expected = strongest(gradient.unflatten(0, (rows, n)).mean(1))
    close(got["map"], expected, where="the maps, from the copies that f was asked about", inputs=inputs, rtol=1e-7)
    return (points - x[:, None]) / (sigma * spread(x)), inputs


@pytest.mark.exercise("smoothgrad")
@pytest.mark.points(3)
@pytest.mark.statistical
def test_smoothgrad_averages_with_the_sign(learner, rng):
    """The map is that of the mean gradient, with its sign, at n noisy copies of each picture."""
    recorded_smooth(learner, rng, rows=6, sigma=0.3, n=8)


@pytest.mark.exercise("smoothgrad")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_smoothgrad_noise(learner, rng):
    """Noise is new for each copy, picture, channel and pixel: N(0, 1) times sigma times the picture's range."""
    noise, inputs = recorded_smooth(learner, rng, rows=6, sigma=0.2, n=20)
    for picture in range(6):
        looks_normal(noise[picture], f"picture {picture}'s noise over sigma times range", inputs)
    looks_normal(noise, "all noise over sigma times range", inputs)


@pytest.mark.exercise("smoothgrad")
def test_smoothgrad_generator(learner, rng):
    """All randomness comes from g: the same seed gives the same maps, and a second call other ones."""
    weights, x, y, seed = small_network(rng), pictures(rng, 2), classes(rng, 2, 4), whole(rng, 0, 10**6)
    got = learner.run(probes.smooth_again, weights=weights, x=x, y=y, sigma=0.3, n=2, seeds=[seed, seed])
    repeats(got, {"x": x, "sigma": 0.3, "n": 2})


@pytest.mark.exercise("smoothgrad")
def test_smoothgrad_dtype_and_memory(learner, rng):
    """float32 goes in and comes out; x may lie in memory in any order, and hold no picture at all."""
    for rows, dtype, rtol in ((2, torch.float32, 1e-4), (3, torch.float64, EXACT), (0, torch.float64, EXACT)):
        weights, x, y = small_network(rng, dtype), pictures(rng, rows, dtype).mT, classes(rng, rows, 4)
        got = learner.run(probes.smooth_map, weights=weights, x=x, y=y, sigma=0.0, n=2, seed=0)
        expected = strongest(slopes(probes.network(weights), x, y)) if rows else x.new_zeros(0, 6, 6)
        close(got, expected, where="the maps", inputs={"x": x, "y": y, "sigma": 0.0}, rtol=rtol)


@pytest.mark.exercise("smoothgrad")
def test_smoothgrad_leaves_all_as_it_was(learner, rng):
    """x stays as it was, and no graph hangs on the maps."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    maps = strongest(slopes(probes.network(weights), x, y))
    for asks in (False, True):
        got = learner.run(probes.left_by_smoothgrad, weights=weights, x=x, y=y, asks=asks)
        inputs = {"x": x, "x.requires_grad": asks, "y": y, "sigma": 0.0}
        close(got.pop("given"), maps, where="the maps", inputs=inputs, rtol=EXACT)
        same(got, {"x": untouched(x, asks), "graph": False}, where="what is left", inputs=inputs)


@pytest.mark.exercise("smoothgrad")
def test_smoothgrad_device(learner, rng):
    """Whatever is made on the way lies where x lies, and not on the default device."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    got = learner.run(probes.smooth_elsewhere, weights=weights, x=x, y=y)
    close(got, strongest(slopes(probes.network(weights), x, y)), where="the maps", inputs={"x": x, "y": y}, rtol=EXACT)


def _shape(value: Any) -> Any:
    return list(value.shape) if isinstance(value, Tensor) else value


def repeats(got: Any, inputs: dict[str, Any]) -> None:
    """Expect that results follow the generator.

    Args:
        got: four results: of two calls with one generator, and of two calls with another one of the same seed.
    """
    close(got[2:], got[:2], where="the results of two generators with one seed", inputs=inputs)
    anew = float((got[0] - got[1]).abs().max()) > 1e-6
    holds(anew, "two calls with one generator give different results", inputs=inputs, got=got[1])


# ------------------------------------------------------------------------------------- I4 grad_cam


def cam_of(weights: list[Tensor], layer: int, x: Tensor, y: Tensor) -> Tensor:
    """Return Grad-CAM's maps: the network cut in two behind the layer, the whole Jacobian of the second half."""
    model = probes.network(weights)
    A = model[: layer + 1](x).detach()
    gradient = slopes(lambda part: model[layer + 1 :](part.clone()), A, y)
    raw = torch.einsum("bchw,bc->bhw", A, gradient.flatten(2).mean(2)).clamp(min=0)
    tops = raw.flatten(1).max(1).values
    return torch.stack([one / top if top > 0 else one for one, top in zip(raw, tops, strict=True)])


def follow_cam(
    learner: Any, weights: list[Tensor], layer: int, x: Tensor, y: Tensor, rtol: float = EXACT, frozen: bool = False
) -> None:
    """Compare maps with those of the network cut in two."""
    got = learner.run(probes.cam, weights=weights, layer=layer, x=x, y=y, frozen=frozen)
    close(got, cam_of(weights, layer, x, y), where="the maps", inputs={"layer": layer, "x": x, "y": y}, rtol=rtol)


def passing(channels: int) -> Tensor:
    """Return a convolution that hands each channel on without its rim."""
    kernel = torch.zeros(channels, channels, 3, 3, dtype=torch.float64)
    kernel[range(channels), range(channels), 1, 1] = 1
    return kernel


def framed(inner: list[Any]) -> Tensor:
    """Return one picture whose inner part is this (C, h, w), with a rim of zeros."""
    return torch.nn.functional.pad(table(inner), (1, 1, 1, 1))[None]


@pytest.mark.exercise("grad_cam")
@pytest.mark.points(2)
def test_cam_by_hand(learner, rng):
    """Two channels, weighted by their mean slopes (1.5 and −1): what is below zero goes, and the top becomes 1."""
    x = framed([[[4.0, 2.0]], [[2.0, 5.0]]])  # after the convolution: these two channels of 1 x 2
    head = table([[1.0, 2.0, -2.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    got = learner.run(probes.cam, weights=[passing(2), head], layer=0, x=x, y=torch.tensor([0]))
    inputs = {"A": x[:, :, 1:-1, 1:-1], "slopes of the class's score": head[0]}
    close(got, table([[[1.0, 0.0]]]), where="the map", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("grad_cam")
@pytest.mark.points(2)
def test_cam_each_picture_by_its_own_maximum(learner, rng):
    """Pictures 1 and 100 times as bright both reach 1; where all speaks against the class, zeros stay zeros."""
    one = framed([[[4.0, 2.0]], [[1.0, 1.0]]])
    head = table([[1.0, 1.0, 0.5, 0.5], [-1.0, -1.0, -1.0, -1.0]])
    x, y = torch.cat([one, 100 * one, one]), torch.tensor([0, 0, 1])
    got = learner.run(probes.cam, weights=[passing(2), head], layer=0, x=x, y=y)
    expected = table([[[1.0, 2.5 / 4.5]], [[1.0, 2.5 / 4.5]], [[0.0, 0.0]]])
    close(got, expected, where="the maps", inputs={"A": x[:, :, 1:-1, 1:-1], "last layer": head, "y": y}, rtol=EXACT)


@pytest.mark.exercise("grad_cam")
@pytest.mark.points(3)
@pytest.mark.parametrize("layer", [0, 1, 2, 3], ids=["before-in-place", "in-place", "second", "last"])
def test_cam_of_a_network(learner, rng, layer):
    """A is what the layer itself returned, also where an in-place ReLU follows; in batches of 1 and 3."""
    for rows in (1, 3):
        follow_cam(learner, small_network(rng), layer, pictures(rng, rows), classes(rng, rows, 4))


@pytest.mark.exercise("grad_cam")
def test_cam_of_a_frozen_network(learner, rng):
    """It works where no parameter asks for a gradient."""
    follow_cam(learner, small_network(rng), 2, pictures(rng, 2), classes(rng, 2, 4), frozen=True)


@pytest.mark.exercise("grad_cam")
@pytest.mark.points(2)
def test_cam_hooks(learner, rng):
    """Your hook is gone afterwards, also when the model raises; a hook that was there stays."""
    weights, x, y = small_network(rng), pictures(rng, 1), classes(rng, 1, 4)
    for broken in (False, True):
        got = learner.run(probes.hooks_left_by_cam, weights=weights, layer=0, x=x, y=y, broken=broken)
        inputs, expected = {"x": x, "the model raises": broken}, None if broken else cam_of(weights, 0, x, y)
        close(got.pop("given"), expected, where="the maps", inputs=inputs, rtol=EXACT)
        same(got, {"raised": broken, "calls": 2, "hooks": 1}, where="hooks", inputs=inputs)


@pytest.mark.exercise("grad_cam")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_cam_leaves_all_as_it_was(learner, rng, training):
    """The model's mode, its parameters and their gradients, and the caller's x stay as they were."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    given = {"weights": weights, "x": x, "y": y, "training": training}
    for layer, asks in ((2, False), (2, True), (-1, False)):
        got = learner.run(probes.left_by_cam, layer=layer, asks=asks, **given)
        inputs = {"x": x, "x.requires_grad": asks, "layer (−1: in front of all)": layer, "training": training}
        close(got.pop("given"), cam_of(weights, layer, x, y), where="the maps", inputs=inputs, rtol=EXACT)
        model = probes.network(weights) if layer > 0 else nn.Sequential(nn.Identity(), *probes.network(weights))
        expected = {"model": left_alone(model, training), "x": untouched(x, asks), "graph": False}
        same(got, expected, where="what is left", inputs=inputs)


@pytest.mark.exercise("grad_cam")
def test_cam_dtype_and_memory(learner, rng):
    """float32 goes in and comes out; x may lie in memory in any order, and hold no picture at all."""
    weights = small_network(rng, torch.float32)
    follow_cam(learner, weights, 2, pictures(rng, 2, torch.float32), classes(rng, 2, 4), rtol=1e-4)
    follow_cam(learner, small_network(rng), 2, pictures(rng, 3).mT, classes(rng, 3, 4))
    got = learner.run(probes.cam, weights=small_network(rng), layer=2, x=pictures(rng, 0), y=classes(rng, 0, 4))
    same(got, torch.zeros(0, 2, 2, dtype=torch.float64), where="the maps of no pictures")


@pytest.mark.exercise("grad_cam")
def test_cam_device(learner, rng):
    """Whatever is made on the way lies where x lies, and not on the default device."""
    weights, x, y = small_network(rng), pictures(rng, 2), classes(rng, 2, 4)
    got = learner.run(probes.cam_elsewhere, weights=weights, layer=2, x=x, y=y)
    close(got, cam_of(weights, 2, x, y), where="the maps", inputs={"x": x, "y": y}, rtol=EXACT)


# -------------------------------------------------------------------------- I5 coalition_values


@pytest.mark.exercise("shapley")
def test_values_of_all_and_none(learner, rng):
    """With all features there f sees x, with none of them the baseline."""
    weights, x, baseline = small_score(rng), draw(rng, 1, 4), draw(rng, 4)
    coalitions = torch.tensor([[True] * 4, [False] * 4])
    got = learner.run(probes.asked_values, weights=weights, x=x, baseline=baseline, coalitions=coalitions)
    f = probes.score("network", weights)
    inputs = {"x": x, "baseline": baseline, "coalitions": coalitions}
    close(got, torch.stack([f(x), f(baseline[None])]), where="the values", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("shapley")
@pytest.mark.points(2)
def test_values_of_coalitions(learner, rng):
    """An absent feature takes the baseline's entry: one baseline for all rows, or one for each."""
    for rows, M, shared in ((3, 2, True), (2, 5, False), (1, 1, True), (0, 3, True), (2, 0, True)):
        weights, x, baseline = small_score(rng), draw(rng, rows, 4), draw(rng, 4) if shared else draw(rng, rows, 4)
        coalitions = draw(rng, M, 4) > 0
        got = learner.run(probes.asked_values, weights=weights, x=x, baseline=baseline, coalitions=coalitions)
        there = coalitions.double()
        mixed = torch.einsum("md,bd->mbd", there, x) + torch.einsum("md,bd->mbd", 1 - there, baseline.expand_as(x))
        hidden = torch.einsum("mbd,hd->mbh", mixed, weights[0]).tanh()
        expected = torch.einsum("mbh,h->mb", hidden, weights[1])
        inputs = {"x": x, "baseline": baseline, "coalitions": coalitions}
        close(got, expected, where="the values", inputs=inputs, rtol=EXACT, scale=weights[1].abs().sum())


@pytest.mark.exercise("shapley")
def test_values_leave_all_as_it_was(learner, rng):
    """x, the baseline and the coalitions keep their values."""
    inputs = {"x": draw(rng, 2, 3), "baseline": draw(rng, 3), "coalitions": draw(rng, 4, 3) > 0}
    got = learner.run(probes.left_by_asking, **inputs)
    mixed = torch.where(inputs["coalitions"][:, None], inputs["x"], inputs["baseline"])
    close(got.pop("given"), mixed.sum(2), where="the values of f = the sum", inputs=inputs, rtol=EXACT, scale=5.0)
    same(got, inputs, where="what is left", inputs=inputs)


@pytest.mark.exercise("shapley")
def test_values_device(learner, rng):
    """Coalitions may lie on another device than x: the values lie on x's, and are f's."""
    test_values_of_all_and_none(learner, rng)
    got = learner.run(probes.asked_elsewhere, d=4, x_shape=(2, 4))
    same(got, {"device": "meta", "shape": [3, 2]}, where="the values")


# ----------------------------------------------------------------------------- I5 shapley_exact


def by_orders(game: Tensor, d: int) -> Tensor:
    """Return Shapley values as the mean, over all orders of arrival, of what each player adds."""
    phi = torch.zeros(d, *game.shape[1:], dtype=game.dtype)
    for order in itertools.permutations(range(d)):
        there = 0
        for player in order:
            phi[player] += game[there | 1 << player] - game[there]
            there |= 1 << player
    return phi / math.factorial(d)


def by_dividends(game: Tensor, d: int) -> Tensor:
    """Return Shapley values from Harsanyi's dividends: each coalition's own surplus, shared equally by its members."""
    surplus = game.reshape(*[2] * d, -1).clone()
    for axis in range(d):
        surplus.select(axis, 1).sub_(surplus.select(axis, 0))
    counts = torch.zeros([2] * d, dtype=game.dtype)
    for axis in range(d):
        counts.select(axis, 1).add_(1)
    shares = surplus / counts.clamp(min=1).unsqueeze(-1)
    # Axis 0 is the highest bit, which is the last player.
    parts = [shares.select(axis, 1).reshape(-1, shares.shape[-1]).sum(0) for axis in reversed(range(d))]
    return torch.stack(parts).reshape(d, *game.shape[1:])


def follow_shapley(learner: Any, game: Tensor, d: int, rtol: float | None = EXACT) -> None:
    """Compare a game's Shapley values with those from all orders, or, with many players, from the dividends."""
    got = learner.run(probes.shapley_values, table=game, d=d)
    expected = by_orders(game, d) if d <= 4 else by_dividends(game, d)
    inputs = {"v of the coalitions 0 to 2^d − 1": game, "d": d}
    close(got, expected, where="the Shapley values", inputs=inputs, rtol=rtol, scale=game)


@pytest.mark.exercise("shapley")
def test_shapley_of_two_players(learner, rng):
    """Two players with v = 0, 1, 2, 5 (no one, the first, the second, both) get 2 and 3."""
    follow_shapley(learner, table([0.0, 1.0, 2.0, 5.0]), 2)


@pytest.mark.exercise("shapley")
def test_shapley_where_nothing_is_worth_something(learner, rng):
    """v(no one) = 10 is no one's merit, also with a single player."""
    follow_shapley(learner, table([10.0, 11.0, 12.0, 15.0]), 2)
    follow_shapley(learner, table([10.0, 7.0]), 1)


@pytest.mark.exercise("shapley")
@pytest.mark.points(3)
@pytest.mark.parametrize("d", [3, 4, 6])
def test_shapley_of_random_games(learner, rng, d):
    """Random games of 3, 4 and 6 players get the mean over all orders of arrival."""
    follow_shapley(learner, draw(rng, 2**d), d)


@pytest.mark.exercise("shapley")
@pytest.mark.points(2)
def test_shapley_of_many_games(learner, rng):
    """Further axes of v are further games: (M, 3), (M, 2, 1) and no game at all."""
    for axes in ((3,), (2, 1), (0,)):
        follow_shapley(learner, draw(rng, 8, *axes), 3)


@pytest.mark.exercise("shapley")
def test_shapley_axioms(learner, rng):
    """All is shared out; equal players get the same; a player who adds nothing gets nothing."""
    there = torch.arange(16)[:, None] >> torch.arange(4) & 1  # players 0 and 1 are equal, player 3 adds nothing
    worth = draw(rng, 3, 2)
    game = worth[(there[:, 0] + there[:, 1]), there[:, 2]]
    got = learner.run(probes.shapley_values, table=game, d=4)
    inputs = {"v of the coalitions 0 to 15": game}
    same(_shape(got), [4], where="the shape", inputs=inputs)
    shared, kept = game[-1] - game[0], {"inputs": inputs, "rtol": EXACT, "scale": game}
    close(got.sum(), shared, where="the sum of the values", **kept)
    close(got[0], got[1], where="the first of two equal players", **kept)
    close(got[3], torch.zeros((), dtype=torch.float64), where="the player who adds nothing", **kept)
    holds(bool((got[:3].abs() > 0).all()), "players who add something get something", inputs=inputs, got=got)


@pytest.mark.exercise("shapley")
@pytest.mark.points(2)
def test_shapley_asks_once(learner, rng):
    """Each of the 2^d coalitions is asked for exactly once."""
    game = draw(rng, 16)
    got = learner.run(probes.shapley_questions, table=game, d=4)
    inputs = {"v of the coalitions 0 to 15": game}
    close(got["phi"], by_orders(game, 4), where="the Shapley values", inputs=inputs, rtol=EXACT, scale=game)
    same(got["asked"], [1] * 16, where="how often v was asked for the coalitions 0 to 15", inputs={"d": 4})


@pytest.mark.exercise("shapley")
def test_shapley_of_many_players(learner, rng):
    """With 9 players v = (3 + sum)² shares out w_i · (6 + the sum of all) to each."""
    weights = draw(rng, 9)
    got = learner.run(probes.shapley_of_sums, weights=weights, power=2)
    expected = weights * (6 + weights.sum())
    inputs = {"weights": weights}
    close(got, expected, where="the Shapley values", inputs=inputs, rtol=1e-10, scale=(3 + weights.abs().sum()) ** 2)


@pytest.mark.exercise("shapley")
def test_shapley_of_a_model(learner, rng):
    """Both functions together explain a linear model: weight times (x − baseline), for each row."""
    weights, x, baseline = draw(rng, 3), draw(rng, 4, 3), draw(rng, 3)
    got = learner.run(probes.shapley_of_a_model, weights=[weights], x=x, baseline=baseline)
    expected = torch.einsum("bd,d->db", x - baseline, weights)
    inputs = {"weights": weights, "x": x, "baseline": baseline}
    close(got, expected, where="the Shapley values", inputs=inputs, rtol=EXACT, scale=10.0)


@pytest.mark.exercise("shapley")
def test_shapley_device(learner, rng):
    """The result lies where v's values lie, which may be another device than that of the coalitions."""
    follow_shapley(learner, table([0.0, 1.0, 2.0, 5.0]), 2)
    got = learner.run(probes.shapley_elsewhere, d=3, axes=(2,))
    same(got, {"device": "meta", "shape": [3, 2]}, where="the Shapley values of a game on another device")


@pytest.mark.exercise("shapley")
def test_shapley_in_float32(learner, rng):
    """Values in float32 give Shapley values in float32."""
    game = draw(rng, 8, 2, dtype=torch.float32)
    follow_shapley(learner, game, 3, rtol=1e-5)


# -------------------------------------------------------------------------------- I6 kernel_shap


def follow_regression(
    learner: Any, rng: torch.Generator, game: Tensor, d: int, n: int, rtol: float | None = 1e-10
) -> None:
    """Compare estimates that must be exact with Shapley values from the dividends."""
    got = learner.run(probes.regressed, table=game, d=d, n=n, seed=whole(rng, 0, 10**6))
    inputs = {"v of the coalitions 0 to 2^d − 1": game, "d": d, "n": n}
    close(got, by_dividends(game, d), where="the estimates", inputs=inputs, rtol=rtol, scale=game)


def additive(worth: Tensor, none: float) -> Tensor:
    """Return the table of a game in which each player adds the same to every coalition."""
    d = len(worth)
    there = (torch.arange(2**d)[:, None] >> torch.arange(d) & 1).double()
    return none + torch.tensordot(there, worth, 1)


@pytest.mark.exercise("kernel_shap")
def test_regression_of_small_games(learner, rng):
    """With all coalitions, two, three players and one get their Shapley values; v(no one) is not 0."""
    follow_regression(learner, rng, table([10.0, 11.0, 12.0, 15.0]), 2, 9)
    follow_regression(learner, rng, draw(rng, 8), 3, 20)
    follow_regression(learner, rng, table([10.0, 7.0]), 1, 5)


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(3)
@pytest.mark.parametrize("d", [4, 6, 9])
def test_regression_on_all_coalitions(learner, rng, d):
    """With n = 2^d − 2 or more, estimates are the exact Shapley values, to 1e-10."""
    follow_regression(learner, rng, draw(rng, 2**d), d, 2**d - 2)
    follow_regression(learner, rng, draw(rng, 2**d), d, 2**d + 5)


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(2)
def test_regression_of_many_games(learner, rng):
    """Further axes of v are further games: (M, 3), (M, 2, 2) and (M, 1)."""
    for axes in ((3,), (2, 2), (1,)):
        follow_regression(learner, rng, draw(rng, 16, *axes), 4, 14)
        follow_regression(learner, rng, additive(draw(rng, 6, *axes), 2.0), 6, 60)


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(2)
def test_regression_of_additive_games(learner, rng):
    """Where each player adds the same to every coalition, any sample of coalitions gives the exact values."""
    for d, n in ((5, 29), (8, 60), (8, 120)):
        follow_regression(learner, rng, additive(draw(rng, d), 3.0), d, n)


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(2)
def test_regression_is_efficient(learner, rng):
    """Estimates add up to v(all) − v(none) for any game and any sample."""
    for d, n in ((5, 28), (7, 60)):
        game = draw(rng, 2**d)
        got = learner.run(probes.regressed, table=game, d=d, n=n, seed=whole(rng, 0, 10**6))
        inputs = {"v of the coalitions 0 to 2^d − 1": game, "d": d, "n": n}
        same(_shape(got), [d], where="the shape", inputs=inputs)
        close(got.sum(), game[-1] - game[0], where="the sum of the estimates", inputs=inputs, rtol=1e-8, scale=game)
        holds(bool((got != 0).any()), "the estimates are not all zero", inputs=inputs, got=got)


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(2)
def test_regression_asks_once(learner, rng):
    """No coalition is asked for twice, the empty and the full one are, and beyond these there are at most n."""
    for d, n in ((3, 40), (6, 61), (10, 60)):
        game = additive(draw(rng, d), 1.0)
        got = learner.run(probes.regression_questions, table=game, d=d, n=n, seed=whole(rng, 0, 10**6))
        inputs = {"v of the coalitions 0 to 2^d − 1": game, "d": d, "n": n}
        close(got.pop("phi"), by_dividends(game, d), where="the estimates", inputs=inputs, rtol=1e-8, scale=game)
        same(got, {"most": 1, "ends": True, "too_many": 0}, where="what v was asked", inputs=inputs)


def coalition_law(d: int) -> tuple[Tensor, Tensor]:
    """Return (sizes, probabilities) of the coalitions 0 to 2^d − 1 when they are drawn by the Shapley kernel."""
    sizes = (torch.arange(2**d)[:, None] >> torch.arange(d) & 1).sum(1)
    kernel = [0.0] + [1 / (math.comb(d, s) * s * (d - s)) for s in range(1, d)] + [0.0]
    chances = table(kernel)[sizes]
    return sizes, chances / chances.sum()


@pytest.mark.exercise("kernel_shap")
@pytest.mark.points(4)
@pytest.mark.statistical
def test_regression_on_samples(learner, rng):
    """Over 300 samples of 48, coalitions come as often as the kernel says, and estimates have the right law."""
    d, n, times, trusted = 6, 48, 300, 2000
    sizes, chances = coalition_law(d)
    # Players alone are worth much more, and all but one much less, than in an additive game: a wrong weight shows.
    game, seed = draw(rng, 2**d) + 8 * (sizes == 1) - 6 * (sizes == 5), whole(rng, 0, 10**6)
    got = learner.run(probes.regressed_often, table=game, d=d, n=n, seed=seed, times=times)
    inputs = {"v of the coalitions 0 to 63": game, "d": d, "n": n, "seed": seed}
    phi = got["phi"]
    same(_shape(phi), [times, d], where="the shape", inputs=inputs)
    total = (game[-1] - game[0]).expand(times)
    close(phi.sum(1), total, where="the sums of the estimates", inputs=inputs, rtol=1e-8, scale=game)
    for size in range(1, d):
        mine = sizes == size
        # Whether two coalitions are seen is negatively associated, for which Chernoff's bound holds too.
        found, wanted = float(got["seen"][:, mine].mean()), 1 - float(1 - chances[mine][0]) ** n
        says = f"a coalition of size {size} is among the {n} drawn with this probability"
        odd = seldom(found, wanted, times * int(mine.sum()), d - 1)
        holds(not odd, says, inputs=inputs, got=found, expected=wanted)
    drawn = torch.multinomial(chances.expand(trusted, -1), n, replacement=True, generator=rng)
    fits = many_regressions(drawn, game, d)
    error = (phi.var(0) / times + fits.var(0) / trusted).sqrt()
    apart = float(((phi.mean(0) - fits.mean(0)).abs() / error).max())
    says = "the mean of the estimates is that of the stated regression, within 6 standard errors"
    holds(apart <= 6, says, inputs=inputs, got=phi.mean(0), expected=fits.mean(0))
    ratio = phi.var(0) / fits.var(0)
    says = "the variance of the estimates is that of the stated regression, within a factor of 2.5"
    holds(bool(((ratio > 0.4) & (ratio < 2.5)).all()), says, inputs=inputs, got=ratio)


def many_regressions(drawn: Tensor, game: Tensor, d: int) -> Tensor:
    """Fit every sample of coalitions by Lagrange's conditions, with one row for each draw.

    Args:
        drawn: (samples, n), numbers of coalitions.

    Returns:
        (samples, d).
    """
    Z = (drawn[..., None] >> torch.arange(d) & 1).to(game)
    normal = torch.zeros(len(drawn), d + 1, d + 1, dtype=game.dtype)
    normal[:, :d, :d] = Z.mT @ Z
    normal[:, d, :d] = normal[:, :d, d] = 1
    right = torch.zeros(len(drawn), d + 1, dtype=game.dtype)
    right[:, :d] = torch.einsum("snd,sn->sd", Z, game[drawn] - game[0])
    right[:, d] = game[-1] - game[0]
    return torch.linalg.solve(normal, right)[:, :d]


@pytest.mark.exercise("kernel_shap")
def test_regression_generator(learner, rng):
    """All randomness comes from g: the same seed gives the same estimates, and a second call other ones."""
    game, seed = draw(rng, 2**7), whole(rng, 0, 10**6)
    got = learner.run(probes.regressed_again, table=game, d=7, n=50, seeds=[seed, seed])
    repeats(got, {"v of the coalitions 0 to 127": game, "n": 50})


@pytest.mark.exercise("kernel_shap")
def test_regression_in_float32(learner, rng):
    """Values in float32 give estimates in float32."""
    follow_regression(learner, rng, draw(rng, 16, 2, dtype=torch.float32), 4, 14, rtol=1e-4)
    follow_regression(learner, rng, additive(draw(rng, 6), 1.0).float(), 6, 50, rtol=1e-4)


# -------------------------------------------------------------------------------- I7 lime_tabular


def linear_classes(rng: torch.Generator, d: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw the weights of a function of d features and 3 classes."""
    return [draw(rng, d, 3, dtype=dtype), draw(rng, 3, dtype=dtype)]


def positive(rng: torch.Generator, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw standard deviations between 0.1 and 10."""
    return (10 ** (2 * torch.rand(d, generator=rng, dtype=torch.float64) - 1)).to(dtype)


def linear_models(weights: list[Tensor], x: Tensor, y: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return (slopes times std, f(x)) of a linear function."""
    slope = weights[0].mT[y]
    return slope * std, torch.einsum("bd,bd->b", x, slope) + weights[1][y]


def follow_linear(
    learner: Any, rng: torch.Generator, rows: int, d: int, n: int, width: float, dtype: torch.dtype = torch.float64
) -> None:
    """Compare the local models of a linear function, which every sample gives exactly."""
    weights, x, y, std = linear_classes(rng, d, dtype), draw(rng, rows, d, dtype=dtype), classes(rng, rows, 3), None
    std = positive(rng, d, dtype)
    settings = {"n": n, "width": width, "seed": whole(rng, 0, 10**6)}
    got = learner.run(probes.imitated, kind="linear", weights=weights, x=x, y=y, std=std, **settings)
    expected = linear_models(weights, x, y, std)
    inputs = {"x": x, "y": y, "std": std, **settings}
    size = 10.0 * max(1.0, float(std.max()))
    rtol = 1e-9 if dtype is torch.float64 else 1e-4
    close(got, expected, where="(coefficients, intercepts)", inputs=inputs, rtol=rtol, scale=size)


@pytest.mark.exercise("lime")
@pytest.mark.points(2)
def test_lime_of_a_linear_function(learner, rng):
    """For a linear f every sample gives its slopes times std, and f(x) as the intercept; with 1, 3 and no rows."""
    follow_linear(learner, rng, 1, 2, 30, 1.5)
    follow_linear(learner, rng, 3, 4, 60, 2.0)
    follow_linear(learner, rng, 0, 3, 20, 1.5)


LIME_ROWS, LIME_FEATURES = 50, 4  # so many that all coefficients together are a sample


def recorded_lime(learner: Any, rng: torch.Generator, n: int, width: float) -> tuple[Tensor, dict[str, Any]]:
    """Let the learner explain rows of a softmax, and compare with a fit to the samples that f was asked about.

    Returns:
        ((samples − x) / std (B, n, d), inputs).
    """
    levels = probes.APART * torch.arange(LIME_ROWS, dtype=torch.float64)[:, None]
    x, std = levels + draw(rng, LIME_ROWS, LIME_FEATURES) / 2, positive(rng, LIME_FEATURES)
    weights = linear_classes(rng, LIME_FEATURES)
    weights = [weights[0] / std[:, None], weights[1]]
    y, settings = classes(rng, LIME_ROWS, 3), {"n": n, "width": width, "seed": whole(rng, 0, 10**6)}
    got = learner.run(probes.imitation_points, weights=weights, x=x, y=y, std=std, **settings)
    inputs = {"x": x, "y": y, "std": std, **settings}
    same(_shape(got["points"]), [LIME_ROWS, n, LIME_FEATURES], where="the shape of the samples", inputs=inputs)
    answers = (got["points"] - levels[:, None]) @ weights[0] + weights[1]
    targets = answers.softmax(-1)[torch.arange(LIME_ROWS), :, y]
    noise = (got["points"] - x[:, None]) / std
    weight = torch.exp(-(torch.linalg.vector_norm(noise, dim=-1) ** 2) / width**2)
    Z = torch.nn.functional.pad(noise, (0, 1), value=1.0)
    normal = torch.einsum("bni,bn,bnj->bij", Z, weight, Z)
    fitted = torch.linalg.solve(normal, torch.einsum("bni,bn,bn->bi", Z, weight, targets))
    where = "from the samples that f was asked about, the {}"
    close(got["coefficients"], fitted[:, :-1], where=where.format("coefficients"), inputs=inputs, rtol=1e-6, scale=1.0)
    close(got["intercepts"], fitted[:, -1], where=where.format("intercepts"), inputs=inputs, rtol=1e-6, scale=1.0)
    return noise, inputs


@pytest.mark.exercise("lime")
@pytest.mark.points(3)
@pytest.mark.statistical
@pytest.mark.parametrize("width", [1.2, 3.0], ids=["narrow", "wide"])
def test_lime_weighs_by_proximity(learner, rng, width):
    """The fit is that of weighted least squares on the samples that f was asked about, with the kernel's width."""
    recorded_lime(learner, rng, 80, width)


@pytest.mark.exercise("lime")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_lime_samples(learner, rng):
    """Samples lie around x, each feature with its standard deviation, normally distributed and independent."""
    noise, inputs = recorded_lime(learner, rng, 100, 2.0)
    for row in (0, LIME_ROWS - 1):
        looks_normal(noise[row], f"row {row}'s (sample − x) / std", inputs)
    for feature in range(LIME_FEATURES):
        looks_normal(noise[0, :, feature], f"feature {feature}'s (sample − x) / std in row 0", inputs)


@pytest.mark.exercise("lime")
def test_lime_generator(learner, rng):
    """All randomness comes from g: the same seed gives the same coefficients, and a second call other ones."""
    weights, x, y, seed = linear_classes(rng, 3), draw(rng, 2, 3), classes(rng, 2, 3), whole(rng, 0, 10**6)
    settings = {"std": positive(rng, 3), "n": 20, "width": 2.0, "seeds": [seed, seed]}
    got = learner.run(probes.imitated_again, weights=weights, x=x, y=y, **settings)
    repeats(got, {"x": x, "y": y, **settings})


@pytest.mark.exercise("lime")
def test_lime_in_float32(learner, rng):
    """float32 goes in, and comes out again."""
    follow_linear(learner, rng, 2, 3, 50, 2.0, torch.float32)


@pytest.mark.exercise("lime")
def test_lime_leaves_all_as_it_was(learner, rng):
    """x stays as it was, and no graph hangs on the result, also where f has one."""
    weights, x, y = linear_classes(rng, 3), draw(rng, 2, 3), classes(rng, 2, 3)
    settings = {"y": y, "std": positive(rng, 3), "n": 20, "width": 2.0}
    expected, where = linear_models(weights, x, y, settings["std"]), "(coefficients, intercepts)"
    for asks in (False, True):
        got = learner.run(probes.left_by_imitating, weights=weights, x=x, asks=asks, **settings)
        inputs = {"x": x, "x.requires_grad": asks, **settings}
        close(got.pop("given"), expected, where=where, inputs=inputs, rtol=1e-9, scale=100.0)
        same(got, {"x": untouched(x, asks), "graph": [False, False]}, where="what is left", inputs=inputs)


@pytest.mark.exercise("lime")
def test_lime_device(learner, rng):
    """Whatever is made on the way lies where x lies, and not on the default device."""
    weights, x, y, std = linear_classes(rng, 3), draw(rng, 2, 3), classes(rng, 2, 3), positive(rng, 3)
    got = learner.run(probes.imitated_elsewhere, weights=weights, x=x, y=y, std=std, n=20, width=2.0)
    expected = linear_models(weights, x, y, std)
    inputs = {"x": x, "y": y, "std": std}
    close(got, expected, where="(coefficients, intercepts)", inputs=inputs, rtol=1e-9, scale=100.0)


# ------------------------------------------------------------------------------ I8 visualize_unit


def climbed_alone(model: nn.Module, start: Tensor, unit: int, *, steps: int, lr: float, weight_decay: float) -> Tensor:
    """Return pictures that PyTorch's own SGD climbs to, each alone."""
    ends = []
    for picture in start:
        x = nn.Parameter(picture.clone()[None])
        optimizer = torch.optim.SGD([x], lr=lr, maximize=True)
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x)[0, unit].mean() - weight_decay * torch.linalg.vector_norm(x) ** 2).backward()
            optimizer.step()
        ends.append(x.detach()[0])
    model.zero_grad()
    return torch.stack(ends) if ends else start


def follow_climb(
    learner: Any,
    weights: list[Tensor],
    start: Tensor,
    *,
    depth: int,
    unit: int,
    rtol: float | None = 1e-9,
    **settings: Any,
) -> Tensor:
    """Compare pictures with those that PyTorch's own SGD climbs to, and return them."""
    got = learner.run(probes.climbed, weights=weights, depth=depth, unit=unit, start=start, settings=settings)
    expected = climbed_alone(probes.network(weights)[:depth], start, unit, **settings)
    inputs = {"start": start, "unit": unit, **settings}
    close(got, expected, where="the pictures", inputs=inputs, rtol=rtol, scale=start)
    return got


@pytest.mark.exercise("visualization")
def test_climb_one_step(learner, rng):
    """One step up a linear unit: x + lr · (weights − 2 · weight_decay · x)."""
    weights, start = table([[1.0, -2.0], [3.0, 0.0]]), table([[[[1.0, 2.0]]]])
    settings = {"steps": 1, "lr": 0.5, "weight_decay": 0.25}
    got = learner.run(probes.climbed, weights=[weights], depth=2, unit=1, start=start, settings=settings)
    inputs = {"weights of the unit": weights[1], "start": start, **settings}
    close(got, table([[[[2.25, 1.5]]]]), where="the picture", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("visualization")
def test_climb_no_step(learner, rng):
    """After no step the picture is the start, in memory of its own; no pictures stay none."""
    follow_climb(learner, small_network(rng), pictures(rng, 2), depth=6, unit=1, steps=0, lr=1.0, weight_decay=0.1)
    follow_climb(learner, small_network(rng), pictures(rng, 0), depth=6, unit=1, steps=2, lr=1.0, weight_decay=0.1)


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
@pytest.mark.parametrize("weight_decay", [0.0, 0.05], ids=["free", "penalty"])
def test_climb_a_logit(learner, rng, weight_decay):
    """Several steps up a logit of a network, with and without a penalty, in batches of 1 and 3."""
    for rows in (1, 3):
        weights, start = small_network(rng), pictures(rng, rows)
        follow_climb(
            learner, weights, start, depth=6, unit=whole(rng, 0, 3), steps=4, lr=0.3, weight_decay=weight_decay
        )


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
def test_climb_a_feature_map(learner, rng):
    """A unit of a convolution is the mean of its map."""
    weights, start = small_network(rng), pictures(rng, 2)
    follow_climb(learner, weights, start, depth=3, unit=whole(rng, 0, 3), steps=3, lr=0.5, weight_decay=0.02)


@pytest.mark.exercise("visualization")
def test_climb_raises_the_activation(learner, rng):
    """Eight small steps raise the activation of every picture."""
    weights, start, unit = small_network(rng), pictures(rng, 3), whole(rng, 0, 3)
    settings = {"steps": 8, "lr": 0.02, "weight_decay": 0.0}
    got = follow_climb(learner, weights, start, depth=6, unit=unit, **settings)
    with torch.no_grad():
        before, after = (probes.network(weights)(x)[:, unit] for x in (start, got))
    inputs = {"start": start, "unit": unit, **settings}
    holds(bool((after > before).all()), "the activation is higher at the end", inputs=inputs, got=after - before)


@pytest.mark.exercise("visualization")
def test_climb_dtype_and_memory(learner, rng):
    """float32 goes in and comes out; the start may lie in memory in any order."""
    settings = {"depth": 6, "unit": 0, "lr": 0.3, "weight_decay": 0.02}
    weights, start = small_network(rng, torch.float32), pictures(rng, 2, torch.float32)
    follow_climb(learner, weights, start, rtol=1e-4, steps=1, **settings)
    follow_climb(learner, small_network(rng), pictures(rng, 2).mT, steps=3, **settings)


@pytest.mark.exercise("visualization")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_climb_leaves_all_as_it_was(learner, rng, training):
    """The start, the model's mode and its parameters' gradients stay as they were; no graph hangs on the result."""
    weights, start = small_network(rng), pictures(rng, 2)
    given = {"weights": weights, "start": start, "training": training}
    for steps, asks in ((2, False), (0, False), (2, True), (0, True)):
        settings = {"steps": steps, "lr": 0.1, "weight_decay": 0.1}
        got = learner.run(probes.left_by_climbing, asks=asks, settings=settings, **given)
        model, inputs = probes.network(weights), {"start": start, "training": training, **settings}
        inputs["start.requires_grad"] = asks
        ends = climbed_alone(model, start, 0, **settings)
        close(got.pop("given"), ends, where="the pictures", inputs=inputs, rtol=1e-9, scale=start)
        expected = {"model": left_alone(model, training), "start": untouched(start, asks), "graph": False}
        expected["start afterwards"] = start
        same(got, expected, where="what is left", inputs=inputs)


@pytest.mark.exercise("visualization")
def test_climb_device(learner, rng):
    """Whatever is made on the way lies where the start lies, and not on the default device."""
    weights, start = draw(rng, 2, 6), draw(rng, 2, 1, 2, 3)
    settings = {"steps": 1, "lr": 0.5, "weight_decay": 0.25}
    got = learner.run(probes.climbed_elsewhere, weights=[weights], start=start, settings=settings)
    expected = 0.75 * start + 0.5 * weights[0].reshape(1, 2, 3)
    close(got, expected, where="the pictures", inputs={"start": start, **settings}, rtol=EXACT)


# ---------------------------------------------------------------------------- I8 rank_correlation


def by_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Return rank correlations; a rank is the number of smaller entries, equal ones counting half."""
    parts = []
    for maps in (a, b):
        flat = maps.flatten(1).double()
        ranks = (flat[:, :, None] - flat[:, None]).sign().sum(2) / 2
        parts.append(ranks)
    lengths = torch.linalg.vector_norm(torch.stack(parts), dim=-1).prod(0)
    together = torch.einsum("bi,bi->b", *parts)
    return torch.nan_to_num(together / lengths).to(a.dtype)


def follow_ranks(learner: Any, a: Tensor, b: Tensor, rtol: float | None = EXACT) -> None:
    """Compare correlations with those by pairs."""
    got = learner.rank_correlation(a, b)
    close(got, by_pairs(a, b), where="the correlations", inputs={"a": a, "b": b}, rtol=rtol, scale=1.0)


@pytest.mark.exercise("visualization")
def test_ranks_by_hand(learner, rng):
    """(1, 2, 3, 4) against (10, 20, 40, 30): one pair out of order gives 0.8; against its own cube 1."""
    a, b = table([[1.0, 2.0, 3.0, 4.0]] * 2), table([[10.0, 20.0, 40.0, 30.0], [1.0, 8.0, 27.0, 64.0]])
    close(learner.rank_correlation(a, b), table([0.8, 1.0]), where="the correlations", rtol=EXACT)


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
def test_ranks_of_equal_entries(learner, rng):
    """Equal entries share the mean of their ranks, in either map; zeros are equal to each other."""
    follow_ranks(learner, table([[1.0, 2.0, 2.0, 3.0]]), table([[1.0, 2.0, 3.0, 3.0]]))
    follow_ranks(learner, draw(rng, 3, 12).relu(), draw(rng, 3, 12).relu())
    follow_ranks(learner, draw(rng, 2, 9).round(), draw(rng, 2, 9))


@pytest.mark.exercise("visualization")
def test_ranks_of_constant_maps(learner, rng):
    """A constant map has no order: the correlation is 0."""
    a = draw(rng, 2, 5)
    flat = torch.full((2, 5), 0.1, dtype=torch.float64)
    for first, second in ((a, flat), (flat, a), (flat, flat)):
        got = learner.rank_correlation(first, torch.cat([second[:1], a[1:]]))
        expected = by_pairs(first, torch.cat([second[:1], a[1:]]))
        inputs = {"a": first, "b": torch.cat([second[:1], a[1:]])}
        close(got, expected, where="the correlations", inputs=inputs, rtol=EXACT, scale=1.0)


@pytest.mark.exercise("visualization")
def test_ranks_of_pictures(learner, rng):
    """Maps may be pictures, in any order of memory; each pair is compared alone, in float64 and float32."""
    follow_ranks(learner, draw(rng, 3, 4, 5), draw(rng, 3, 5, 4).mT)
    follow_ranks(learner, draw(rng, 1, 2, 3, 2), draw(rng, 1, 2, 3, 2))
    follow_ranks(learner, draw(rng, 2, 30, dtype=torch.float32), draw(rng, 2, 30, dtype=torch.float32), rtol=None)


# ------------------------------------------------------------------------- I8 randomization_test

ENTRIES = 200  # of each parameter
STACK = ["outer.b", "outer", "inner"]  # a part of `outer`, `outer` with that part, and what lies before


def destroyed(learner: Any, rng: torch.Generator, layers: list[str], training: bool = False) -> tuple[Any, Any, Any]:
    """Let the learner test an explanation, and compare the result with that of the maps which were explained.

    Returns:
        (what came, the parameters at first, inputs).
    """
    sizes = (1.0, 10.0, 0.1)
    values = [size * (draw(rng, ENTRIES) + 1) for size in sizes]
    inputs: dict[str, Any] = {"x": draw(rng, 3, ENTRIES), "layers": layers, "seed": whole(rng, 0, 10**6)}
    got = learner.run(probes.randomized, values=values, training=training, **inputs)
    same(
        _shape(got["parameters"]), [len(layers) + 1, 3, ENTRIES], where="the shape of what was explained", inputs=inputs
    )
    first, *later = got["maps"].abs()
    expected = torch.stack([by_pairs(first, maps) for maps in later])
    where = "the correlations, from the maps that were explained"
    close(got["result"], expected, where=where, inputs=inputs, rtol=1e-9, scale=1.0)
    return got, torch.stack(values), inputs


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_randomization_compares_absolute_maps(learner, rng):
    """Each row compares the maps then with those of the whole network, as absolute values."""
    destroyed(learner, rng, STACK)


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_randomization_cascades(learner, rng):
    """A layer is drawn anew in its turn, with all that it contains, and stays so; the others are as they were."""
    got, values, inputs = destroyed(learner, rng, STACK)
    zero, one, two, three = got["parameters"]
    same(zero, values, where="the parameters of the network explained first", inputs=inputs)
    same(one[[0, 2]], values[[0, 2]], where=f"the parameters outside of {STACK[0]}", inputs=inputs)
    holds(not bool((one[1] == values[1]).any()), f"{STACK[0]} was drawn anew", inputs=inputs, got=one[1])
    same(two[0], values[0], where=f"the parameters outside of {STACK[1]}", inputs=inputs)
    holds(not bool((two[1:] == one[1:]).any()), f"all of {STACK[1]} was drawn anew", inputs=inputs, got=two[1:])
    same(three[1:], two[1:], where=f"what was drawn anew before {STACK[2]}", inputs=inputs)
    holds(not bool((three[0] == values[0]).any()), f"{STACK[2]} was drawn anew", inputs=inputs, got=three[0])


@pytest.mark.exercise("visualization")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_randomization_law(learner, rng):
    """A parameter is drawn from N(0, r²), where r is the root of the mean square of its old entries."""
    got, values, inputs = destroyed(learner, rng, ["inner", "outer"])
    sizes = values.square().mean(1, keepdim=True).sqrt()
    looks_normal(got["parameters"][-1] / sizes, "new parameters over r", inputs)
    for place, name in enumerate(("inner.a", "outer.b.b", "outer.c")):
        looks_normal(got["parameters"][-1][place] / sizes[place], f"the new {name} over r", inputs)


@pytest.mark.exercise("visualization")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_randomization_leaves_all_as_it_was(learner, rng, training):
    """The given network keeps its parameters, their gradients and its mode, which the copy shares; x is x."""
    got, values, inputs = destroyed(learner, rng, STACK, training)
    expected = left_alone(probes.Layered(list(values)), training)
    same(got["model"], expected, where="the network afterwards", inputs=inputs)
    same([got["inputs"], got["explained"]], [True, True], where="x and mode as the explanation saw them", inputs=inputs)


@pytest.mark.exercise("visualization")
def test_randomization_generator(learner, rng):
    """All randomness comes from g: the same seed gives the same correlations, and a second call other ones."""
    values, x, seed = [draw(rng, 30) for _ in range(3)], draw(rng, 2, 30), whole(rng, 0, 10**6)
    got = learner.run(probes.randomized_again, values=values, x=x, layers=["outer"], seeds=[seed, seed])
    repeats(got, {"x": x, "layers": ["outer"]})
