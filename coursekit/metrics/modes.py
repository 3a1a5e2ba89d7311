"""Evaluation mode for the length of a measurement, so that measuring a model never changes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(call: object) -> Iterator[None]:
    """Hold a module in evaluation mode, then give each of its submodules its own mode back.

    In evaluation mode dropout is off and BatchNorm neither uses nor updates the batch's statistics.

    Args:
        call: a module; anything else (a function, a bound method) is left as it is, since the modules
            behind it cannot be seen.
    """
    if not isinstance(call, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in call.modules()]
    was_training = call.training
    told = not all(map(_is_plain, {type(module) for module, _ in modes}))
    if told:
        call.eval()
    else:
        _set((module, False) for module, mode in modes if mode)
    try:
        yield
    finally:
        if told:
            if was_training:
                call.train()
            for module, mode in modes:
                module.training = mode
        else:
            _set(modes)  # a submodule that was frozen in evaluation mode stays there


def _is_plain(kind: type[nn.Module]) -> bool:
    """Say whether a mode is an attribute and no more.

    A module may do work on the change (merge an adapter) and undo it afterwards, or keep its mode elsewhere
    (TorchScript).
    """
    return kind.train is nn.Module.train and kind.eval is nn.Module.eval and kind.__setattr__ is nn.Module.__setattr__


def _set(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    """Set the modes of modules one by one."""
    for module, mode in modes:
        vars(module)["training"] = mode  # through `Module.__setattr__` it takes ten times as long
