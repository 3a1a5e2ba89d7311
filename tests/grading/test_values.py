"""Plain values: what crosses between a check and the learner's code, and how it is shown."""

from __future__ import annotations

import collections
import enum
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from coursekit.errors import LessonError
from coursekit.grading.differences import Tolerance, alike, difference, identical
from coursekit.grading.values import MAX_NODES, Opaque, argument, kind_of, plain, show

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.IntEnum):
    RED = 3


class Odd(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise AssertionError("the learner's code ran in the judge")


class OddFloat(float):
    def __eq__(self, other):
        raise AssertionError("the learner's code ran in the judge")

    __hash__ = float.__hash__

    def __float__(self):
        raise AssertionError("the learner's code ran in the judge")


class OddList(list):
    def __iter__(self):
        raise AssertionError("the learner's code ran in the judge")

    def __len__(self):
        raise AssertionError("the learner's code ran in the judge")


@given(TREES)
def test_plain_trees_are_themselves(tree):
    assert identical(plain(tree), tree)
    assert identical(argument(tree, "here"), tree)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (OddFloat(0.5), 0.5),
        (OddList([1, 2]), [1, 2]),
        (Pair(1, 2), (1, 2)),
        (Colour.RED, 3),
        (torch.Size([2, 3]), (2, 3)),
        (collections.OrderedDict(a=1), {"a": 1}),
        (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
        (torch.ones(2).as_subclass(Odd), torch.ones(2)),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j])),
        (torch.float64, torch.float64),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_are_stripped_without_running_their_code(value, expected):
    got = plain(value)
    assert type(got) is type(expected)
    assert identical(got, expected)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (np.ones(2), "numpy.ndarray"),
        (iter([1]), "list_iterator"),
        (torch.ones(2).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(1).expand(2**40), "too large"),
        (2**65, "more than 64 bits"),
        ("x" * 10_001, "too long"),
        ({(1, 2): 3}, "a dict with tuple as a key"),
        ([0] * MAX_NODES, "too many parts"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_everything_else_is_opaque(value, what):
    found = plain([value])[0] if what != "too many parts" else plain(value)[-1]
    assert isinstance(found, Opaque)
    assert what in found.what
    with pytest.raises(LessonError, match="plain values as arguments"):
        argument(value, "learner.f")


def test_a_value_that_holds_itself_ends():
    loop: list[object] = []
    loop.append(loop)
    assert "too many parts" in show(plain(loop))


def test_plain_tensors_are_copies_without_history():
    source = torch.ones(2, requires_grad=True)
    got = plain(2 * source)
    assert not got.requires_grad
    source.data.zero_()
    assert identical(got, 2 * torch.ones(2))


def test_arguments_keep_strides_aliases_and_gradients():
    base = torch.arange(6.0).reshape(2, 3)
    copied = argument({"x": base.T, "row": base[0], "wide": torch.ones(1).expand(3)}, "f")
    assert (copied["x"].stride(), copied["wide"].stride()) == ((1, 3), (0,))
    copied["row"].zero_()
    assert copied["x"][:, 0].tolist() == [0, 0, 0]
    assert base[0].tolist() == [0, 1, 2]
    assert argument(torch.ones(1, requires_grad=True), "f").requires_grad


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor([1.0, -0.5]), "tensor([1, -0.5])"),
        (torch.tensor(3, dtype=torch.int64), "tensor(3, dtype=int64)"),
        (torch.ones(2, 2, dtype=torch.bool), "tensor([[True, True], [True, True]], dtype=bool)"),
        (torch.zeros(11), "<tensor of shape (11,)>"),
        (torch.zeros(10), f"tensor([{', '.join('0' * 10)}])"),
        (torch.zeros(0, 3), "<tensor of shape (0, 3)>"),
        ((torch.zeros(1), None), "(tensor([0]), None)"),
        ((1,), "(1,)"),
        (list(range(12)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        ({"a": 0.1}, "{'a': 0.1}"),
        (Opaque("set"), "<set>"),
        ("x" * 300, "'" + "x" * 198 + "…"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_show(value, text):
    assert show(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), (1, "an int"), (1.0, "a float"), ([], "a list of 0"), (torch.ones(2), "a tensor of shape (2,)")],
    ids=lambda value: str(value),
)
def test_kind_of(value, text):
    assert kind_of(value) == text


# ------------------------------------------------------------------------------- differences


OWN = Tolerance()


def says(got: object, expected: object, tolerance: Tolerance | None = OWN, nan_equal: bool = False) -> str:
    found = difference(got, expected, "x", tolerance=tolerance, nan_equal=nan_equal)
    return f"{found.where}: {found.says}" if found else ""


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (None, torch.ones(1), "expected a tensor of shape (1,), got None"),
        (1.0, torch.tensor(1.0), "expected a tensor of shape (), got a float"),
        (torch.tensor(1.0), 1.0, "expected a float, got a tensor of shape ()"),
        (True, 1.0, "expected a float, got a bool"),
        (1.0, 1, "expected an int, got a float"),
        ([1.0], (1.0,), "expected a tuple of 1, got a list of 1"),
        ((1.0, 2.0), (1.0,), "expected a tuple of 1, got a tuple of 2"),
        ({"a": 1}, {"b": 1}, "expected the keys ['b'], got ['a']"),
        (torch.ones(3, 1), torch.ones(3), "expected shape (3,), got (3, 1)"),
        (torch.ones(1), torch.ones(()), "expected shape (), got (1,)"),
        (torch.ones(1), torch.ones(1).double(), "expected dtype float64, got float32"),
        (torch.ones(1).long(), torch.ones(1), "expected dtype float32, got int64"),
        (torch.tensor([1.0, torch.nan]), torch.ones(2), "at [1] expected 1, got nan"),
        (torch.tensor([[1.0, torch.inf]]), torch.ones(1, 2), "at [0, 1] expected 1, got inf"),
        (torch.tensor([-torch.inf]), torch.tensor([torch.inf]), "at [0] expected inf, got -inf"),
        (torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 3.0, 3.0]), "at [2] expected 3, got 9; the error 6"),
        (torch.tensor(2.0), torch.tensor(1.0), "x: expected 1, got 2; the error 1"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "at [1] expected 3, got 2"),
        (torch.tensor([2**62]), torch.tensor([-(2**62)]), "at [0]"),
        ([1.0, [2.0, 3.5]], [1.0, [2.0, 3.0]], "x[1][1]: expected 3.0, got 3.5"),
        ({"a": (1.0, 5.0)}, {"a": (1.0, 4.0)}, "x['a'][1]: expected 4.0, got 5.0"),
        (float("nan"), 1.0, "expected 1.0, got nan"),
        ("adam", "sgd", "expected 'sgd', got 'adam'"),
        (Opaque("set"), torch.ones(1), "got set"),
        (torch.float32, torch.float64, "expected torch.float64, got torch.float32"),
    ],
    ids=lambda value: str(value)[:16].replace("\n", ""),
)
def test_differences_say_what_differs(got, expected, words):
    assert words in says(got, expected)


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 1.6e-2), (torch.float16, 1e-3)],
    ids=str,
)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_error_is_measured_against_the_tensors_own_scale(dtype, rtol, scale):
    expected = (torch.tensor([1.0, 0.25]) * scale).to(dtype)
    inside = (expected.double() + torch.tensor([0.0, 0.6]) * rtol * scale).to(dtype)
    outside = (expected.double() + torch.tensor([0.0, 1.5]) * rtol * scale).to(dtype)
    assert not says(inside, expected)
    assert "is more than" in says(outside, expected)
    assert says(torch.zeros_like(expected), expected)


