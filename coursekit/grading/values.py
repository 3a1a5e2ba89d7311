"""Plain values: all that may cross between a check and the learner's code, and how they are shown.

Plain are None, bool, int, float, complex, str, torch.dtype, torch.device, dense tensors, and lists, tuples and
dictionaries of these. A subclass becomes its plain base without running a line of its code; everything else
becomes an `Opaque`, which equals nothing that a check expects.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coursekit.errors import LessonError

MAX_DEPTH = 16
MAX_NODES = 20_000
MAX_TEXT = 10_000  # characters
MAX_TENSOR = 256 * 2**20  # bytes
SHOWN = 10  # elements of a tensor that are shown one by one

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)


@dataclass(frozen=True)
class Opaque:
    """Stands for a value of the learner's that is not plain.

    Args:
        what: its type, or why it could not be read.
    """

    what: str

    def __bool__(self) -> bool:
        raise TypeError(f"{self.what} is neither true nor false here")


def plain(value: object) -> Any:
    """Return a plain copy of whatever came from the learner's code; tensors are detached, dense and their own."""
    return _plain(value, _own_tensor, 0, [MAX_NODES])


def argument(value: object, where: str) -> Any:
    """Return a deep copy of what a check hands to the learner's code.

    Strides are kept, and so is shared memory: two views of one tensor stay two views of one tensor.

    Raises:
        LessonError: it holds something that is not plain.
    """
    checked = _plain(value, _same_tensor, 0, [MAX_NODES])
    found = next(_opaques(checked), None)
    if found is not None:
        raise LessonError(
            where, "plain values as arguments", got=found.what, fix="build it inside a probe: learner.run(probe, ...)"
        )
    return copy.deepcopy(checked)


# ------------------------------------------------------------------------------------- reading


def _plain(value: Any, tensor: Callable[[Tensor], Any], depth: int, left: list[int]) -> Any:
    # `type(value)` and the unbound methods of the bases never run code of the learner's, unlike
    # `isinstance`, `==` and iteration.
    kind = type(value)
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        return Opaque("a value with too many parts")
    if value is None or kind is bool or kind is torch.dtype or kind is torch.device or kind is Opaque:
        return value
    if issubclass(kind, Tensor):
        return tensor(value)
    if issubclass(kind, int):
        return int.__int__(value) if int.bit_length(value) <= 64 else Opaque("an integer of more than 64 bits")
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, complex):
        return complex.__complex__(value)
    if issubclass(kind, str):
        return str.__str__(value) if str.__len__(value) <= MAX_TEXT else Opaque("a text that is too long")
    if issubclass(kind, list):
        return [_plain(part, tensor, depth + 1, left) for part in list.__iter__(value)]
    if issubclass(kind, tuple):
        return tuple([_plain(part, tensor, depth + 1, left) for part in tuple.__iter__(value)])
    if issubclass(kind, dict):
        return _plain_dict(value, tensor, depth, left)
    return Opaque(_name(kind))


def _plain_dict(value: dict[Any, Any], tensor: Callable[[Tensor], Any], depth: int, left: list[int]) -> Any:
    found = {}
    for key, part in dict.items(value):
        if type(key) not in (str, int, float, bool, type(None)) or type(_plain(key, tensor, depth, left)) is Opaque:
            return Opaque(f"a dict with {_name(type(key))} as a key")
        found[key] = _plain(part, tensor, depth + 1, left)
    return found


def _own_tensor(value: Tensor) -> Tensor | Opaque:
    """Return a detached, contiguous copy."""
    read = _detached(value)
    if isinstance(read, Opaque):
        return read
    return read.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def _same_tensor(value: Tensor) -> Tensor | Opaque:
    """Return the same memory, detached; it asks for a gradient where the argument did."""
    read = _detached(value)
    return read if isinstance(read, Opaque) else read.requires_grad_(value.requires_grad)


def _detached(value: Tensor) -> Tensor | Opaque:
    name = _name(type(value))
    try:
        with _without_overrides(type(value)):
            read = value.detach()
            read = read if type(read) is Tensor else read.as_subclass(Tensor)
            if read.layout is not torch.strided or read.is_quantized or read.is_nested or read.device.type == "meta":
                return Opaque(f"{name} with layout {read.layout} on {read.device}")
            if read.dtype not in (*_INTEGERS, *_FLOATS):
                return Opaque(f"{name} of {read.dtype}")
            if read.numel() * read.element_size() > MAX_TENSOR:
                return Opaque(f"{name} of shape {tuple(read.shape)}, which is too large")
            return read
    except Exception as error:
        return Opaque(f"{name} that cannot be read ({type(error).__name__})")


@contextmanager
def _without_overrides(kind: type) -> Iterator[None]:
    """Keep a tensor subclass from answering in place of the tensor that it is."""
    if kind in (Tensor, torch.nn.Parameter):
        yield
        return
    with torch._C.DisableTorchFunctionSubclass(), torch._C._DisableTorchDispatch():  # pyright: ignore[reportAttributeAccessIssue]
        yield


def _opaques(value: Any) -> Iterator[Opaque]:
    if isinstance(value, Opaque):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _opaques(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _opaques(part)


def _name(kind: type) -> str:
    module = type.__dict__["__module__"].__get__(kind)
    name = type.__dict__["__qualname__"].__get__(kind)
    return f"{name}"[:80] if module == "builtins" else f"{module}.{name}"[:80]


# ------------------------------------------------------------------------------------- showing


def kind_of(value: Any) -> str:
    """Return what a plain value is, in words: `a tensor`, `a tuple of 2`, `None`."""
    if value is None:
        return "None"
    if isinstance(value, Opaque):
        return value.what
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def show(value: Any) -> str:
    """Return a plain value as a reader wants it: small tensors in full, larger ones by shape and dtype."""
    if isinstance(value, Tensor):
        return _show_tensor(value)
    if isinstance(value, Opaque):
        return f"<{value.what}>"
    if isinstance(value, list | tuple):
        shown = [show(part) for part in value[:SHOWN]] + (["..."] if len(value) > SHOWN else [])
        inner = ", ".join(shown)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {show(part)}" for key, part in value.items()) + "}"
    text = repr(value)
    if type(value) is float and len(text) > 12:
        return f"{value:.9g}"
    return text if len(text) <= 200 else text[:199] + "…"


def _show_tensor(tensor: Tensor) -> str:
    suffix = "" if tensor.dtype is torch.float32 else f", dtype={short(tensor.dtype)}"
    if tensor.numel() > SHOWN or (not tensor.numel() and tensor.dim() > 1):
        return f"<tensor of shape {tuple(tensor.shape)}{suffix}>"
    return f"tensor({_show_nested(tensor.tolist())}{suffix})"


def _show_nested(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_show_nested(part) for part in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def short(dtype: torch.dtype) -> str:
    """Return a dtype's name without `torch.`."""
    return str(dtype).removeprefix("torch.")
