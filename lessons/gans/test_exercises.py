"""What each exercise of lesson 3 must do: one regime in each check, the smallest inputs first.

Three checks draw by chance. Those of `gradient_penalty` compare one distribution (Kolmogorov-Smirnov) and five
means, at thresholds that a right answer passes but once in 10⁸ and 1.7 · 10⁶ times; together they refuse a right answer
less than once in 300 000 gradings. That of `train_gan` leaves room on both sides, where 1.0 is asked for: on twelve
seeds our cure reached distances from 0.45 to 0.63, and the loop without one from 1.78 to 2.32.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrizations

from coursekit.errors import LessonError
from coursekit.grading import close, holds, raises, same
from lessons.gans import probes

EXACT = 1e-12  # float64, after a handful of operations


def draw(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def whole(rng: torch.Generator) -> int:
    """Draw a seed."""
    return int(torch.randint(2**31, (), generator=rng))


def tensor(*numbers: float) -> Tensor:
    """Return a float64 tensor of these numbers."""
    return torch.tensor(numbers, dtype=torch.float64)


# ----------------------------------------------------------------------------------- d_loss, g_loss


def cross_entropy(logits: Tensor, label: float) -> Tensor:
    """Return the mean cross entropy of logits that all have one label, by PyTorch's own function."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def compare_d_loss(learner: Any, real: Tensor, fake: Tensor, rtol: float | None = EXACT) -> None:
    """Compare the discriminator's loss with the sum of two cross entropies, in float64."""
    expected = (cross_entropy(real.double(), 1.0) + cross_entropy(fake.double(), 0.0)).to(real.dtype)
    inputs = {"real_logits": real, "fake_logits": fake}
    close(learner.d_loss(real, fake), expected, where="the loss of D", inputs=inputs, rtol=rtol)


def compare_g_loss(learner: Any, fake: Tensor, *kind: str, rtol: float | None = EXACT) -> None:
    """Compare the generator's loss with a cross entropy, in float64."""
    minimax = kind == ("minimax",)
    expected = -cross_entropy(fake.double(), 0.0) if minimax else cross_entropy(fake.double(), 1.0)
    inputs = {"fake_logits": fake, "kind": kind[0] if kind else "not given"}
    close(learner.g_loss(fake, *kind), expected.to(fake.dtype), where="the loss of G", inputs=inputs, rtol=rtol)


@pytest.mark.exercise("losses")
def test_d_loss_of_two_numbers(learner, rng):
    """One real and one generated sample: logits of zero give 2 · log 2, and a right D less than a wrong one."""
    compare_d_loss(learner, tensor(0.0), tensor(0.0))
    compare_d_loss(learner, tensor(2.0), tensor(-1.0))


@pytest.mark.exercise("losses")
def test_d_loss_of_unequal_batches(learner, rng):
    """Each kind of sample has its own mean, also where there are more of one kind."""
    compare_d_loss(learner, draw(rng, 3), draw(rng, 5))
    compare_d_loss(learner, draw(rng, 1), draw(rng, 4))


@pytest.mark.exercise("losses")
def test_d_loss_of_any_shape(learner, rng):
    """Columns, flat logits, both together, and maps of logits are all fine."""
    compare_d_loss(learner, draw(rng, 4, 1), draw(rng, 4, 1))
    compare_d_loss(learner, draw(rng, 4, 1), draw(rng, 4))
    compare_d_loss(learner, draw(rng, 2, 1, 3, 2), draw(rng, 3, 1, 3, 2).mT)


@pytest.mark.exercise("losses")
def test_d_loss_of_large_logits(learner, rng):
    """Where D is sure and wrong, the loss is as large as the logit, and not infinite."""
    compare_d_loss(learner, tensor(-200.0, 200.0).float(), tensor(200.0, -200.0, 200.0).float(), rtol=1e-6)
    compare_d_loss(learner, tensor(-1000.0), tensor(3.0))
    compare_d_loss(learner, tensor(3.0), tensor(1000.0, 900.0))


@pytest.mark.exercise("losses")
def test_d_loss_keeps_the_dtype(learner, rng):
    """float32 and bfloat16 go in, and come out again."""
    for dtype in (torch.float32, torch.bfloat16):
        compare_d_loss(learner, draw(rng, 4, dtype=dtype), draw(rng, 6, dtype=dtype), rtol=None)


@pytest.mark.exercise("losses")
def test_d_loss_slopes(learner, rng):
    """The slope is (σ − label) / N by each logit, also for large ones."""
    real, fake = torch.cat([draw(rng, 3), tensor(-300.0)]), torch.cat([draw(rng, 1), tensor(300.0)])
    _, slopes = learner.gradients("d_loss", real, fake, wrt=(0, 1))
    expected = ((real.sigmoid() - 1) / len(real), fake.sigmoid() / len(fake))
    close(slopes, expected, where="the gradients by both arguments", inputs={"real": real, "fake": fake}, rtol=EXACT)


@pytest.mark.exercise("losses")
def test_g_loss_of_a_number(learner, rng):
    """One generated sample: logits of zero give log 2 and −log 2; without a kind, non-saturating is meant."""
    for logit in (0.0, -1.5):
        compare_g_loss(learner, tensor(logit), "non_saturating")
        compare_g_loss(learner, tensor(logit), "minimax")
        compare_g_loss(learner, tensor(logit))


KINDS = pytest.mark.parametrize("kind", ["non_saturating", "minimax"], ids=["non-saturating", "minimax"])


@pytest.mark.exercise("losses")
@KINDS
def test_g_loss_of_any_shape(learner, rng, kind):
    """The mean is over all elements, whatever the shape and the dtype."""
    for shape in ((5,), (5, 1), (2, 1, 3, 2)):
        compare_g_loss(learner, draw(rng, *shape).mT if len(shape) > 2 else draw(rng, *shape), kind)
    for dtype in (torch.float32, torch.bfloat16):
        compare_g_loss(learner, draw(rng, 6, dtype=dtype), kind, rtol=None)


@pytest.mark.exercise("losses")
@KINDS
def test_g_loss_of_large_logits(learner, rng, kind):
    """Large logits of either sign give a finite loss."""
    compare_g_loss(learner, tensor(-200.0, 200.0).float(), kind, rtol=1e-6)
    compare_g_loss(learner, tensor(-1000.0, 1000.0, 900.0), kind)


