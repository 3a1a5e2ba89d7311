"""The sanity check: an explanation of a network must change when the network's parameters do."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from coursekit.errors import ArgumentError


def layers_with_parameters(model: nn.Module) -> list[str]:
    """Return the dotted names of the modules that hold parameters themselves, in the order of definition.

    Raises:
        ArgumentError: there are none.
    """
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    if not names:
        raise ArgumentError(
            "layers_with_parameters", "a model with parameters", got=type(model).__name__, fix="pass the network"
        )
    return names


def randomize_layers(model: nn.Module, layers: Sequence[str], *, generator: torch.Generator) -> nn.Module:
    """Return a copy of the model with some layers drawn anew; the model itself stays as it is.

    A layer with `reset_parameters` starts as PyTorch starts it (BatchNorm's statistics as well); the parameters of
    others are drawn from a normal distribution with their own mean and standard deviation.

    Args:
        model: any module.
        layers: dotted names.
        generator: of the new parameters, on any device; the global random state is untouched.

    Raises:
        ArgumentError: the model has no such layer.

    Source: Adebayo et al. 2018, section 3.
    """
    drawn = copy.deepcopy(model)
    known = dict(drawn.named_modules())
    for name in layers:
        if name not in known:
            raise ArgumentError(
                "randomize_layers",
                f"layers must be among {', '.join(layers_with_parameters(model)[:20])}",
                got=repr(name),
                fix="take the names from layers_with_parameters(model)",
            )
        _draw_anew(known[name], generator)
    return drawn


def cascade(model: nn.Module, *, generator: torch.Generator) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of the model with one more layer randomised each time, from the last defined to the first.

    Args:
        model: any module whose layers are defined in the order in which they work.
        generator: as of `randomize_layers`.

    Yields:
        The dotted name of the layer that came last, and the copy.

    Source: Adebayo et al. 2018, section 3.1.
    """
    current = model
    for name in reversed(layers_with_parameters(model)):
        current = randomize_layers(current, [name], generator=generator)
        yield name, current


@torch.no_grad()
def _draw_anew(layer: nn.Module, generator: torch.Generator) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        # `reset_parameters` takes no generator: seed the global one from ours, and give its state back.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        places = {parameter.device for parameter in layer.parameters() if parameter.device.type == "cuda"}
        with torch.random.fork_rng(devices=[place.index or 0 for place in places]):
            torch.manual_seed(seed)
            reset()
        return
    for parameter in layer.parameters(recurse=False):
        noise = torch.randn(parameter.shape, generator=generator, device=generator.device).to(parameter)
        deviation = parameter.std() if parameter.numel() > 1 else parameter.new_ones(())
        parameter.copy_(parameter.mean() + deviation * noise)
