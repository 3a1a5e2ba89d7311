"""The data sets that must be fetched, on small files in the real formats and a server on this machine."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import os
import pickle
import ssl
import struct
import tarfile
import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coursekit.data import download, is_available, load
from coursekit.data.downloads import read
from coursekit.errors import ArgumentError, DataError, OutputError

TRAIN, TEST = 120, 30  # rows; CIFAR-10's training part lies in five files


class Small(NamedTuple):
    """What was written: pixels (n, c, h, w) and labels of the training and of the test part."""

    root: Path
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def rows(count: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype=np.uint8), generator.permutation(count) % 10


def idx(array: np.ndarray) -> bytes:
    """The MNIST file format: two zeros, 8 for unsigned bytes, the number of axes, big-endian sizes, bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def old_pickle(value: object) -> bytes:
    """A pickle as the NumPy of 2009 wrote CIFAR-10: an older module name, and 0 and 1 for False and True."""
    content = pickle.dumps(value, protocol=2)
    return content.replace(b"numpy._core.", b"numpy.core.").replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


def write_mnist(folder: Path, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> None:
    folder.mkdir(parents=True)
    for name, (images, labels) in (("train", train), ("t10k", test)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))


def write_cifar10(folder: Path, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]) -> dict[str, str]:
    """Write the seven files and return their checksums."""
    folder.mkdir(parents=True)
    batches = {f"data_batch_{i + 1}": tuple(part[i::5] for part in train) for i in range(5)} | {"test_batch": test}
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    values = {
        name: {"data": images.reshape(len(images), -1), "labels": labels.tolist()}
        for name, (images, labels) in batches.items()
    }
    sums = {}
    for name, value in (values | {"batches.meta": {"label_names": names}}).items():
        content = old_pickle(value)
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    return sums


@pytest.fixture
def mnist(tmp_path: Path) -> Small:
    """MNIST's four files with few rows."""
    small = Small(tmp_path / "data", rows(TRAIN, (1, 28, 28), 0), rows(TEST, (1, 28, 28), 1))
    write_mnist(small.root / "MNIST" / "raw", small.train, small.test)
    return small


@pytest.fixture
def fashion_mnist(tmp_path: Path) -> Small:
    """Fashion-MNIST's four files with few rows."""
    small = Small(tmp_path / "data", rows(TRAIN, (1, 28, 28), 2), rows(TEST, (1, 28, 28), 3))
    write_mnist(small.root / "FashionMNIST" / "raw", small.train, small.test)
    return small


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """CIFAR-10's seven files with few rows; torchvision goes on checking, against the sums of these."""
    from torchvision.datasets import CIFAR10

    small = Small(tmp_path / "data", rows(TRAIN, (3, 32, 32), 4), rows(TEST, (3, 32, 32), 5))
    sums = write_cifar10(small.root / "cifar-10-batches-py", small.train, small.test)
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    # The training rows lie in the order of the five files.
    order = np.concatenate([np.arange(i, TRAIN, 5) for i in range(5)])
    return small._replace(train=(small.train[0][order], small.train[1][order]))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with suppress(ConnectionError):  # torchvision first asks only for redirections, and hangs up
            super().copyfile(source, outputfile)


