"""Parameters and bytes: tied weights once, real element sizes, what is saved and nothing else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from coursekit.errors import ArgumentError
from coursekit.metrics import ModelSize, bytes_on_disk, model_size


class Held(nn.Module):
    """A module that holds what it is given."""

    def __init__(self, **held: nn.Parameter | nn.Module) -> None:
        super().__init__()
        for name, value in held.items():
            setattr(self, name, value)


def test_linear_by_hand() -> None:
    assert model_size(nn.Linear(10, 5)) == ModelSize(parameters=55, trainable=55, bytes=220)


def test_persistent_buffers_count_bytes_and_no_parameters() -> None:
    # weight and bias, then two running statistics of 4 bytes and a counter of 8
    assert model_size(nn.BatchNorm1d(3)) == ModelSize(parameters=6, trainable=6, bytes=6 * 4 + 6 * 4 + 8)


def test_buffers_that_are_not_saved_do_not_count() -> None:
    module = nn.Linear(2, 2, bias=False)
    module.register_buffer("cache", torch.zeros(1000), persistent=False)
    assert model_size(module).bytes == 16


@pytest.mark.parametrize(
    ("dtype", "width"), [(torch.bfloat16, 2), (torch.float16, 2), (torch.float64, 8), (torch.float8_e4m3fn, 1)], ids=str
)
def test_element_sizes_are_real(dtype: torch.dtype, width: int) -> None:
    assert model_size(nn.Linear(10, 10, bias=False).to(dtype)).bytes == 100 * width


def test_int8_buffers_take_one_byte_each() -> None:
    module = nn.Module()
    module.register_buffer("quantised", torch.zeros(100, dtype=torch.int8))
    assert model_size(module) == ModelSize(parameters=0, trainable=0, bytes=100)


def test_frozen_parameters_are_not_trainable() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    assert model_size(module) == ModelSize(parameters=12 + 8, trainable=8, bytes=80)


def test_a_tied_weight_counts_once() -> None:
    embed, head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
    module = Held(embed=embed, head=head)
    untied = bytes_on_disk(module)
    head.weight = embed.weight
    assert model_size(module) == ModelSize(parameters=400, trainable=400, bytes=1600)
    assert untied - bytes_on_disk(module) >= 1600


def test_two_parameters_over_the_same_memory_count_once() -> None:
    first = nn.Parameter(torch.zeros(4, 6))
    second = nn.Parameter(first.detach().t(), requires_grad=False)
    assert model_size(Held(first=first, second=second)) == ModelSize(parameters=24, trainable=24, bytes=96)
    assert model_size(Held(first=second, second=first)) == ModelSize(parameters=24, trainable=24, bytes=96)


def test_two_halves_of_one_memory_count_both() -> None:
    flat = torch.zeros(24)
    module = Held(first=nn.Parameter(flat[:12]), second=nn.Parameter(flat[12:]))
    assert model_size(module) == ModelSize(parameters=24, trainable=24, bytes=96)


def test_a_view_counts_all_that_saving_it_saves() -> None:
    module = Held(small=nn.Parameter(torch.zeros(10_000)[:10]))
    assert model_size(module) == ModelSize(parameters=10, trainable=10, bytes=40_000)
    assert bytes_on_disk(module) > 40_000


def test_wrapped_tensors_count_what_they_are_made_of() -> None:
    wrapped = TwoTensor(torch.zeros(10, dtype=torch.float32), torch.zeros(10, dtype=torch.float32))
    module = nn.Module()
    module.register_buffer("pair", wrapped)
    assert model_size(module).bytes == 80


def test_other_things_in_the_state_are_left_alone() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            del state

    assert model_size(Counting(2, 2)).bytes == 24


@pytest.mark.parametrize("module", [nn.Identity(), nn.ParameterList([torch.zeros(0)])], ids=["none", "empty"])
def test_a_module_without_elements(module: nn.Module) -> None:
    assert model_size(module) == ModelSize(parameters=0, trainable=0, bytes=0)


def test_meta_modules_have_a_size_too() -> None:
    assert model_size(nn.Sequential(nn.Linear(10, 5, device="meta"), nn.Linear(5, 1, device="meta"))).bytes == 244


@pytest.mark.parametrize("width", [1, 100, 700])
def test_bytes_on_disk_is_the_length_of_what_torch_saves(width: int, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)).bfloat16()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    assert bytes_on_disk(module) == len(buffer.getvalue())
    torch.save(module.state_dict(), tmp_path / "archive")  # the name that a buffer gets
    assert bytes_on_disk(module) == (tmp_path / "archive").stat().st_size
    assert 0 < bytes_on_disk(module) - model_size(module).bytes < 600 * (len(module.state_dict()) + 1)


@pytest.mark.parametrize("measure", [model_size, bytes_on_disk])
@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.LazyBatchNorm1d(affine=False)], ids=["parameter", "buffer"])
def test_lazy_modules_have_no_size_yet(measure, lazy: nn.Module) -> None:
    with pytest.raises(ArgumentError, match=r"must have a shape. Got a lazy 0\.\w+. Fix: run one forward pass"):
        measure(nn.Sequential(lazy))


def test_sparse_tensors_are_refused_by_name() -> None:
    module = nn.Module()
    module.register_buffer("mask", torch.eye(3).to_sparse())
    with pytest.raises(ArgumentError, match=r"must be dense. Got mask in torch.sparse_coo. Fix: use bytes_on_disk"):
        model_size(module)
    assert bytes_on_disk(module) > 0
