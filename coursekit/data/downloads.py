"""The data sets that must be fetched: whether they are here, fetching them, reading them.

torchvision's own data sets fetch and read. They cost 4 CPU seconds to import, so that happens last.
"""

from __future__ import annotations

import http.client
import os
import pickle
import shlex
import shutil
import ssl
import tempfile
import urllib.error
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coursekit.data.cards import card
from coursekit.errors import DataError, UserError
from coursekit.files import make_folder, output_error

if TYPE_CHECKING:
    from torch import Tensor

Root = str | os.PathLike[str] | None


class _Files(NamedTuple):
    dataset: str  # the class in torchvision.datasets
    folder: str  # what it makes below its root
    names: tuple[str, ...]
    archives: str  # where it puts what it fetched, as a pattern below its root


_IDX = tuple(f"raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_FILES = {
    "mnist": _Files("MNIST", "MNIST", _IDX, "MNIST/raw/*.gz"),
    "fashion_mnist": _Files("FashionMNIST", "FashionMNIST", _IDX, "FashionMNIST/raw/*.gz"),
    "cifar10": _Files(
        "CIFAR10",
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        "cifar-10-python.tar.gz",
    ),
}

# What torchvision raises, depending on which byte of a file is wrong.
_DAMAGE = (
    AssertionError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
_NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def is_available(name: str, root: Root = None) -> bool:
    """Say whether `load` would find the files of a data set; whether they are whole, only reading tells.

    Args:
        name: one of `NAMES`.
        root: the folder of all data sets; `$COURSEKIT_DATA`, else `./data`.

    Raises:
        DataError: the name is unknown.
    """
    return card(name).embedded or not _absent(name, root)


def download(name: str, root: Root = None) -> Path | None:
    """Fetch a data set, unless it is here and whole; a damaged one is replaced once the new one is whole.

    Archives that already lie where torchvision would put them are used, if their checksums are right: so
    data can be brought to a computer that has no network.

    Args:
        name: one of `NAMES`.
        root: the folder of all data sets, made if need be; `$COURSEKIT_DATA`, else `./data`.

    Returns:
        The data set's folder; None when it ships inside scikit-learn.

    Raises:
        DataError: the name is unknown, the network failed, or what came is not what its authors published.
        OutputError: the folder cannot be written to or the disk is full.
    """
    if card(name).embedded:
        return None
    top, folder = make_folder(_top(root)), _folder(name, root)
    with suppress(DataError):
        read(name, root)
        return folder
    try:
        # Beside the final place, so that an interrupted download never looks like a finished one.
        with tempfile.TemporaryDirectory(dir=top, prefix=f".{name}-") as fresh:
            for archive in top.glob(_FILES[name].archives):
                copy = Path(fresh) / archive.relative_to(top)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(archive, copy)
            _open(name, fresh, download=True)
            read(name, fresh)
            if os.path.lexists(folder):
                os.replace(folder, Path(fresh) / "replaced")
            os.replace(_folder(name, fresh), folder)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise _download_error(name, root, error) from error
    return folder


def read(name: str, root: Root) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read the authors' training and test parts into memory.

    Returns:
        Twice (inputs, targets): uint8 (n, c, h, w) from 0 to 255, and int64 (n,).

    Raises:
        DataError: files are missing, unreadable or damaged.
    """
    absent = _absent(name, root)
    if absent:
        expected, fix = f"its files in {_folder(name, root)}", f"run {_command(name, root)}"
        raise DataError(f"data {name}", expected, got=f"no {absent[0]}", fix=fix)
    return _read_part(name, root, train=True), _read_part(name, root, train=False)


def _read_part(name: str, root: Root, *, train: bool) -> tuple[Tensor, Tensor]:
    import torch

    try:
        part = _open(name, root, train=train)
        images, targets = torch.as_tensor(part.data), torch.as_tensor(part.targets)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    except OSError as error:
        got = f"{(error.strerror or str(error)).lower()}: {error.filename}"
        fix = "give yourself the right to read it"
        raise DataError(f"data {name}", "files that can be read", got=got, fix=fix) from error
    except _DAMAGE as error:
        raise _damaged(name, root, "a file that is cut short or altered") from error
    entry = card(name)
    if images.shape[1:] != entry.shape or len(images) != len(targets):
        raise _damaged(name, root, f"images {tuple(images.shape)} and {len(targets)} labels")
    if targets.unique().tolist() != list(range(len(entry.classes))):
        raise _damaged(name, root, f"labels {targets.unique().tolist()}")
    return images, targets


def _open(name: str, root: Root, **options: bool) -> Any:
    """Return torchvision's data set; it checks CIFAR-10's checksums here, MNIST's only on download."""
    import torchvision.datasets

    return getattr(torchvision.datasets, _FILES[name].dataset)(_top(root), **options)


def _absent(name: str, root: Root) -> list[str]:
    return [file for file in _FILES[name].names if not (_folder(name, root) / file).is_file()]


def _top(root: Root) -> Path:
    return Path(root if root is not None else os.environ.get("COURSEKIT_DATA") or "data").expanduser()


def _folder(name: str, root: Root) -> Path:
    return _top(root) / _FILES[name].folder


def _command(name: str, root: Root) -> str:
    place = "" if root is None else f" --root {shlex.quote(os.fspath(root))}"
    return f"`coursekit download {name}{place}`"


def _damaged(name: str, root: Root, got: str) -> DataError:
    shape, last = card(name).shape, len(card(name).classes) - 1
    expected = f"whole files in {_folder(name, root)}: images {shape}, labels 0 to {last}"
    return DataError(f"data {name}", expected, got=got, fix=f"replace them by {_command(name, root)}")


def _download_error(name: str, root: Root, error: Exception) -> UserError:
    if isinstance(error, OSError) and not isinstance(error, _NETWORK):
        return output_error(_top(root), error)
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    fix = f"check the connection, then repeat {_command(name, root)}"
    return DataError(f"download {name}", "whole files from the network", got=reason, fix=fix)
