"""What crosses between the judge and a worker: frames of JSON and raw tensor bytes. No pickle.

A frame is `CKW1`, the length of the JSON (4 bytes), the length of the bytes (8 bytes), the JSON and the bytes, little
endian. A value that JSON does not know is an object with one key that names its kind:

    {"float": "nan"}  {"complex": [re, im]}  {"list": [...]}  {"tuple": [...]}  {"dict": [[key, value], ...]}
    {"dtype": "float32"}  {"device": "cpu"}  {"opaque": what}
    {"tensor": [dtype, shape, stride, offset, memory, requires_grad, device]}

`memory` numbers a piece of the raw bytes, so that two views of one tensor stay two views of one tensor. The judge
takes nothing on trust: every length, kind and bound is checked before anything is built, and only contiguous
tensors with bytes of their own are taken from a worker.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from coursekit.grading.values import MAX_DEPTH, MAX_NODES, MAX_TEXT, Opaque

MAX_JSON = 4 * 2**20  # bytes
MAX_BYTES = 128 * 2**20  # of all tensors of one frame
_HEADER = struct.Struct("<4sIQ")
_MAGIC = b"CKW1"
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip
_ALL_DTYPES = {str(found): found for found in vars(torch).values() if isinstance(found, torch.dtype)}
_DEVICE = re.compile(r"(cpu|cuda|meta|mps)(:\d{1,2})?")
_LIMIT = 2**47  # of a single size, stride or offset


class WireError(Exception):
    """A frame that is not one, or a value that is not as it must be. What came is dropped whole."""


# ------------------------------------------------------------------------------------ frames


def pack(message: dict[str, Any], memory: Sequence[bytes] = ()) -> bytes:
    """Return a frame.

    Args:
        message: made of what JSON knows, and of encoded values.
        memory: the bytes that the tensors of these values refer to, in order.

    Raises:
        WireError: it is larger than the other side accepts.
    """
    tree = {**message, "memory": [len(piece) for piece in memory]}
    text = json.dumps(tree, allow_nan=False, separators=(",", ":")).encode("ascii")
    size = sum(map(len, memory))
    if len(text) > MAX_JSON or size > MAX_BYTES:
        raise WireError(f"a message of {len(text)} bytes of JSON and {size} of tensors is too large")
    return b"".join([_HEADER.pack(_MAGIC, len(text), size), text, *memory])


class Inbox:
    """Gathers bytes as they come, and gives whole frames.

    Args:
        most: bytes of a frame; a longer one is refused as soon as its header says so.
    """

    def __init__(self, most: int = MAX_JSON + MAX_BYTES) -> None:
        self._most = most
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, piece: bytes) -> None:
        """Take bytes.

        Raises:
            WireError: they belong to no frame that could be accepted.
        """
        self._bytes += piece
        self._whole()

    def frame(self) -> tuple[dict[str, Any], list[memoryview]] | None:
        """Return the next frame's message and memory; None while it is not complete.

        Raises:
            WireError: it is not well formed.
        """
        whole = self._whole()
        if whole is None or len(self._bytes) < sum(whole):
            return None
        text, size = whole[1:]
        start = _HEADER.size
        raw = bytes(self._bytes[start : start + text])
        blob = memoryview(bytearray(self._bytes[start + text : start + text + size]))
        del self._bytes[: start + text + size]
        return _message(raw, blob)

    def _whole(self) -> tuple[int, int, int] | None:
        """Return the sizes of header, JSON and bytes; None while the header is not complete."""
        if len(self._bytes) < _HEADER.size:
            if not _MAGIC.startswith(bytes(self._bytes[: len(_MAGIC)])):
                raise WireError("this is no frame")
            return None
        magic, text, size = _HEADER.unpack_from(self._bytes)
        if magic != _MAGIC:
            raise WireError("this is no frame")
        if text > MAX_JSON or _HEADER.size + text + size > self._most:
            raise WireError("the frame is too large")
        return _HEADER.size, text, size


def _message(raw: bytes, blob: memoryview) -> tuple[dict[str, Any], list[memoryview]]:
    try:
        tree = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise WireError("the frame's text is no JSON") from None
    sizes = tree.pop("memory", None) if type(tree) is dict else None
    if type(sizes) is not list or not all(type(size) is int and 0 <= size <= len(blob) for size in sizes):
        raise WireError("the frame does not say what its bytes are")
    if sum(sizes) != len(blob):
        raise WireError("the frame has other bytes than it says")
    pieces, start = [], 0
    for size in sizes:
        pieces.append(blob[start : start + size])
        start += size
    return tree, pieces


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# ------------------------------------------------------------------------------------ values


class Encoder:
    """Turns plain values (see `values.py`) into what JSON knows, and gathers the bytes of their tensors."""

    def __init__(self) -> None:
        self.memory: list[bytes] = []
        self._numbers: dict[tuple[str, int], int] = {}

    def encode(self, value: Any) -> Any:
        """Return a plain value in the form of the wire.

        Raises:
            WireError: it is not plain.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is complex:
            return {"complex": [self.encode(value.real), self.encode(value.imag)]}
        if kind in (list, tuple):
            return {kind.__name__: [self.encode(part) for part in value]}
        if kind is dict:
            return {"dict": [[self.encode(key), self.encode(part)] for key, part in value.items()]}
        if kind is torch.dtype or kind is torch.device:
            return {kind.__name__: str(value)}
        if kind is Opaque:
            return {"opaque": value.what}
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value)}
        raise WireError(f"{kind.__name__} is no plain value")

    def _tensor(self, value: Tensor) -> list[Any]:
        tensor = value.detach()
        if tensor.is_conj() or tensor.is_neg():
            tensor = tensor.resolve_conj().resolve_neg()
        storage = tensor.untyped_storage()
        key = (str(tensor.device), storage.data_ptr() if storage.nbytes() else -1 - len(self._numbers))
        if key not in self._numbers:
            self._numbers[key] = len(self.memory)
            raw = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
            self.memory.append(raw.cpu().numpy().tobytes())
        name = str(tensor.dtype).removeprefix("torch.")
        place = [list(tensor.shape), list(tensor.stride()), tensor.storage_offset(), self._numbers[key]]
        return [name, *place, value.requires_grad, str(tensor.device)]