def test_an_absolute_tolerance_is_added():
    assert not says(torch.tensor([1e-3]), torch.zeros(1), Tolerance(atol=2e-3))
    assert says(torch.tensor([3e-3]), torch.zeros(1), Tolerance(atol=2e-3))
    assert not says(1.5, 1.0, Tolerance(rtol=0.5))


def test_what_should_be_zero_may_be_a_rounding_of_one():
    assert not says(torch.tensor([1e-15], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert says(torch.tensor([1e-9], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def test_infinities_may_be_expected_and_the_rest_is_compared():
    expected = torch.tensor([torch.inf, 1.0])
    assert not says(expected.clone(), expected)
    assert "at [1]" in says(torch.tensor([torch.inf, 2.0]), expected)
    assert not says(torch.tensor([torch.inf, 1.0 + 1e-7]), expected)


def test_an_int_passes_for_a_float_and_empty_tensors_are_equal():
    assert not says(1, 1.0)
    assert not says(torch.ones(0, 2), torch.ones(0, 2))
    assert says(torch.ones(0, 2), torch.ones(0, 3))


def test_exactly_means_exactly():
    assert says(torch.tensor([1.0 + 2**-23]), torch.ones(1), None)
    assert not says(torch.ones(1), torch.ones(1), None)
    assert says(1.0 + 2**-52, 1.0, None)


def test_nan_equals_nan_only_in_traces():
    nan = torch.tensor([torch.nan, 1.0])
    assert says(nan, nan.clone())
    assert identical(nan, nan.clone())
    assert alike({"a": float("nan")}, {"a": float("nan")})
    assert not identical(nan, torch.tensor([torch.nan, 2.0]))
    assert alike(torch.tensor([torch.nan, 1.0 + 1e-7]), nan)


@given(st.floats(-10, 10).filter(lambda value: abs(value) > 1e-3), st.floats(1e-3, 10))
def test_scaling_both_sides_changes_no_verdict(value: float, factor: float):
    got, expected = torch.tensor([value], dtype=torch.float64), torch.tensor([value * (1 + 5e-10)], dtype=torch.float64)
    assert alike(got * factor, expected * factor)
    assert not alike(got * factor, expected * factor * (1 + 1e-8))


def test_a_tensor_on_another_device_differs():
    class Elsewhere(Tensor):
        device = "cuda:0"  # type: ignore[assignment]

    assert "on cpu, got one on cuda:0" in says_tensor(torch.ones(1).as_subclass(Elsewhere), torch.ones(1))


def says_tensor(got: Tensor, expected: Tensor) -> str:
    from coursekit.grading.differences import _tensor_difference

    return _tensor_difference(got, expected, OWN, False, 0.0)
