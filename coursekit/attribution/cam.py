"""Explanations by a convolutional layer and by the paths through the ReLUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.attribution.gradients import gradient
from coursekit.attribution.layers import Layer, find_layer, watched
from coursekit.attribution.scores import Explained, Model, Target
from coursekit.errors import ArgumentError
from coursekit.metrics import evaluating


def grad_cam(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    layer: Layer,
    upsample: bool = True,
    relu: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """Weight a layer's channels by the mean of their gradients over space, sum them and keep what is positive.

    Args:
        model: a module (held in evaluation mode) or a function: (n, C, H, W) to scores (n, K), or (n,) without a
            target.
        inputs: pictures (B, C, H, W), floating.
        target: the output to explain: an index, one per row (B,), or None for a model with one output.
        layer: the layer, or its dotted name (`features.28`); its output is (n, c, h, w), met once per pass.
        upsample: enlarge the maps to the pictures' size, bilinearly; else they are the layer's size.
        relu: drop what speaks against the target.
        batch_size: rows per pass; None chooses by the size of a row.

    Returns:
        Maps (B, H, W), or (B, h, w); in the score's unit per unit of activation, not scaled.

    Raises:
        ArgumentError: an argument is not as above, or the model has no such layer.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    where = "grad_cam"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    found = find_layer(where, model, layer)
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        combined = torch.cat(
            [
                explained.laid_out(partial(_class_activation, explained, target=chosen, layer=found), rows)
                for rows, chosen in explained.parts()
            ]
        )
    if relu:
        combined = combined.relu()
    if not upsample:
        return combined
    return F.interpolate(combined[:, None], size=inputs.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _class_activation(explained: Explained, rows: Tensor, *, target: Tensor | None, layer: nn.Module) -> Tensor:
    """Return the weighted sum of the layer's channels, (n, h, w)."""
    where = explained.where
    with watched(where, layer) as seen:
        # No leaf reaches the model, whose first layer may work in place.
        score = explained.run(rows.clone().requires_grad_().clone(), target)
    if len(seen) != 1:
        raise ArgumentError(
            where, "layer must be met once per pass", got=f"{len(seen)} times", fix="choose a layer used only once"
        )
    (activation,) = seen
    if activation.ndim != 4 or len(activation) != len(rows):
        raise ArgumentError(
            where,
            "layer must give maps (n, c, h, w)",
            got=tuple(activation.shape),
            fix="choose a convolution, or the last layer before pooling and flattening",
        )
    slopes = torch.autograd.grad(score.sum(), activation, allow_unused=True)[0] if score.requires_grad else None
    if slopes is None:
        raise ArgumentError(
            where, "the score must depend on the layer", got="a layer beside the path", fix="choose a layer before it"
        )
    return torch.einsum("nchw,nc->nhw", activation.detach(), slopes.mean((2, 3)))


def guided_backpropagation(
    model: nn.Module, inputs: Tensor, target: Target = None, *, batch_size: int | None = None
) -> Tensor:
    """Return the gradient of the score where each ReLU also drops what is negative on the way back.

    Sharp, but hardly an explanation: it changes little when the network's upper layers are randomised
    (`randomize_layers`).

    Args:
        model: a module with `nn.ReLU` layers (`F.relu` cannot be reached).
        inputs, target, batch_size: as of `gradient`.

    Returns:
        Like inputs.

    Raises:
        ArgumentError: as of `gradient`, or the model has no `nn.ReLU`.

    Source: Springenberg et al. 2015, section 3.4; the finding: Adebayo et al. 2018.
    """
    with _other_backward("guided_backpropagation", model, _Guided):
        return gradient(model, inputs, target, batch_size=batch_size)


def deconvolution(model: nn.Module, inputs: Tensor, target: Target = None, *, batch_size: int | None = None) -> Tensor:
    """Return the gradient of the score where each ReLU works on what comes back, not on what went forth.

    Arguments, returns and errors as of `guided_backpropagation`.

    Source: Zeiler & Fergus 2014, section 2.1.
    """
    with _other_backward("deconvolution", model, _Deconvolution):
        return gradient(model, inputs, target, batch_size=batch_size)


def guided_grad_cam(
    model: nn.Module,
    inputs: Tensor,
    target: Target = None,
    *,
    layer: Layer,
    batch_size: int | None = None,
) -> Tensor:
    """Multiply guided backpropagation by the Grad-CAM map.

    Arguments and errors as of `grad_cam` and `guided_backpropagation`.

    Returns:
        Like inputs.

    Source: Selvaraju et al. 2017, section 3.2.
    """
    coarse = grad_cam(model, inputs, target, layer=layer, batch_size=batch_size)
    return guided_backpropagation(model, inputs, target, batch_size=batch_size) * coarse[:, None]


class _Guided(torch.autograd.Function):
    """A ReLU whose way back drops negative gradients too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return slopes[0].relu() * (y > 0)


class _Deconvolution(torch.autograd.Function):
    """A ReLU forth and a ReLU back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0].relu()


@contextmanager
def _other_backward(where: str, model: nn.Module, function: type[torch.autograd.Function]) -> Iterator[None]:
    """Let every `nn.ReLU` of the model go back by another rule, for the length of the block."""
    relus = (
        [module for module in model.modules() if isinstance(module, nn.ReLU)] if isinstance(model, nn.Module) else []
    )
    if not relus:
        raise ArgumentError(
            where, "the model must have nn.ReLU layers", got=type(model).__name__, fix="use nn.ReLU instead of F.relu"
        )
    in_place = [relu.inplace for relu in relus]
    handles = [relu.register_forward_hook(lambda _, args, __: function.apply(args[0])) for relu in relus]
    try:
        for relu in relus:
            relu.inplace = False  # else the hook would see what is already cut off
        yield
    finally:
        for relu, handle, was in zip(relus, handles, in_place, strict=True):
            relu.inplace = was
            handle.remove()