@pytest.mark.exercise("losses")
@KINDS
def test_g_loss_slopes(learner, rng, kind):
    """Where D is sure, non-saturating keeps its slope, and minimax has lost it."""
    fake = torch.cat([draw(rng, 3), tensor(-300.0)])
    expected = fake.sigmoid() - 1 if kind == "non_saturating" else -fake.sigmoid()
    _, (slope,) = learner.gradients("g_loss", fake, kind)
    inputs = {"fake_logits": fake, "kind": kind}
    close(slope, expected / len(fake), where="the gradient by the logits", inputs=inputs, rtol=EXACT)


@pytest.mark.exercise("losses")
def test_g_loss_of_an_unknown_kind(learner, rng):
    """A kind that is neither of the two is refused, and the two are not."""
    compare_g_loss(learner, tensor(1.0), "minimax")
    for kind in ("wasserstein", "", "Minimax"):
        raises(partial(learner.g_loss, tensor(1.0), kind), ValueError, where=f"g_loss with kind {kind!r}")


# --------------------------------------------------------------------------- ls_losses, hinge_losses


def expected_pair(name: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return (d, g) of one of the two families, by PyTorch's own loss functions, in float64."""
    real, fake = real.double(), fake.double()
    if name == "ls_losses":
        halves = [F.mse_loss(x, torch.full_like(x, label)) / 2 for x, label in ((real, 1), (fake, 0), (fake, 1))]
        return halves[0] + halves[1], halves[2]
    # margin_ranking_loss(a, b, y, margin) is the mean of max(0, margin − y · (a − b)).
    sides = [
        F.margin_ranking_loss(x, torch.zeros_like(x), torch.full_like(x, y), margin=1.0)
        for x, y in ((real, 1), (fake, -1))
    ]
    return sides[0] + sides[1], fake.mean().neg()


def compare_pair(learner: Any, name: str, real: Tensor, fake: Tensor, rtol: float | None = EXACT) -> None:
    """Compare both losses."""
    expected = tuple(part.to(real.dtype) for part in expected_pair(name, real, fake))
    got = getattr(learner, name)(real, fake)
    inputs = {"real_scores": real, "fake_scores": fake}
    close(got, expected, where="(d, g)", inputs=inputs, rtol=rtol, scale=(None, fake.double().abs().mean()))


FAMILIES = pytest.mark.parametrize("name", ["ls_losses", "hinge_losses"], ids=["least-squares", "hinge"])


@pytest.mark.exercise("other_losses")
@FAMILIES
def test_pair_of_two_numbers(learner, rng, name):
    """One real and one generated sample, on either side of every label and margin."""
    for real in (0.25, 2.5, -1.5):
        for fake in (0.25, 2.5, -1.5):
            compare_pair(learner, name, tensor(real), tensor(fake))


@pytest.mark.exercise("other_losses")
@FAMILIES
def test_pair_of_unequal_batches(learner, rng, name):
    """Each kind of sample has its own mean, also where there are more of one kind."""
    compare_pair(learner, name, 2 * draw(rng, 3), 2 * draw(rng, 5))
    compare_pair(learner, name, 2 * draw(rng, 4), 2 * draw(rng, 1))


@pytest.mark.exercise("other_losses")
@FAMILIES
def test_pair_of_any_shape(learner, rng, name):
    """Columns, flat scores, both together, and maps of scores are all fine."""
    compare_pair(learner, name, draw(rng, 4, 1), draw(rng, 4, 1))
    compare_pair(learner, name, draw(rng, 4, 1), draw(rng, 4))
    compare_pair(learner, name, draw(rng, 2, 1, 3, 2), draw(rng, 3, 1, 3, 2).mT)


@pytest.mark.exercise("other_losses")
@FAMILIES
def test_pair_keeps_the_dtype(learner, rng, name):
    """float32 and bfloat16 go in, and come out again."""
    for dtype in (torch.float32, torch.bfloat16):
        compare_pair(learner, name, draw(rng, 4, dtype=dtype), draw(rng, 6, dtype=dtype), rtol=None)


@pytest.mark.exercise("other_losses")
@FAMILIES
def test_pair_slopes(learner, rng, name):
    """The slopes by both kinds of scores are those of the formulas."""
    real, fake = 2 * draw(rng, 5), 2 * draw(rng, 3)
    got = learner.run(probes.slopes_of_pair, name=name, real=real, fake=fake)
    leaves = [real.clone().requires_grad_(), fake.clone().requires_grad_()]
    d, g = expected_pair(name, *leaves)
    of_d = torch.autograd.grad(d, leaves, retain_graph=True)
    expected = {"d by real": of_d[0], "d by fake": of_d[1], "g by fake": torch.autograd.grad(g, leaves[1])[0]}
    close(got, expected, where="the gradients", inputs={"real_scores": real, "fake_scores": fake}, rtol=EXACT)


# --------------------------------------------------------------------------------------- gan_step


def two_networks(rng: torch.Generator, column: bool = False) -> dict[str, Any]:
    """Draw weights of a generator 2 → 3 and a discriminator 3 → 4 → 1."""
    outer = draw(rng, 4, 1) if column else draw(rng, 4)
    return {"drawing": draw(rng, 2, 3), "judging": [draw(rng, 3, 4), outer]}


def played(weights: dict[str, Any], reals: list[Tensor], noise: list[Tensor], lr: float) -> list[dict[str, Any]]:
    """Play the game by its definition; return for each step both losses, G's gradient, and the weights after it."""
    drawing, judging = weights["drawing"], weights["judging"]

    def score(samples: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        return torch.tanh(samples @ inner) @ outer

    def of_judge(inner: Tensor, outer: Tensor, real: Tensor, made: Tensor) -> Tensor:
        parts = (score(real, inner, outer), 1.0), (score(made, inner, outer), 0.0)
        return torch.stack([cross_entropy(*part) for part in parts]).sum()

    def of_maker(weight: Tensor, judge: list[Tensor], latent: Tensor) -> Tensor:
        return cross_entropy(score(torch.tanh(latent @ weight), *judge), 1.0)

    history, left = [], iter(noise)
    for real in reals:
        made = torch.tanh(next(left) @ drawing)
        slopes, d = torch.func.grad_and_value(of_judge, argnums=(0, 1))(*judging, real, made)
        judging = [weight - lr * slope for weight, slope in zip(judging, slopes, strict=True)]
        slope, g = torch.func.grad_and_value(of_maker)(drawing, judging, next(left))
        drawing = drawing - lr * slope
        history.append({"losses": (d, g), "slope": slope, "G": [drawing], "D": judging, "D slopes": list(slopes)})
    return history


def play(learner: Any, rng: torch.Generator, rows: list[int], column: bool = False, **settings: Any) -> Any:
    """Let the learner take one step for each number of rows; return what came, what should have, and the inputs."""
    weights = two_networks(rng, column)
    reals, noise = [draw(rng, n, 3) for n in rows], [draw(rng, n, 2) for n in rows for _ in range(2)]
    got = learner.run(probes.gan_steps, **weights, reals=reals, noise=noise, lr=0.5, **settings)
    shown = {"real": reals, "z": noise, "lr": 0.5, **weights, **settings}
    return got, played(weights, reals, noise, 0.5), shown


def compare_networks(got: Any, expected: list[dict[str, Any]], shown: dict[str, Any]) -> None:
    """Compare the weights of both networks after the last step."""
    after = {name: got[name][-1] for name in ("D", "G")}
    wanted = {name: expected[-1][name] for name in ("D", "G")}
    close(after, wanted, where="the weights after the last step", inputs=shown, rtol=1e-11)


@pytest.mark.exercise("step")
@pytest.mark.points(2)
def test_step_moves_d(learner, rng):
    """D's step goes down the gradient of D's own loss."""
    got, expected, shown = play(learner, rng, [3])
    close(got["D"][0], expected[0]["D"], where="D's weights after the step", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("step")
@pytest.mark.points(2)
def test_step_moves_g(learner, rng):
    """G's step goes down the non-saturating loss, as the D of after its step sees new noise."""
    got, expected, shown = play(learner, rng, [3])
    close(got["G"][0], expected[0]["G"], where="G's weights after the step", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("step")
def test_step_asks_for_noise_twice(learner, rng):
    """Noise is drawn once for D's step and once for G's, as many rows as there are real samples."""
    got, expected, shown = play(learner, rng, [3, 5])
    same(got["asked"], [3, 3, 5, 5], where="the rows that z was asked for", inputs=shown)
    compare_networks(got, expected, shown)


@pytest.mark.exercise("step")
def test_step_takes_turns(learner, rng):
    """D steps first, then G, each once."""
    got, expected, shown = play(learner, rng, [2, 2])
    same(got["order"], ["D", "G", "D", "G"], where="whose optimizer stepped", inputs=shown)
    compare_networks(got, expected, shown)


@pytest.mark.exercise("step")
def test_step_of_d_leaves_g_alone(learner, rng):
    """When D is about to step, G has its old weights, and no gradient was added to its own."""
    got, expected, shown = play(learner, rng, [3])
    seen = got["at D"][0]
    close(seen["G values"], [shown["drawing"]], where="G's weights at D's step", inputs=shown, rtol=EXACT)
    same(seen["G gradients"], [None], where="G's gradients at D's step", inputs=shown)
    close(seen["D gradients"], expected[0]["D slopes"], where="D's gradients at D's step", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("step")
def test_step_of_g_leaves_d_alone(learner, rng):
    """When G is about to step, and after it, D has the weights of after its own step; G has its own gradient."""
    got, expected, shown = play(learner, rng, [3])
    seen = got["at G"][0]
    close(seen["D values"], expected[0]["D"], where="D's weights at G's step", inputs=shown, rtol=EXACT)
    close(seen["G gradients"], [expected[0]["slope"]], where="G's gradients at G's step", inputs=shown, rtol=EXACT)
    close(got["D"][0], expected[0]["D"], where="D's weights after G's step", inputs=shown, rtol=EXACT)


@pytest.mark.exercise("step")
@pytest.mark.points(3)
def test_steps_do_not_leak(learner, rng):
    """Over several steps, no gradient of one step or one network enters another."""
    got, expected, shown = play(learner, rng, [3, 3, 3, 3])
    for name in ("D", "G"):
        wanted = [step[name] for step in expected]
        close(got[name], wanted, where=f"{name}'s weights after each step", inputs=shown, rtol=1e-10)


@pytest.mark.exercise("step")
def test_step_forgets_old_gradients(learner, rng):
    """Gradients that the networks hold from before do not count."""
    compare_networks(*play(learner, rng, [3], leftover=7.0))


@pytest.mark.exercise("step")
def test_step_of_columns_and_single_rows(learner, rng):
    """Logits (N, 1) work as (N,) do, and so does a single row, in evaluation mode too."""
    for rows, column in (([4, 2], True), ([1], True), ([1], False)):
        compare_networks(*play(learner, rng, rows, column, training=False))


@pytest.mark.exercise("step")
@pytest.mark.points(2)
def test_step_returns_the_losses(learner, rng):
    """What comes back are both losses, D's first, as they were before each one's step, without a graph."""
    got, expected, shown = play(learner, rng, [3, 2])
    close(got["losses"], [step["losses"] for step in expected], where="the losses", inputs=shown, rtol=1e-11)
    holds(not got["graph"], "the losses come without a graph, which would keep its memory", inputs=shown)


@pytest.mark.exercise("step")
def test_step_leaves_the_networks_open(learner, rng):
    """Afterwards both networks are in the mode they were in, and no parameter is frozen."""
    for training in (True, False):
        got, expected, shown = play(learner, rng, [3], training=training)
        same(got["modes"], [training, training], where="the training modes of G and D afterwards", inputs=shown)
        same(got["open"], [True, True, True], where="whether each parameter wants gradients afterwards", inputs=shown)
        compare_networks(got, expected, shown)


# ------------------------------------------------------------------------------- gradient_penalty


def critic_score(kind: str, weights: list[Tensor], x: Tensor) -> Tensor:
    """Return the score of one flat sample."""
    return weights[0] @ x if kind == "linear" else torch.tanh(x @ weights[0]) @ weights[1]


def expected_penalty(kind: str, weights: list[Tensor], points: Tensor, lam: float) -> tuple[Tensor, list[Tensor]]:
    """Return the penalty at given points (n, ...), each by itself, and its gradients by the weights."""

    def value(*given: Tensor) -> Tensor:
        slopes = torch.func.vmap(torch.func.jacrev(lambda x: critic_score(kind, list(given), x)))(points.flatten(1))
        return lam * F.mse_loss(slopes.pow(2).sum(-1).pow(0.5), slopes.new_ones(len(slopes)))

    gradients, result = torch.func.grad_and_value(value, argnums=tuple(range(len(weights))))(*weights)
    return result, list(gradients)


def compare_penalty(
    learner: Any,
    rng: torch.Generator,
    kind: str,
    real: Tensor,
    fake: Tensor,
    lam: float,
    weights: list[Tensor],
    rtol: float | None = 1e-11,
    column: bool = False,
) -> None:
    """Compare the penalty and its gradients, where both are the same for every ε."""
    got = learner.run(
        probes.penalty, real=real, fake=fake, lam=lam, seed=whole(rng), kind=kind, weights=weights, column=column
    )
    value, gradients = expected_penalty(kind, [weight.double() for weight in weights], real.double(), lam)
    shown = {"D": kind, "weights of D": weights, "real": real, "fake": fake, "lam": lam}
    dtype = real.dtype
    close(got["penalty"], value.to(dtype), where="the penalty", inputs=shown, rtol=rtol)
    wanted = [gradient.to(dtype) for gradient in gradients]
    where = "the gradients of the penalty by D's weights"
    # A small difference from 1 is multiplied by a slope of this size.
    close(got["gradients"], wanted, where=where, inputs=shown, rtol=rtol, scale=[lam] * len(wanted))
    holds(not got["touched"], "computing the penalty leaves every .grad as it was", inputs=shown)


@pytest.mark.exercise("penalty")
@pytest.mark.points(2)
def test_penalty_of_a_linear_critic(learner, rng):
    """The critic D(x) = a · x has the penalty lam · (‖a‖ − 1)², whatever the samples are."""
    a = tensor(3.0, 4.0)
    compare_penalty(learner, rng, "linear", draw(rng, 1, 2), draw(rng, 1, 2), 10.0, [a])
    compare_penalty(learner, rng, "linear", draw(rng, 5, 2), draw(rng, 5, 2), 0.5, [a / 20])


@pytest.mark.exercise("penalty")
@pytest.mark.points(2)
def test_penalty_of_each_sample(learner, rng):
    """Every sample has a gradient, and a norm, of its own; where real equals generated, ε does not matter."""
    samples, weights = draw(rng, 4, 3), [draw(rng, 3, 5), draw(rng, 5)]
    compare_penalty(learner, rng, "smooth", samples, samples.clone(), 2.0, weights)


@pytest.mark.exercise("penalty")
@pytest.mark.points(2)
def test_penalty_of_images(learner, rng):
    """The norm runs over channels, height and width together, also where the memory is not in order."""
    images, weights = draw(rng, 3, 2, 4, 2), [draw(rng, 16, 5), draw(rng, 5)]
    compare_penalty(learner, rng, "smooth", images, images.clone(), 10.0, weights)
    turned = images.mT
    compare_penalty(learner, rng, "smooth", turned, turned, 10.0, weights)
    compare_penalty(learner, rng, "linear", images, draw(rng, 3, 2, 4, 2), 10.0, [draw(rng, 16)])


@pytest.mark.exercise("penalty")
def test_penalty_of_columns_and_single_rows(learner, rng):
    """Scores (N, 1) work as (N,) do, and so does a single sample."""
    weights = [draw(rng, 3, 5), draw(rng, 5)]
    for rows, column in ((4, True), (1, True), (1, False)):
        samples = draw(rng, rows, 3)
        compare_penalty(learner, rng, "smooth", samples, samples.clone(), 10.0, weights, column=column)


@pytest.mark.exercise("penalty")
def test_penalty_keeps_the_device(learner, rng):
    """ε is drawn on the samples' device, whatever the default one is."""
    samples, weights = draw(rng, 3, 4), [draw(rng, 4, 5), draw(rng, 5)]
    inputs = {"real": samples, "fake": samples.clone(), "lam": 10.0, "weights": weights}
    got = learner.run(probes.penalty_elsewhere, **inputs, seed=whole(rng))
    value, _ = expected_penalty("smooth", weights, samples, 10.0)
    close(got, value, where="the penalty, where the default device is another", inputs=inputs, rtol=1e-11)


@pytest.mark.exercise("penalty")
def test_penalty_keeps_the_dtype(learner, rng):
    """float32 and bfloat16 go in, and come out again."""
    coarse = [torch.tensor([3.0, 4.0], dtype=torch.bfloat16)]
    compare_penalty(learner, rng, "linear", draw(rng, 2, 2).bfloat16(), draw(rng, 2, 2).bfloat16(), 10.0, coarse, None)
    images, weights = draw(rng, 3, 2, 4), [draw(rng, 8, 5), draw(rng, 5)]
    single = [weight.float() for weight in weights]
    compare_penalty(learner, rng, "smooth", images.float(), images.float(), 10.0, single, rtol=1e-4)


@pytest.mark.exercise("penalty")
def test_penalty_where_the_critic_is_flat(learner, rng):
    """A critic without slope has the penalty lam, and gradients that are numbers."""
    samples, weights = draw(rng, 3, 2), [draw(rng, 2, 4), draw(rng, 4)]
    got = learner.run(
        probes.penalty, real=samples, fake=draw(rng, 3, 2), lam=10.0, seed=whole(rng), kind="dead", weights=weights
    )
    expected = {"penalty": tensor(10.0)[0], "gradients": [torch.zeros_like(one) for one in weights], "touched": False}
    close(got, expected, where="the penalty of a flat critic and its gradients", inputs={"real": samples, "lam": 10.0})


@pytest.mark.exercise("penalty")
def test_penalty_holds_samples_constant(learner, rng):
    """No gradient reaches the samples, nor the generator behind them."""
    samples, weights = draw(rng, 3, 2), [draw(rng, 2, 4), draw(rng, 4)]
    inputs = {"real": samples, "fake": samples.clone(), "lam": 10.0, "weights": weights}
    got = learner.run(probes.penalty_with_graphs, **inputs, seed=whole(rng))
    same(got["reached"], [False, False], where="whether a gradient reached real and fake", inputs=inputs)
    value, _ = expected_penalty("smooth", weights, samples, 10.0)
    close(got["penalty"], value, where="the penalty", inputs=inputs, rtol=1e-11)


@pytest.mark.exercise("penalty")
def test_penalty_refuses_batch_norm(learner, rng):
    """A BatchNorm in training mode is refused; in evaluation mode, and with LayerNorm, there is a penalty."""
    images, rows = draw(rng, 3, 2, 4, 2), draw(rng, 4, 3)
    for layer, samples in (("BatchNorm2d", images), ("BatchNorm1d", rows)):
        inputs = {"layer": layer, "samples": samples, "lam": 10.0, "seed": whole(rng)}
        with_layer = f"gradient_penalty of a critic with {layer} in training mode"
        call = partial(learner.run, probes.penalty_with_norm, **inputs, training=True)
        raises(call, ValueError, where=with_layer)
    inputs = {"layer": "BatchNorm1d", "samples": rows, "lam": 10.0, "seed": whole(rng)}
    got = learner.run(probes.penalty_with_norm, **inputs, training=False)
    # In evaluation mode a new BatchNorm divides by √(1 + 1e-5), and the critic is weight · tanh(x / √(1 + 1e-5)).
    shrink = (1 + 1e-5) ** -0.5
    slopes = got["weight"] * shrink * (1 - torch.tanh(rows * shrink).square())
    expected = 10 * F.mse_loss(slopes.norm(dim=1), torch.ones_like(slopes[:, 0]))
    close(got["penalty"], expected, where="the penalty of a critic in evaluation mode", inputs=inputs, rtol=1e-10)
    inputs["layer"] = "LayerNorm"
    found = learner.run(probes.penalty_with_norm, **inputs, training=True)["penalty"]
    holds(type(found) is Tensor and found.isfinite().all(), "a critic with LayerNorm has a penalty", inputs=inputs)


@pytest.mark.exercise("penalty")
def test_penalty_follows_its_generator(learner, rng):
    """The same generator gives the same penalty, whatever PyTorch's global one does; another gives another."""
    real, fake = 2 + draw(rng, 3, 4).abs(), 5 + draw(rng, 3, 4).abs()
    seed = whole(rng)
    inputs = {"real": real, "fake": fake, "lam": 10.0, "seeds": [seed, seed, seed + 1], "times": 2}
    first = learner.run(probes.penalties, **inputs, noise=1)
    second = learner.run(probes.penalties, **inputs, noise=2)
    same(second, first, where="the penalties, after PyTorch's global generator was seeded otherwise", inputs=inputs)
    same(first[1], first[0], where="the penalties of a second generator with the same seed", inputs=inputs)
    drawn = torch.stack([first[0][0], first[0][1], first[2][0]])
    holds(len(drawn.unique()) == 3, "each call draws new ε, and so does another seed", inputs=inputs, got=drawn)


# D(x) = ½ · ‖x‖² has the norm ‖x̂‖; with real = 2/√d and fake = 5/√d in every pixel, that is 2 + 3 · (1 − ε), if there
# is one ε for all pixels. Both ends lie above 1, so that the penalty tells ε.
NEAR, FAR = 2.0, 5.0


def ends(rows: int, *shape: int) -> dict[str, Tensor]:
    """Return real and generated samples, all alike, of length 2 and 5."""
    pixels = math.prod(shape)
    return {
        "real": torch.full((rows, *shape), NEAR / math.sqrt(pixels), dtype=torch.float64),
        "fake": torch.full((rows, *shape), FAR / math.sqrt(pixels), dtype=torch.float64),
    }


@pytest.mark.exercise("penalty")
@pytest.mark.points(2)
@pytest.mark.statistical
def test_penalty_draws_points_between(learner, rng):
    """The points lie on the line from real to generated, evenly spread: one ε, uniform, for all pixels of a sample.

    Kolmogorov-Smirnov over 300 samples, with a threshold that uniform draws exceed with probability 1e-8.
    """
    inputs = {**ends(1, 2, 3, 3), "lam": 1.0, "seeds": [whole(rng)], "times": 300}
    (found,) = learner.run(probes.penalties, **inputs, noise=whole(rng))
    lengths = 1 + torch.stack(found).sqrt()
    places = ((lengths - NEAR) / (FAR - NEAR)).sort().values
    even = torch.linspace(0, 1, len(places) + 1, dtype=torch.float64)
    distance = torch.maximum(even[1:] - places, places - even[:-1]).max()
    allowed = math.sqrt(math.log(2 / 1e-8) / (2 * len(places)))
    shown = {"real": "length 2", "fake": "length 5", "D": "½ · ‖x‖²"}
    says = f"‖x̂‖ is uniform from 2 to 5 (Kolmogorov-Smirnov distance at most {allowed:.3f})"
    holds(distance <= allowed, says, inputs=shown, got=distance)


@pytest.mark.exercise("penalty")
@pytest.mark.statistical
def test_penalty_draws_for_each_sample(learner, rng):
    """Every sample of a batch has an ε of its own, so that the mean over 200 of them hardly varies.

    Five means, each within 5 standard errors: (L − 1)² for L uniform on [2, 5] has the mean 7 and the variance 19.2.
    """
    inputs = {**ends(200, 2), "lam": 1.0, "seeds": [whole(rng)], "times": 5}
    (found,) = learner.run(probes.penalties, **inputs, noise=whole(rng))
    means = torch.stack(found)
    error = math.sqrt(19.2 / 200)
    shown = {"real": "200 samples of length 2", "fake": "200 samples of length 5", "D": "½ · ‖x‖²", "lam": 1.0}
    says = f"each penalty is 7 within {5 * error:.2f}"
    holds(means.shape == (5,) and bool(((means - 7).abs() <= 5 * error).all()), says, inputs=shown, got=means)


# ----------------------------------------------------------------------------------- SpectralNorm


def with_spectrum(rng: torch.Generator, rows: int, columns: int) -> Tensor:
    """Draw a matrix with the singular values 3, 2, 1, ½, ..., so that the power method is quick."""
    size = min(rows, columns)
    left = torch.linalg.qr(draw(rng, rows, size)).Q
    right = torch.linalg.qr(draw(rng, columns, size)).Q
    values = torch.cat([tensor(3.0, 2.0), 0.5 ** torch.arange(size - 2, dtype=torch.float64)])
    return left @ torch.diag(values[:size]) @ right.mT


def unit(rng: torch.Generator, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw a direction."""
    return F.normalize(draw(rng, size), dim=0).to(dtype)


def start(rng: torch.Generator, weight: Tensor) -> dict[str, Tensor]:
    """Draw buffers for a weight."""
    rows = weight.shape[0]
    return {"weight": weight, "u": unit(rng, rows, weight.dtype), "v": unit(rng, weight[0].numel(), weight.dtype)}


def reference(weight: Tensor, u: Tensor, v: Tensor, **settings: Any) -> Any:
    """Return PyTorch's own module with these buffers."""
    module = parametrizations._SpectralNorm(weight, **settings)
    module._u.copy_(u)
    module._v.copy_(v)
    return module


def compare_divided(
    learner: Any, given: dict[str, Tensor], forwards: list[bool], rtol: float | None = 1e-11, **settings: Any
) -> Any:
    """Compare outputs and buffers of some forwards with PyTorch's; return what came."""
    got = learner.run(probes.divided, **given, forwards=forwards, **settings)
    module = reference(**given, **settings)
    expected: dict[str, list[Tensor]] = {"outputs": [], "u": [], "v": []}
    for training in forwards:
        module.train(training)
        expected["outputs"].append(module(given["weight"]).detach())
        expected["u"].append(module._u.clone())
        expected["v"].append(module._v.clone())
    shown = {**given, "forwards": ["training" if training else "evaluation" for training in forwards], **settings}
    for part in ("outputs", "u", "v"):
        close(got[part], expected[part], where=f"{part} after each forward", inputs=shown, rtol=rtol)
    return got


@pytest.mark.exercise("spectral")
def test_spectral_begins(learner, rng):
    """A new module has a u of length 1 with entries of both signs, another each time, and v from it."""
    weight = draw(rng, 4, 2, 3)
    pairs = learner.run(probes.fresh_buffers, weight=weight, times=40)
    for u, v in pairs:
        close(u.norm(), tensor(1.0)[0], where="the length of a new u", inputs={"weight": weight}, rtol=EXACT)
        expected = F.normalize(weight.flatten(1).T.mv(u), dim=0)
        close(v, expected, where="a new v", inputs={"weight": weight}, rtol=1e-10)
    drawn = torch.stack([u for u, _ in pairs])
    holds(len(drawn.unique(dim=0)) == len(drawn), "every new module draws another u", got=drawn)
    # 160 numbers that are normal, and so of one sign, or beyond their length, with probability 2⁻¹⁶⁰.
    holds(drawn.min() < 0 < drawn.max(), "u has entries of both signs", got=drawn)
    compare_divided(learner, start(rng, weight), [True])


@pytest.mark.exercise("spectral")
def test_spectral_of_a_tiny_weight(learner, rng):
    """Lengths below eps are taken as eps, at the beginning and later; eps can be chosen."""
    tiny = 1e-13 * draw(rng, 3, 4)
    ((u, v),) = learner.run(probes.fresh_buffers, weight=tiny, times=1)
    expected = tiny.T.mv(u) / 1e-12
    close(v, expected, where="a new v", inputs={"weight": tiny}, rtol=1e-9)
    ((u, v),) = learner.run(probes.fresh_buffers, weight=tiny, times=1, eps=0.5)
    close(v, tiny.T.mv(u) / 0.5, where="a new v", inputs={"weight": tiny, "eps": 0.5}, rtol=1e-9)
    compare_divided(learner, start(rng, tiny), [True])
    compare_divided(learner, start(rng, draw(rng, 3, 4)), [True, True], eps=10.0)


@pytest.mark.exercise("spectral")
@pytest.mark.points(2)
def test_spectral_of_a_matrix(learner, rng):
    """One forward from given u and v divides by the σ of one iteration; matrices may be tall or wide."""
    for shape in ((2, 3), (5, 2)):
        compare_divided(learner, start(rng, draw(rng, *shape)), [True])


@pytest.mark.exercise("spectral")
@pytest.mark.points(2)
def test_spectral_of_a_convolution(learner, rng):
    """A convolution's weight counts as the matrix (out, everything else)."""
    compare_divided(learner, start(rng, draw(rng, 3, 2, 2, 3)), [True, True])
    compare_divided(learner, start(rng, draw(rng, 2, 4, 3)), [True, True])


@pytest.mark.exercise("spectral")
def test_spectral_of_several_iterations(learner, rng):
    """Each forward in training mode goes on where the last one ended, by n_power_iterations."""
    given = start(rng, draw(rng, 4, 3))
    compare_divided(learner, given, [True, True, True])
    compare_divided(learner, given, [True, True], n_power_iterations=3)


@pytest.mark.exercise("spectral")
def test_spectral_reaches_one(learner, rng):
    """After 50 forwards the largest singular value of what comes out is 1."""
    weight = with_spectrum(rng, 6, 4).reshape(6, 2, 2)
    given = start(rng, weight)
    got = learner.run(probes.divided, **given, forwards=[True] * 50)
    largest = torch.linalg.matrix_norm(got["outputs"][-1].reshape(6, 4), ord=2)
    close(largest, tensor(1.0)[0], where="the largest singular value", inputs=given, rtol=1e-9)


@pytest.mark.exercise("spectral")
@pytest.mark.points(2)
def test_spectral_rests_in_evaluation(learner, rng):
    """In evaluation mode u and v stay as they are, and the same weight gives the same output."""
    given = start(rng, draw(rng, 4, 3))
    compare_divided(learner, given, [False, False])
    compare_divided(learner, given, [True, False, False, True])


@pytest.mark.exercise("spectral")
@pytest.mark.points(3)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_spectral_slope(learner, rng, training):
    """The gradient by the raw weight goes through σ, with u and v held constant."""
    given = start(rng, draw(rng, 3, 2, 2))
    direction = draw(rng, 3, 2, 2)
    got = learner.run(probes.slope_of_quotient, **given, directions=[direction], training=training)
    module, raw = reference(**given).train(training), given["weight"].clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.tensordot(module(raw), direction, dims=3), raw)
    shown = {**given, "the gradient of the output": direction}
    close(got["gradient"], expected, where="the gradient by the raw weight", inputs=shown, rtol=1e-11)


@pytest.mark.exercise("spectral")
@pytest.mark.points(2)
def test_spectral_forwards_before_a_backward(learner, rng):
    """Two forwards, as for real and generated samples, and one backward after both: each keeps its own u and v."""
    given = start(rng, draw(rng, 3, 4))
    directions = [draw(rng, 3, 4) for _ in range(2)]
    got = learner.run(probes.slope_of_quotient, **given, directions=directions)
    module, expected = reference(**given), torch.zeros_like(given["weight"])
    for direction in directions:
        raw = given["weight"].clone().requires_grad_()
        expected += torch.autograd.grad(torch.tensordot(module(raw), direction, dims=2), raw)[0]
    shown = {**given, "the gradients of the outputs": directions}
    close(got["gradient"], expected, where="the gradient by the raw weight", inputs=shown, rtol=1e-11)


@pytest.mark.exercise("spectral")
def test_spectral_keeps_its_state(learner, rng):
    """u and v are buffers that a checkpoint carries, and no parameters; the raw weight is not touched."""
    given = start(rng, draw(rng, 3, 4))
    got = learner.run(probes.divided, **given, forwards=[True, False])
    same(got["kept"], ["u", "v"], where="the names in the state_dict", inputs=given)
    same(got["learned"], 0, where="the number of parameters", inputs=given)
    same(got["weight"], given["weight"], where="the raw weight after the forwards", inputs=given)
    output = reference(**given)(given["weight"])
    close(got["outputs"][0], output, where="the output of the first forward", inputs=given, rtol=1e-11)
    holds(not got["graph"], "the buffers carry no gradient", inputs=given)
    both = learner.run(probes.restored, weight=given["weight"], forwards=5)
    close(both["after"], both["before"], where="the output after the state was loaded", inputs=given, rtol=EXACT)


@pytest.mark.exercise("spectral")
def test_spectral_keeps_the_dtype(learner, rng):
    """float32 goes in and comes out, also where the memory is not in order."""
    compare_divided(learner, start(rng, draw(rng, 3, 4).float()), [True], rtol=1e-5)
    compare_divided(learner, start(rng, draw(rng, 4, 3, 2).transpose(0, 2)), [True, True])


@pytest.mark.exercise("spectral")
@pytest.mark.points(2)
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 2)], ids=["linear", "convolution"])
def test_spectral_trains_a_layer(learner, rng, shape):
    """As the parametrization of a layer, it trains like PyTorch's own; the optimizer keeps the raw weight."""
    given = start(rng, draw(rng, *shape))
    inputs = draw(rng, 5, 4) if len(shape) == 2 else draw(rng, 2, 2, 3, 3)
    got = learner.run(probes.layer_in_training, **given, inputs=inputs, steps=4, lr=0.5)
    module, raw = reference(**given), given["weight"].clone()
    losses = []
    for _ in range(4):
        weight = raw.requires_grad_()
        used = module(weight)
        loss = (F.linear(inputs, used) if len(shape) == 2 else F.conv2d(inputs, used)).pow(2).mean()
        (slope,) = torch.autograd.grad(loss, weight)
        raw = (raw - 0.5 * slope).detach()
        losses.append(loss.detach())
    expected = {"losses": losses, "raw": raw, "same": True, "weight": module.eval()(raw).detach()}
    close(got, expected, where="the training of a layer", inputs={**given, "inputs": inputs}, rtol=1e-10)


# -------------------------------------------------------------------------------- frechet_distance


def normal(rng: torch.Generator, d: int, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a mean (d,), a covariance (d, d) of so many samples, and a root A of it: A · Aᵀ is the covariance."""
    rows = draw(rng, samples, d)
    centred = rows - rows.mean(0)
    root = centred.mT / math.sqrt(samples - 1)
    return draw(rng, d), root @ root.mT, root


def expected_distance(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the distance from roots of the covariances: the trace of the root is the nuclear norm of A₁ᵀ · A₂."""
    (mu1, cov1, root1), (mu2, cov2, root2) = first, second
    cross = torch.linalg.matrix_norm(root1.mT @ root2, ord="nuc")
    return torch.dist(mu1, mu2) ** 2 + torch.einsum("ii->", cov1 + cov2) - 2 * cross


def compare_distance(
    learner: Any,
    first: tuple[Tensor, Tensor, Tensor],
    second: tuple[Tensor, Tensor, Tensor],
    rtol: float = 1e-9,
    dtype: torch.dtype = torch.float64,
) -> None:
    """Compare the distance both ways round."""
    expected = expected_distance(first, second)
    (mu1, cov1), (mu2, cov2) = ([part.to(dtype) for part in one[:2]] for one in (first, second))
    scale = cov1.trace().double() + cov2.trace().double()
    for given in ((mu1, cov1, mu2, cov2), (mu2, cov2, mu1, cov1)):
        inputs: dict[str, Any] = dict(zip(("mu1", "cov1", "mu2", "cov2"), given, strict=True))
        got = learner.frechet_distance(*given)
        close(got, expected.to(dtype), where="the distance", inputs=inputs, rtol=rtol, scale=scale)


def one_dimension(mean: float, deviation: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a normal distribution on the line."""
    return tensor(mean), tensor(deviation**2)[None], tensor(deviation)[None]


@pytest.mark.exercise("frechet")
@pytest.mark.points(2)
def test_distance_on_the_line(learner, rng):
    """In one dimension the distance is (μ₁ − μ₂)² + (s₁ − s₂)²."""
    compare_distance(learner, one_dimension(1.0, 2.0), one_dimension(4.0, 3.0))
    compare_distance(learner, one_dimension(-1.0, 0.5), one_dimension(-1.0, 2.5))


@pytest.mark.exercise("frechet")
def test_distance_of_a_shift(learner, rng):
    """Equal covariances leave the squared distance of the means; equal distributions leave zero."""
    mu, cov, root = normal(rng, 4, 20)
    compare_distance(learner, (mu, cov, root), (mu + 3, cov, root))
    compare_distance(learner, (mu, cov, root), (mu, cov, root))


@pytest.mark.exercise("frechet")
@pytest.mark.points(2)
def test_distance_of_common_axes(learner, rng):
    """Covariances with common axes and the deviations s and t have the distance Σ (s − t)²."""
    axes, mu = torch.linalg.qr(draw(rng, 3, 3)).Q, draw(rng, 3)
    first, second = (axes * tensor(*numbers) for numbers in ((1.0, 2.0, 0.5), (3.0, 0.25, 1.0)))
    compare_distance(learner, (mu, first @ first.mT, first), (mu, second @ second.mT, second))


@pytest.mark.exercise("frechet")
@pytest.mark.points(3)
def test_distance_of_any_covariances(learner, rng):
    """Covariances that do not commute, in 2 and in 16 dimensions."""
    for d in (2, 16):
        compare_distance(learner, normal(rng, d, 3 * d), normal(rng, d, 4 * d))


@pytest.mark.exercise("frechet")
@pytest.mark.points(2)
def test_distance_of_singular_covariances(learner, rng):
    """Fewer samples than dimensions: the covariances have no full rank, and the distance is a number all the same."""
    first, second = normal(rng, 12, 5), normal(rng, 12, 7)
    compare_distance(learner, first, second, rtol=1e-6)
    compare_distance(learner, first, first, rtol=1e-6)
    compare_distance(learner, first, normal(rng, 12, 40), rtol=1e-6)


@pytest.mark.exercise("frechet")
def test_distance_to_a_point(learner, rng):
    """A distribution without any spread is at the distance of the means plus the other's trace."""
    point = (draw(rng, 3), torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64))
    compare_distance(learner, normal(rng, 3, 9), point)
    compare_distance(learner, point, point)


@pytest.mark.exercise("frechet")
@pytest.mark.points(2)
def test_distance_in_float32(learner, rng):
    """float32 goes in and comes out, and keeps its digits on the way, also without full rank."""
    for ranks in ((5, 7), (12, 4), (16, 20)):
        sides = []
        for rank in ranks:
            # Whole numbers, so that the covariances are exact in float32.
            root = torch.randint(-3, 4, (12, rank), generator=rng).double()
            sides.append((torch.randint(-3, 4, (12,), generator=rng).double(), root @ root.mT, root))
        compare_distance(learner, sides[0], sides[1], rtol=3e-6, dtype=torch.float32)


# -------------------------------------------------------------------------------------- train_gan


class Examiner:
    """What the judge knows of digits: images that no learner is given, a classifier, and principal components.

    Args:
        images: (rows, 64), brightness from 0 to 1.
        targets: (rows,), class numbers.
    """

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images = images
        self.mean = images.mean(0)
        self.axes = torch.linalg.svd(images - self.mean, full_matrices=False).Vh[:16].mT
        # Kernel ridge regression to ±1, in closed form; it is right on 98.9 % of other digits.
        kernel = self._near(images).double() + 0.01 * torch.eye(len(images), dtype=torch.float64)
        self._shares = torch.linalg.solve(kernel, 2 * F.one_hot(targets, 10).double() - 1).float()

    def _near(self, images: Tensor) -> Tensor:
        return torch.exp(-0.12 * torch.cdist(images, self.images).square())

    def clear_classes(self, images: Tensor) -> list[int]:
        """Return for each class how many images show it clearly: its score, and no other, is above zero."""
        scores = self._near(images) @ self._shares
        clear = (scores > 0).sum(1) == 1
        return scores[clear].argmax(1).bincount(minlength=10).tolist()

    def distance(self, images: Tensor) -> float:
        """Return the Fréchet distance to the judge's own digits, on their 16 leading principal components."""
        clouds = [((part - self.mean) @ self.axes).double() for part in (images, self.images)]
        # The triangle R of a cloud has Rᵀ · R = cloudᵀ · cloud, and is small.
        triangles = [torch.linalg.qr(cloud - cloud.mean(0), mode="r").R for cloud in clouds]
        roots = [part.mT / math.sqrt(len(cloud) - 1) for part, cloud in zip(triangles, clouds, strict=True)]
        sides = [(cloud.mean(0), root @ root.mT, root) for cloud, root in zip(clouds, roots, strict=True)]
        return float(expected_distance(sides[0], sides[1]))

    def freshness(self, images: Tensor, given: Tensor) -> float:
        """Return the median distance to the nearest given row, as a multiple of that of the judge's own digits."""
        medians = [torch.cdist(part, given).amin(1).median() for part in (images, self.images)]
        return float(medians[0] / medians[1])


@cache
def digits() -> tuple[Examiner, Tensor]:
    """Return the judge's knowledge, from 800 digits, and the other 997 digits, which a learner trains on.

    Raises:
        LessonError: scikit-learn's file of digits is not there.
    """
    # Read as a file: importing scikit-learn takes longer than a training.
    found = importlib.util.find_spec("sklearn")
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [file for folder in folders if (file := Path(folder, "datasets", "data", "digits.csv.gz")).is_file()]
    if not files:
        fix = "install scikit-learn, which brings it"
        raise LessonError("train_gan", "the digits of scikit-learn", got="no such file", fix=fix)
    with gzip.open(files[0], "rt") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float32))
    table = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(1))]
    images, targets = table[:, :64] / 16, table[:, 64].long()
    return Examiner(images[:800], targets[:800]), images[800:]


