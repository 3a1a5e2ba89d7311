"""How large a model is: parameters, bytes in memory and bytes on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from coursekit.errors import ArgumentError


@dataclass(frozen=True)
class ModelSize:
    """What `model_size` counted.

    Args:
        parameters: number of distinct parameter elements.
        trainable: those of them that require a gradient.
        bytes: bytes of the distinct storages behind the parameters and persistent buffers.
    """

    parameters: int
    trainable: int
    bytes: int


def model_size(module: nn.Module) -> ModelSize:
    """Count a module's parameters and the bytes that hold its state, tied weights once.

    Bytes are those of the storages: bfloat16 counts two per element and int8 one, and a parameter that
    is a view of something larger counts all of it, because saving it saves all of it. Buffers that are
    not persistent (`persistent=False`) can be rebuilt and do not count. Quantised and other wrapped
    tensors count what they are made of.

    Args:
        module: any module, on any device, `meta` included.

    Raises:
        ArgumentError: a lazy parameter that has no shape yet, or a sparse one.
    """
    _check_shapes("model_size", module)
    elements: dict[tuple[int, int, int], bool] = {}  # storage, offset, count -> trainable
    storages: dict[int, int] = {}  # storage -> bytes
    for name, parameter in module.named_parameters():
        first = next(_dense_parts(name, parameter))
        # Weights can be tied as one Parameter (counted once by torch) or as two over the same memory.
        key = (first.untyped_storage()._cdata, int(first.storage_offset()), int(parameter.numel()))
        elements[key] = elements.get(key, False) or parameter.requires_grad
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):  # a module may keep other things there (get_extra_state)
            for part in _dense_parts(name, value):
                storage = part.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
    return ModelSize(
        parameters=sum(count for _, _, count in elements),
        trainable=sum(count for (_, _, count), trains in elements.items() if trains),
        bytes=sum(storages.values()),
    )


def bytes_on_disk(module: nn.Module) -> int:
    """Length in bytes of what `torch.save` writes of a module's state, container included.

    The container (names, zip directory, alignment to 64 bytes) costs a few hundred bytes per tensor:
    most of the file for a tiny model, nothing for a large one. A file with a long name takes a little
    more, since the name stands beside every tensor. Nothing is written, and no copy is held in memory.

    Raises:
        ArgumentError: a lazy parameter that has no shape yet.
    """
    _check_shapes("bytes_on_disk", module)
    sink = _Counter()
    torch.save(module.state_dict(), sink)  # pyright: ignore[reportArgumentType]  # needs no more than write
    return sink.length


class _Counter:
    """A file that forgets what is written to it and keeps the length."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, data: Any) -> int:
        self.length += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def _check_shapes(where: str, module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise ArgumentError(
                where, "every parameter must have a shape", got=f"a lazy {name}", fix="run one forward pass"
            )


def _dense_parts(name: str, tensor: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors that hold the data of a tensor: itself, unless it wraps others."""
    flatten = getattr(tensor, "__tensor_flatten__", None)  # torch's protocol for wrappers (quantised, sharded)
    if flatten is not None:
        for inner in flatten()[0]:
            yield from _dense_parts(f"{name}.{inner}", getattr(tensor, inner))
    elif tensor.layout != torch.strided:
        raise ArgumentError(
            "model_size", "tensors must be dense", got=f"{name} in {tensor.layout}", fix="use bytes_on_disk"
        )
    else:
        yield tensor
