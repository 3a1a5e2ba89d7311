"""`load`: one interface to every data set."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.data.cards import DataCard, card
from coursekit.data.downloads import Root, read
from coursekit.data.splits import Data, Split, normalisation, stratified_order
from coursekit.errors import ArgumentError

# The same test part for every seed: with another number here, older results no longer compare.
_TEST_SEED = 1797
# One row in so many of those beside the test part goes to validation.
_VALIDATION_ONE_IN = {"digits": 4, "breast_cancer": 4, "mnist": 6, "fashion_mnist": 6, "cifar10": 10}


def load(
    name: str,
    *,
    size: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    root: Root = None,
) -> Data:
    """Read a data set into memory, divide it by class shares and normalise it by its training part.

    The test part never depends on `seed`: a fixed fifth of the rows for data that ships inside scikit-learn,
    the authors' own test part for the others. `seed` divides the rest into training and validation: three to
    one, but five to one for MNIST and Fashion-MNIST, and nine to one for CIFAR-10.

    Args:
        name: `digits`, `breast_cancer`, `mnist`, `fashion_mnist` or `cifar10`.
        size: height and width of the images in pixels, from 1 to 256; None keeps them. Bilinear
            (`torch.nn.functional.interpolate`, align_corners=False), with antialiasing where it shrinks.
        seed: from 0 to 2**32 - 1.
        limit: rows of the training part to keep, no fewer than there are classes; a smaller limit keeps a
            subset of what a larger one keeps. Validation and test parts stay whole.
        root: the folder of downloaded data; `$COURSEKIT_DATA`, else `./data`.

    Raises:
        DataError: the name is unknown, or files are missing or damaged.
        ArgumentError: size, seed or limit is out of range, or a table was given a size.
    """
    entry = card(name)
    _check_size(entry, size)
    _check_whole("seed", seed, 0, 2**32 - 1)
    (inputs, targets), test = _embedded(name) if entry.embedded else read(name, root)

    order = stratified_order(targets, seed)
    cut = _one_in(_VALIDATION_ONE_IN[name], len(order))
    kept, held = order[cut:], order[:cut]
    if limit is not None:
        _check_whole("limit", limit, len(entry.classes), len(kept))
        kept = kept[:limit]

    parts = [(inputs[kept], targets[kept]), (inputs[held], targets[held]), test]
    parts = [(_resized(part, size), labels) for part, labels in parts]
    mean, std = normalisation(parts[0][0])
    # In place: every part is a fresh copy by now, and CIFAR-10 in float32 takes 0.7 GB once.
    train, validation, test = (Split(part.sub_(mean).div_(std), labels) for part, labels in parts)
    return Data(name, train, validation, test, entry.classes, entry, mean, std)


def _embedded(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the rows for training and validation, and those for the test: a fixed fifth."""
    inputs, targets = _READERS[name]()
    order = stratified_order(targets, _TEST_SEED)
    cut = _one_in(5, len(order))
    rest, test = order[cut:], order[:cut]
    return (inputs[rest], targets[rest]), (inputs[test], targets[test])


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return images, torch.as_tensor(targets).long()


def _breast_cancer() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_breast_cancer

    features, targets = load_breast_cancer(return_X_y=True)
    return torch.as_tensor(features, dtype=torch.float32), torch.as_tensor(targets).long()


_READERS = {"digits": _digits, "breast_cancer": _breast_cancer}


def _resized(inputs: Tensor, size: int | None) -> Tensor:
    """Return float32 inputs; bytes become brightness from 0 to 1."""
    if inputs.dtype == torch.uint8:
        inputs = inputs.float().div_(255)
    if size is None or inputs.shape[-1] == size:
        return inputs
    resized = F.interpolate(inputs, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp_(0, 1)  # weights that sum to 1 may round above it


def _one_in(parts: int, rows: int) -> int:
    return -(-rows // parts)


def _check_size(entry: DataCard, size: int | None) -> None:
    if size is None:
        return
    if len(entry.shape) == 1:
        raise ArgumentError("load", f"no size, for {entry.name} is a table", got=size, fix="leave size away")
    _check_whole("size", size, 1, 256)


def _check_whole(what: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        expected = f"{what} as a whole number from {low} to {high}"
        raise ArgumentError("load", expected, got=repr(value), fix=f"choose a {what} there")
