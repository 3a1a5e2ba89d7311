"""The attention weights of a module, whatever it is made of."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coursekit.attribution.scores import shape_of
from coursekit.errors import ArgumentError
from coursekit.metrics import evaluating


def attention_maps(model: nn.Module, *inputs: Any, **keywords: Any) -> dict[str, Tensor]:
    """Run the model once and return the weights of each attention in it.

    What is seen: `nn.MultiheadAttention` (also inside of PyTorch's transformer layers and torchvision's vision
    transformers), and every call of `F.scaled_dot_product_attention`. Weights are looked at after softmax and before
    dropout; the model is in evaluation mode and keeps no hook. Attention written by hand is not seen.

    Args:
        model: any module.
        inputs, keywords: its arguments.

    Returns:
        By the dotted name of the module that attends (with `#2`, `#3` for its later calls), in the order of the
        calls: weights (B, heads, T, S). Rows sum to 1, or to 0 where all keys are masked.

    Raises:
        ArgumentError: the model is no module, or no attention was met.
    """
    where = "attention_maps"
    if not isinstance(model, nn.Module):
        raise ArgumentError(where, "model must be a module", got=shape_of(model), fix="pass the network itself")
    maps: dict[str, Tensor] = {}

    def keep(name: str, weights: Tensor) -> None:
        name = name or type(model).__name__
        calls = sum(1 for known in maps if known.split("#")[0] == name)
        maps[name if calls == 0 else f"{name}#{calls + 1}"] = weights.detach()

    with ExitStack() as stack:
        inside: list[str] = []
        for name, module in model.named_modules():
            if isinstance(module, nn.MultiheadAttention):
                before, after = _asked_for_weights(name, keep)
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after).remove)
            else:
                stack.callback(module.register_forward_pre_hook(_enter(name, inside)).remove)
                stack.callback(module.register_forward_hook(_leave(inside)).remove)
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Watch(lambda weights: keep(inside[-1] if inside else "", weights)))
        model(*inputs, **keywords)
    if not maps:
        raise ArgumentError(
            where,
            "a model with nn.MultiheadAttention or F.scaled_dot_product_attention",
            got=type(model).__name__,
            fix="let the module's own forward return its weights",
        )
    return maps


def attention_rollout(maps: Sequence[Tensor]) -> Tensor:
    """Follow attention through all layers: the product of (A + 1) / 2, A the mean over the heads of each.

    Args:
        maps: self-attention weights (B, heads, T, T) of each layer, the first layer first.

    Returns:
        (B, T, T): how much of each input position is in each output position. Rows sum to 1.

    Raises:
        ArgumentError: the maps are not square or not alike.

    Source: Abnar & Zuidema 2020, equation 1.
    """
    if not maps or any(layer.ndim != 4 or layer.shape[2] != layer.shape[3] for layer in maps):
        raise ArgumentError(
            "attention_rollout",
            "maps must be (B, heads, T, T), one per layer",
            got=[tuple(layer.shape) for layer in maps],
            fix="pass the self-attentions of one stack",
        )
    if len({(len(layer), layer.shape[-1]) for layer in maps}) > 1:
        raise ArgumentError(
            "attention_rollout",
            "all layers with the same rows and positions",
            got=[tuple(layer.shape) for layer in maps],
            fix="pass the self-attentions of one stack",
        )
    mixed = [(layer.mean(1) + torch.eye(layer.shape[-1]).to(layer)) / 2 for layer in maps]
    rolled = mixed[0]
    for layer in mixed[1:]:
        rolled = layer @ rolled
    return rolled


_FORWARD = inspect.signature(nn.MultiheadAttention.forward)


def _asked_for_weights(name: str, keep: Callable[[str, Tensor], None]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return hooks before and after `nn.MultiheadAttention`: it gives all weights, its caller what it wanted."""
    wanted: dict[str, Any] = {}

    def before(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        bound = dict(_FORWARD.bind(module, *args, **keywords).arguments)
        del bound["self"]
        wanted.clear()
        wanted.update(bound)
        return (), {**bound, "need_weights": True, "average_attn_weights": False}

    def after(module: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
        result, weights = output
        keep(name, weights if weights.ndim == 4 else weights[None])
        if not wanted.get("need_weights", True):
            return result, None
        return result, weights.mean(-3) if wanted.get("average_attn_weights", True) else weights

    return before, after


def _enter(name: str, inside: list[str]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        inside.append(name)

    return hook


def _leave(inside: list[str]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        inside.pop()

    return hook


class _Watch(TorchFunctionMode):
    """Computes the weights beside every call of the fused attention."""

    def __init__(self, keep: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.keep = keep

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.keep(_weights(*args, **kwargs))
        return func(*args, **kwargs)


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the weights (B, heads, T, S) of a call of `F.scaled_dot_product_attention`."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    weights = logits.softmax(-1).nan_to_num(0.0)  # a row without keys: the fused kernel gives 0
    while weights.ndim < 4:
        weights = weights.unsqueeze(-3) if weights.ndim == 3 else weights[None]
    return weights.flatten(0, -4)
