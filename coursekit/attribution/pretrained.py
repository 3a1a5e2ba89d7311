"""Networks of torchvision with their published weights, from a file that is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coursekit.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


@dataclass(frozen=True)
class Pretrained:
    """A network with what belongs to its weights.

    Attributes:
        model: in evaluation mode, on the CPU.
        preprocess: a picture (C, H, W) or pictures (B, C, H, W), bytes or floats in [0, 1], to the network's inputs.
        classes: the names of the outputs.
        file: the weights file that was read.
    """

    model: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    file: Path


def weights_file(name: str, *, weights: str = "DEFAULT", folder: Path | str | None = None) -> Path:
    """Return where the weights file of a torchvision network is looked for, whether it is there or not.

    Args:
        name: of the network, as `torchvision.models.get_model` knows it (`resnet18`).
        weights: which of the published weights (`IMAGENET1K_V1`); `DEFAULT` for the best.
        folder: None for PyTorch's own, `torch.hub.get_dir()/checkpoints`.

    Raises:
        ArgumentError: torchvision has no such network or weights.
    """
    return _place(_entry(name, weights), folder)


def load_pretrained(name: str, *, weights: str = "DEFAULT", folder: Path | str | None = None) -> Pretrained:
    """Load a torchvision network with weights that are on this machine; nothing is ever downloaded.

    Args:
        name, weights, folder: as of `weights_file`.

    Raises:
        ArgumentError: torchvision has no such network or weights.
        DataError: the file is not there, or not what its name says.
    """
    from torchvision.models import get_model

    where = "load_pretrained"
    entry = _entry(name, weights)
    file = _place(entry, folder)
    if not file.is_file():
        raise DataError(
            where,
            f"the weights {entry} of {name} as the file {file.name} in {file.parent}",
            got="no such file",
            fix=f"on a machine with a connection fetch {entry.url} and copy it there; nothing is downloaded by itself",
        )
    # A published file carries the start of its SHA-256 in its name.
    digest = file.stem.rpartition("-")[2]
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(digest):
        raise DataError(
            where, f"{file} with a SHA-256 that starts with {digest}", got=found[:16], fix="fetch the file again"
        )
    model = get_model(name, weights=None, num_classes=len(entry.meta["categories"]))
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return Pretrained(model.eval(), entry.transforms(), tuple(entry.meta["categories"]), file)


def _entry(name: str, weights: str) -> WeightsEnum:
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        raise ArgumentError(
            "load_pretrained",
            "a network that torchvision.models.list_models() names",
            got=repr(name),
            fix="choose resnet18",
        )
    known = get_model_weights(name)
    names = [entry.name for entry in known]
    if weights == "DEFAULT" and names:
        return known["DEFAULT"]
    if weights not in names:
        raise ArgumentError(
            "load_pretrained", f"weights of {name}: DEFAULT, {', '.join(names)}", got=repr(weights), fix="choose one"
        )
    return known[weights]


def _place(entry: WeightsEnum, folder: Path | str | None) -> Path:
    home = Path(torch.hub.get_dir()) / "checkpoints" if folder is None else Path(folder)
    return home / entry.url.rpartition("/")[2]
