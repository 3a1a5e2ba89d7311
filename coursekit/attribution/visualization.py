"""Feature visualisation: the picture that a unit answers to most, under regularisers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.attribution.layers import Layer, find_layer, watched
from coursekit.attribution.scores import Model, check_inputs, shape_of
from coursekit.errors import ArgumentError
from coursekit.metrics import evaluating


@dataclass(frozen=True)
class Visualization:
    """What `visualize_units` found.

    Attributes:
        pictures: (N, C, H, W), one per unit.
        activations: (steps + 1, N), before each step and at the end, each at the picture without jitter.
    """

    pictures: Tensor
    activations: Tensor


def visualize_units(
    model: Model,
    units: Sequence[int],
    *,
    start: Tensor,
    layer: Layer | None = None,
    steps: int = 128,
    lr: float = 0.1,
    l2: float = 0.0,
    total_variation: float = 0.0,
    jitter: int = 0,
    low: float | None = None,
    high: float | None = None,
    generator: torch.Generator | None = None,
) -> Visualization:
    """Climb from a start to pictures with a high activation, all units at once, by Adam.

    Each step raises activation − l2 · |x|² − total_variation · Σ |neighbour differences|², with |x|² and the sum
    divided by the number of entries of a picture. Jitter moves the picture around its edges before each step, so that
    what is found does not hang on single pixels.

    Args:
        model: a module (held in evaluation mode) or a function on pictures.
        units: outputs of the model, or channels of the layer (the mean over space is raised).
        start: (N, C, H, W), or (1, C, H, W) for all units; small noise around the data's mean is usual.
        layer: the layer whose units are shown, or its dotted name; None: the model's output (n, K).
        steps: gradient steps.
        lr: of Adam, in the unit of the pictures.
        l2, total_variation: strengths of the regularisers, at least 0.
        jitter: largest move, pixels, drawn for each step.
        low, high: clamp the pictures into this range after each step.
        generator: of the jitter; needed with one.

    Raises:
        ArgumentError: an argument is not as above, there is no such layer or unit, or the activation does not depend
            on the picture.

    Source: Erhan et al. 2009; Simonyan, Vedaldi & Zisserman 2014, equation 1 (L2); Mahendran & Vedaldi 2015 (total
    variation); Olah, Mordvintsev & Schubert 2017 (jitter).
    """
    where = "visualize_units"
    check_inputs(where, start)
    if start.ndim != 4 or len(start) not in (1, len(units)) or not units:
        raise ArgumentError(
            where,
            f"start must be (1, C, H, W) or ({max(1, len(units))}, C, H, W), with at least one unit",
            got=f"{shape_of(start)}, {len(units)} units",
            fix="pass 0.1 * torch.randn(1, C, H, W)",
        )
    if steps < 1 or not all(math.isfinite(value) and value >= 0 for value in (lr, l2, total_variation)):
        raise ArgumentError(
            where,
            "steps at least 1; lr, l2 and total_variation finite and at least 0",
            got=(steps, lr, l2, total_variation),
            fix="pass 128 steps, lr 0.1, l2 0, total_variation 0",
        )
    if jitter and generator is None:
        raise ArgumentError(where, "a generator for the jitter", got="None", fix="pass torch.Generator()")
    found = None if layer is None else find_layer(where, model, layer)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        wanted = torch.as_tensor(units, device=start.device)
        pictures = start.detach().expand(len(units), -1, -1, -1).clone().requires_grad_()
        optimizer = torch.optim.Adam([pictures], lr=lr, maximize=True)
        record = []
        for _ in range(steps):
            moved = pictures
            if jitter and generator is not None:
                move = torch.randint(-jitter, jitter + 1, (2,), generator=generator, device=generator.device).tolist()
                moved = pictures.roll(move, (2, 3))
                with torch.no_grad():
                    record.append(_activations(where, model, pictures, wanted, found))
            activation = _activations(where, model, moved, wanted, found)
            if not jitter:
                record.append(activation.detach())
            slopes = _gradient(where, activation, pictures)
            if l2 or total_variation:
                penalty = l2 * _energy(pictures) + total_variation * _roughness(pictures)
                slopes = slopes - _gradient(where, penalty, pictures)
            pictures.grad = slopes
            optimizer.step()
            if low is not None or high is not None:
                with torch.no_grad():
                    pictures.clamp_(low, high)
        with torch.no_grad():
            record.append(_activations(where, model, pictures, wanted, found))
    return Visualization(pictures.detach(), torch.stack(record))


def _gradient(where: str, values: Tensor, pictures: Tensor) -> Tensor:
    """Return the gradient of Σ values for the pictures alone: no parameter gets one."""
    slopes = torch.autograd.grad(values.sum(), pictures, allow_unused=True)[0] if values.requires_grad else None
    if slopes is None or not slopes.isfinite().all():
        raise ArgumentError(
            where,
            "activations with a finite gradient for the picture",
            got="none" if slopes is None else "NaN or infinity",
            fix="choose a layer between picture and output, or a smaller lr",
        )
    return slopes


def _activations(where: str, model: Model, pictures: Tensor, units: Tensor, layer: torch.nn.Module | None) -> Tensor:
    """Return the activation of picture n's own unit, (N,)."""
    if layer is None:
        output = model(pictures.clone())
    else:
        with watched(where, layer) as seen:
            model(pictures.clone())
        if len(seen) != 1:
            raise ArgumentError(
                where, "layer must be met once per pass", got=f"{len(seen)} times", fix="choose another layer"
            )
        output = seen[0]
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(pictures):
        raise ArgumentError(where, "outputs (n, K) or (n, c, h, w)", got=shape_of(output), fix="choose another layer")
    if int(units.min()) < 0 or int(units.max()) >= output.shape[1]:
        raise ArgumentError(
            where,
            f"units must be from 0 to {output.shape[1] - 1}",
            got=units.tolist(),
            fix="choose among the layer's channels",
        )
    return (
        output.flatten(2).mean(2).gather(1, units[:, None])[:, 0]
        if output.ndim > 2
        else output[range(len(units)), units]
    )


def _energy(pictures: Tensor) -> Tensor:
    return pictures.square().mean((1, 2, 3))


def _roughness(pictures: Tensor) -> Tensor:
    """Return Σ of squared differences between neighbours, per entry, (N,)."""
    down, across = pictures.diff(dim=2).square().sum((1, 2, 3)), pictures.diff(dim=3).square().sum((1, 2, 3))
    return (down + across) / pictures[0].numel()