class Site(NamedTuple):
    """A server of archives, and torchvision's tables pointed at it."""

    folder: Path
    address: str


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve a folder on this machine."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mnist_site(mnist: Small, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site with MNIST's archives, whose checksums torchvision expects."""
    from torchvision.datasets import MNIST

    resources = []
    for file in sorted((mnist.root / "MNIST" / "raw").iterdir()):
        content = gzip.compress(file.read_bytes())
        (site.folder / f"{file.name}.gz").write_bytes(content)
        resources.append((f"{file.name}.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", [site.address])
    return site


@pytest.fixture
def cifar10_site(cifar10: Small, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site with CIFAR-10's archive, whose checksum torchvision expects."""
    from torchvision.datasets import CIFAR10

    archive = site.folder / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10.root / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "url", site.address + CIFAR10.filename)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return site


@pytest.fixture(params=["mnist", "fashion_mnist", "cifar10"])
def any_small(request: pytest.FixtureRequest) -> tuple[str, Small]:
    return request.param, request.getfixturevalue(request.param)


def file_of(small: Small, pattern: str) -> Path:
    """The one file whose path ends so."""
    (path,) = small.root.rglob(f"*{pattern}*")
    return path


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def torchvision_utils() -> ModuleType:
    import torchvision.datasets.utils

    return torchvision.datasets.utils


# Reading


def test_read_gives_the_written_pixels_and_labels(any_small: tuple[str, Small]) -> None:
    name, small = any_small
    for (images, targets), (pixels, labels) in zip(read(name, small.root), (small.train, small.test), strict=True):
        torch.testing.assert_close(images, torch.as_tensor(pixels))
        torch.testing.assert_close(targets, torch.as_tensor(labels))


@pytest.mark.parametrize("size", [None, 8])
def test_load_divides_and_normalises(any_small: tuple[str, Small], size: int | None) -> None:
    name, small = any_small
    data = load(name, root=small.root, size=size)
    held = {"mnist": 20, "fashion_mnist": 20, "cifar10": 12}[name]
    assert (len(data.train), len(data.validation), len(data.test)) == (TRAIN - held, held, TEST)
    channels, *sides = data.card.shape
    assert data.input_shape == (channels, *(sides if size is None else (size, size)))
    assert data.mean.shape == data.std.shape == (1, channels, 1, 1)
    assert all(part.inputs.is_contiguous() for part in (data.train, data.validation, data.test))
    torch.testing.assert_close(data.train.inputs.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.test.targets, torch.as_tensor(small.test[1]))
    if size is None:
        pixels = torch.as_tensor(small.test[0]).float() / 255
        torch.testing.assert_close(data.denormalise(data.test.inputs), pixels)


def test_seed_divides_and_limit_cuts(mnist: Small) -> None:
    whole, other = load("mnist", root=mnist.root), load("mnist", root=mnist.root, seed=1)
    assert not torch.equal(whole.validation.targets, other.validation.targets)
    part = load("mnist", root=mnist.root, limit=30)
    torch.testing.assert_close(part.train.targets, whole.train.targets[:30])
    torch.testing.assert_close(part.train.targets.bincount(), torch.full((10,), 3))
    with pytest.raises(ArgumentError, match=r"limit as a whole number from 10 to 100\. Got 101"):
        load("mnist", root=mnist.root, limit=101)


def test_root_comes_from_the_environment(mnist: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(mnist.root.parent)
    monkeypatch.delenv("COURSEKIT_DATA", raising=False)
    assert is_available("mnist")  # in ./data
    monkeypatch.setenv("COURSEKIT_DATA", str(tmp_path / "elsewhere"))
    assert not is_available("mnist")
    assert is_available("mnist", mnist.root)  # the argument wins
    monkeypatch.setenv("HOME", str(mnist.root.parent))
    assert is_available("mnist", "~/data")


# Missing and damaged files


def test_available_means_every_file(any_small: tuple[str, Small]) -> None:
    name, small = any_small
    for path in [path for path in small.root.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert is_available(name, small.root)
        path.unlink()
        assert not is_available(name, small.root)
        with pytest.raises(DataError, match=rf"data {name}: its files in .*Got no .*{path.name}"):
            load(name, root=small.root)
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_embedded_data_is_always_available(name: str, tmp_path: Path) -> None:
    assert is_available(name, tmp_path)
    assert download(name, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        (None, "run `coursekit download mnist`."),
        ("here", "run `coursekit download mnist --root here`."),
        ("my data", "run `coursekit download mnist --root 'my data'`."),
    ],
)
def test_missing_data_prints_the_command(
    folder: str | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COURSEKIT_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load("mnist", root=folder)
    assert str(caught.value) == (
        f"data mnist: its files in {folder or 'data'}/MNIST. Got no raw/train-images-idx3-ubyte. Fix: {command}"
    )


@pytest.mark.parametrize("call", [load, is_available, download])
def test_unknown_name_is_a_data_error(call: Callable[[str], object]) -> None:
    with pytest.raises(DataError, match=r"Got 'fashion-mnist'\. Fix: write `fashion_mnist`"):
        call("fashion-mnist")


def cut_short(content: bytes) -> bytes:
    return content[:-1]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def emptied(content: bytes) -> bytes:
    return b""


def replaced(content: bytes) -> bytes:
    return b"<html>not found</html>"


@pytest.mark.parametrize("change", [cut_short, emptied, replaced])
@pytest.mark.parametrize("file", ["train-images", "train-labels", "t10k-images", "t10k-labels"])
def test_damaged_idx_file(mnist: Small, file: str, change: Callable[[bytes], bytes]) -> None:
    path = file_of(mnist, file)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=r"Got a file that is cut short or altered\. Fix: replace them by `coursekit"):
        load("mnist", root=mnist.root)


@pytest.mark.parametrize("change", [cut_short, emptied, replaced, flipped])
@pytest.mark.parametrize("file", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_damaged_pickle_is_never_read(
    cifar10: Small, file: str, change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(cifar10, file)
    path.write_bytes(change(path.read_bytes()))
    opened, genuine = [], pickle.load

    def spy(file: Any, **options: Any) -> object:
        opened.append(Path(file.name).name)
        return genuine(file, **options)

    monkeypatch.setattr(pickle, "load", spy)
    with pytest.raises(DataError, match=r"data cifar10: .*Got a file that is cut short or altered"):
        load("cifar10", root=cifar10.root)
    assert file not in opened


@pytest.mark.parametrize(
    ("file", "array", "words"),
    [
        ("train-images", np.zeros((TRAIN, 28, 27)), r"Got images \(120, 1, 28, 27\) and 120 labels"),
        ("train-images", np.zeros((TRAIN - 1, 28, 28)), r"Got images \(119, 1, 28, 28\) and 120 labels"),
        ("t10k-labels", np.arange(TEST + 1) % 10, r"Got images \(30, 1, 28, 28\) and 31 labels"),
        ("t10k-labels", np.arange(TEST) % 11, r"Got labels \[0, 1, .*, 9, 10\]"),
        ("train-labels", np.arange(TRAIN) % 9, r"Got labels \[0, 1, .*, 8\]"),
    ],
    ids=["width", "images", "labels", "label 10", "no label 9"],
)
def test_files_that_do_not_fit(mnist: Small, file: str, array: np.ndarray, words: str) -> None:
    file_of(mnist, file).write_bytes(idx(array))
    with pytest.raises(DataError, match=rf"whole files in .*images \(1, 28, 28\), labels 0 to 9\. {words}"):
        load("mnist", root=mnist.root)


def test_empty_parts_do_not_fit(mnist: Small) -> None:
    file_of(mnist, "t10k-images").write_bytes(idx(np.zeros((0, 28, 28))))
    file_of(mnist, "t10k-labels").write_bytes(idx(np.zeros(0)))
    with pytest.raises(DataError, match="replace them by"):
        load("mnist", root=mnist.root)


@given(st.integers(0, 15), st.integers(0, 255))
@example(2, 9)  # signed bytes
@example(2, 10)  # a kind of number that does not exist
@example(3, 1)  # one axis
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_header_byte_escapes(mnist: Small, position: int, value: int) -> None:
    path = file_of(mnist, "train-images")
    whole = path.read_bytes()
    path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    with suppress(DataError):
        read("mnist", mnist.root)
    path.write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"not a tensor"], ids=["empty", "text"])
def test_damage_in_the_old_layout_of_torchvision(mnist: Small, content: bytes) -> None:
    folder = mnist.root / "MNIST" / "processed"
    folder.mkdir()
    for file in ("training.pt", "test.pt"):
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match="cut short or altered"):
        load("mnist", root=mnist.root)


def test_unreadable_file(mnist: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    def refuse(self: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "train-images-idx3-ubyte")

    monkeypatch.setattr(MNIST, "_load_data", refuse)
    words = "data mnist: files that can be read. Got permission denied: train-images-idx3-ubyte. Fix: give yourself"
    with pytest.raises(DataError, match=words):
        load("mnist", root=mnist.root)


# Downloading


def test_mnist_is_fetched(mnist_site: Site, mnist: Small, tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    assert download("mnist", root) == root / "MNIST"
    torch.testing.assert_close(read("mnist", root)[0][0], torch.as_tensor(mnist.train[0]))
    assert [path.name for path in root.iterdir()] == ["MNIST"]


# From 3.12 on, tarfile warns about what torchvision does.
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_cifar10_is_fetched(cifar10_site: Site, cifar10: Small, tmp_path: Path) -> None:
    root = tmp_path / "new"
    assert download("cifar10", root) == root / "cifar-10-batches-py"
    torch.testing.assert_close(read("cifar10", root)[0][0], torch.as_tensor(cifar10.train[0]))
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]


def test_whole_data_is_not_fetched_again(any_small: tuple[str, Small], monkeypatch: pytest.MonkeyPatch) -> None:
    name, small = any_small
    monkeypatch.setattr(torchvision_utils(), "download_url", None)
    before = sorted(small.root.rglob("*"))
    assert download(name, small.root) in before
    assert sorted(small.root.rglob("*")) == before


def test_damaged_data_is_replaced(mnist_site: Site, mnist: Small) -> None:
    file_of(mnist, "train-images").write_bytes(b"cut")
    download("mnist", mnist.root)
    torch.testing.assert_close(read("mnist", mnist.root)[0][0], torch.as_tensor(mnist.train[0]))
    assert [path.name for path in mnist.root.iterdir()] == ["MNIST"]


def test_archives_that_are_here_need_no_network(
    mnist_site: Site, mnist: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("mnist", mnist.root.parent / "new")
    path = mnist.root.parent / "new" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(b"cut")
    monkeypatch.setattr(torchvision_utils(), "_urlretrieve", None)
    download("mnist", mnist.root.parent / "new")
    torch.testing.assert_close(read("mnist", mnist.root.parent / "new")[0][0], torch.as_tensor(mnist.train[0]))


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_an_archive_brought_by_hand(
    cifar10_site: Site, cifar10: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_utils(), "_urlretrieve", None)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes((cifar10_site.folder / "cifar-10-python.tar.gz").read_bytes())
    download("cifar10", tmp_path)
    torch.testing.assert_close(read("cifar10", tmp_path)[1][0], torch.as_tensor(cifar10.test[0]))


def test_failed_download_leaves_what_was_there(mnist_site: Site, mnist: Small) -> None:
    path = file_of(mnist, "train-images")
    path.write_bytes(b"cut")
    (mnist_site.folder / "train-labels-idx1-ubyte.gz").write_bytes(b"another")  # the last of the four
    with pytest.raises(DataError, match=r"from the network\. Got File not found or corrupted"):
        download("mnist", mnist.root)
    assert path.read_bytes() == b"cut"
    assert [path.name for path in mnist.root.iterdir()] == ["MNIST"]


def test_fetched_file_with_another_checksum(mnist_site: Site, tmp_path: Path) -> None:
    (mnist_site.folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"another"))
    with pytest.raises(DataError, match=r"Fix: check the connection, then repeat `coursekit download mnist --root"):
        download("mnist", tmp_path / "new")
    assert not is_available("mnist", tmp_path / "new")


def test_no_network(mnist: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens at the discard port
    with pytest.raises(DataError, match=r"download mnist: whole files from the network\. Got .*refused"):
        download("mnist", tmp_path / "new")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError("timed out"), "timed out"),
        (TimeoutError(), "TimeoutError"),
        (http.client.IncompleteRead(b"half", 9), r"IncompleteRead\(4 bytes read, 9 more expected\)"),
        (urllib.error.URLError("no route to host"), "no route to host"),
        (ssl.SSLError(1, "certificate verify failed"), "certificate verify failed"),
    ],
    ids=["reset", "timeout", "silent timeout", "cut off", "no route", "certificate"],
)
def test_broken_connection(
    error: Exception, words: str, cifar10_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_utils(), "_urlretrieve", raiser(error))
    with pytest.raises(DataError, match=f"download cifar10: .*Got .*{words}.*Fix: check the connection, then repeat"):
        download("cifar10", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "free some disk space"), (errno.EROFS, "writable disk"), (errno.EACCES, "that you may write to")],
    ids=["full", "read-only", "forbidden"],
)
def test_disk_that_refuses(
    number: int, fix: str, cifar10_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_utils(), "_urlretrieve", raiser(OSError(number, os.strerror(number))))
    with pytest.raises(OutputError, match=f"Got {os.strerror(number).lower()}. Fix: .*{fix}"):
        download("cifar10", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="Fix: choose a path that is not taken by a file"):
        download("mnist", tmp_path / "taken")


def test_interrupted_download_leaves_nothing(
    cifar10_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_utils(), "_urlretrieve", raiser(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        download("cifar10", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
