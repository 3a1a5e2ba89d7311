"""Find a layer of a module, and watch what goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from coursekit.attribution.scores import Model, shape_of
from coursekit.errors import ArgumentError

Layer = nn.Module | str


def find_layer(where: str, model: Model, layer: Layer) -> nn.Module:
    """Return a layer given by itself or by its dotted name.

    Raises:
        ArgumentError: the model has no such layer; the message lists those that it has.
    """
    if isinstance(layer, nn.Module):
        if isinstance(model, nn.Module) and all(layer is not module for module in model.modules()):
            raise ArgumentError(
                where,
                "layer must be a part of the model",
                got=type(layer).__name__,
                fix="take it from this model, not from a copy of it",
            )
        return layer
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            where,
            "layer must be a module, for a function has no named layers",
            got=repr(layer),
            fix="pass the layer itself",
        )
    names = {name: module for name, module in model.named_modules() if name}
    if layer not in names:
        listed = ", ".join(list(names)[:20]) + (", ..." if len(names) > 20 else "")
        raise ArgumentError(
            where, f"layer must be one of the model's: {listed}", got=repr(layer), fix="pass one of these names"
        )
    return names[layer]


@contextmanager
def watched(where: str, layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a layer's outputs, with their graph.

    What follows works on a copy: an in-place ReLU after the layer cannot change what was collected. The hook goes
    when the block ends, however it ends.

    Raises:
        ArgumentError: the layer gives something else than one tensor.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise ArgumentError(
                where, "layer must give one tensor", got=shape_of(output), fix="choose a layer inside of it"
            )
        seen.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