class Decoder:
    """Builds plain values from what came over the wire.

    Args:
        memory: of the frame.
        trusted: whether it came from the judge: then tensors may share memory, be strided, and ask for gradients.
    """

    def __init__(self, memory: Sequence[memoryview], *, trusted: bool) -> None:
        self._memory = memory
        self._trusted = trusted
        self._left = 3 * MAX_NODES  # keys of dictionaries count here too
        self._bytes = MAX_BYTES
        self._storages: dict[tuple[int, str], torch.UntypedStorage] = {}

    def decode(self, tree: Any, depth: int = 0) -> Any:
        """Return the value.

        Raises:
            WireError: it is not as `Encoder` writes it, or too large.
        """
        try:
            return self._decode(tree, depth)
        except (TypeError, ValueError, RuntimeError, OverflowError, RecursionError, AssertionError) as error:
            # A PyTorch without CUDA raises the last one where a tensor is said to be there.
            raise WireError(f"a value could not be built ({type(error).__name__})") from None

    def _decode(self, tree: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH + 1:
            raise WireError("a value has too many parts")
        kind = type(tree)
        if tree is None or kind is bool or kind is float:
            return tree
        if kind is int and tree.bit_length() <= 64:
            return tree
        if kind is str and len(tree) <= MAX_TEXT:
            return tree
        if kind is not dict or len(tree) != 1:
            raise WireError("a value is of no known kind")
        ((name, content),) = tree.items()
        if name in ("list", "tuple") and type(content) is list:
            parts = [self._decode(part, depth + 1) for part in content]
            return parts if name == "list" else tuple(parts)
        if name == "dict" and type(content) is list:
            return dict(self._pair(pair, depth) for pair in content)
        if name == "tensor" and type(content) is list and len(content) == 7:
            return self._tensor(*content)
        return self._named(name, content)

    def _named(self, name: str, content: Any) -> Any:
        if name == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if name == "complex" and type(content) is list and len(content) == 2:
            return complex(*(self._real(part) for part in content))
        if name == "dtype" and type(content) is str and content in _ALL_DTYPES:
            return _ALL_DTYPES[content]
        if name == "device" and type(content) is str and _DEVICE.fullmatch(content):
            return torch.device(content)
        if name == "opaque" and type(content) is str:
            return Opaque(content[:200])
        raise WireError("a value is of no known kind")

    def _real(self, tree: Any) -> float:
        value = self._decode(tree, MAX_DEPTH)
        if type(value) is not float:
            raise WireError("a complex number is made of two floats")
        return value

    def _pair(self, pair: Any, depth: int) -> tuple[Any, Any]:
        if type(pair) is not list or len(pair) != 2:
            raise WireError("a dictionary is made of pairs")
        key = self._decode(pair[0], depth + 1)
        if type(key) not in (str, int, float, bool, type(None)):
            raise WireError("a dictionary has a key of another kind")
        return key, self._decode(pair[1], depth + 1)

    def _tensor(
        self, name: Any, shape: Any, stride: Any, offset: Any, number: Any, requires_grad: Any, device: Any
    ) -> Tensor:
        if type(name) is not str or name not in _DTYPES or type(requires_grad) is not bool:
            raise WireError("a tensor has an unknown dtype")
        if type(device) is not str or not _DEVICE.fullmatch(device) or device.startswith("meta"):
            raise WireError("a tensor is on an unknown device")
        for sizes in (shape, stride, [offset, number]):
            whole = type(sizes) is list and len(sizes) <= 64
            if not whole or not all(type(size) is int and 0 <= size < _LIMIT for size in sizes):
                raise WireError("a tensor has no shape")
        dtype, count = _DTYPES[name], math.prod(shape)
        self._bytes -= count * dtype.itemsize
        if len(shape) != len(stride) or number >= len(self._memory) or self._bytes < 0:
            raise WireError("a tensor is larger than it may be")
        if not self._trusted:
            if offset or len(self._memory[number]) != count * dtype.itemsize or stride != _contiguous(shape):
                raise WireError("a tensor has other bytes than it says")
            return self._own(dtype, shape, number, device)
        key = (number, device)
        if key not in self._storages:
            raw = torch.frombuffer(self._memory[number], dtype=torch.uint8) if len(self._memory[number]) else None
            raw = torch.empty(0, dtype=torch.uint8) if raw is None else raw
            self._storages[key] = raw.to(device).untyped_storage()
        empty = torch.empty(0, dtype=dtype, device=device)
        return empty.set_(self._storages[key], offset, shape, stride).requires_grad_(requires_grad)

    def _own(self, dtype: torch.dtype, shape: list[int], number: int, device: str) -> Tensor:
        """Return a tensor over bytes that nothing else uses."""
        raw = self._memory[number]
        if not len(raw):
            return torch.empty(shape, dtype=dtype, device=device)
        found = torch.frombuffer(raw, dtype=torch.uint8)
        # A byte other than 0 and 1 would be a truth value of its own kind.
        found = (found != 0) if dtype is torch.bool else found.view(dtype)
        return found.reshape(shape).to(device, copy=True)


def _contiguous(shape: list[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return strides