PATHS, POINTS = 12, 100
IMAGES, ALONE = 2000, 4
CLASSES, CLEAR, DISTANCE, FRESH, JUMP = 9, 3, 1.0, 0.8, 0.5


def sample(learner: Any, rng: torch.Generator) -> tuple[Tensor, Tensor, Any]:
    """Have a GAN trained; return images of noise, images along straight lines of noise, and those made alone."""
    _, given = digits()
    noise = torch.randn(IMAGES, 16, generator=rng)
    ends = torch.randn(2, PATHS, 1, 16, generator=rng)
    along = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, POINTS)[:, None]).flatten(0, 1)
    got = learner.run(probes.trained, digits=given, noise=torch.cat([noise, along]), seed=whole(rng), alone=ALONE)
    images = got["images"]
    right = type(images) is Tensor and images.shape == (IMAGES + PATHS * POINTS, 64) and images.dtype is torch.float32
    holds(right, "the module turns noise (n, 16) into float32 images (n, 64)", inputs={}, got=images)
    inside = (images.isfinite() & (images >= 0) & (images <= 1)).all()
    holds(inside, "every brightness is a number from 0 to 1", inputs={}, got=(images.min(), images.max()))
    return images[:IMAGES], images[IMAGES:], got["alone"]


@pytest.mark.exercise("cure")
def test_cure(learner, rng):
    """On a hidden seed nine classes are among the images, which are near to digits, and made from noise alone."""
    examiner, given = digits()
    images, along, alone = sample(learner, rng)
    clear = examiner.clear_classes(images)
    says = f"at least {CLASSES} of 10 classes are shown clearly by {CLEAR} or more of {IMAGES} images"
    holds(sum(count >= CLEAR for count in clear) >= CLASSES, says, inputs={}, got=clear)
    distance = examiner.distance(images)
    says = f"the Fréchet distance to digits is at most {DISTANCE} (real ones: 0.04; the loop without a cure: about 2)"
    holds(distance <= DISTANCE, says, inputs={}, got=distance)
    fresh = examiner.freshness(images, given)
    says = f"the median distance to the nearest real image is at least {FRESH} times that of digits not in there"
    holds(fresh >= FRESH, says, inputs={}, got=fresh)
    close(alone, images[:ALONE], where="images that were made alone", inputs={}, rtol=1e-4)
    jump = float(along.view(PATHS, POINTS, 64).diff(dim=1).norm(dim=2).max())
    says = f"a hundredth of the way between two rows of noise moves an image by at most {JUMP}"
    holds(jump <= JUMP, says, inputs={}, got=jump)
