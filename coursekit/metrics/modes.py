"""Evaluation mode for the length of a measurement, so that measuring a model never changes it."""

from __future__ import annotations

from collections.abc import Iterator
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
    call.eval()
    try:
        yield
    finally:
        if was_training:
            call.train()  # a module may do work on the change (merge an adapter): let it undo that
        for module, mode in modes:  # a submodule that was frozen in evaluation mode stays there
            module.training = mode
