"""Where two plain values differ: strictly in type, shape and dtype, and up to rounding in numbers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coursekit.grading.values import kind_of, short, show


class Tolerance(NamedTuple):
    """How far two numbers may lie apart: `rtol` times the largest element expected, plus `atol`.

    None takes the dtype's own: for rtol 1e-9 in float64, 1e-5 in float32, 1.6e-2 in bfloat16, 1e-3 in
    float16; for atol nothing, except where all that is expected is zero (there 16 roundings of 1).
    """

    rtol: float | None = None
    atol: float | None = None

    def allows(self, dtype: torch.dtype, scale: float) -> float:
        """Return the largest error allowed at this scale."""
        rtol = _RTOL.get(dtype, 0.0) if self.rtol is None else self.rtol
        if self.atol is not None:
            return rtol * scale + self.atol
        return rtol * scale if scale > 0 else 16 * torch.finfo(dtype).eps


_RTOL = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 1.6e-2,
    torch.complex128: 1e-9,
    torch.complex64: 1e-5,
}


class Difference(NamedTuple):
    """The first difference between two plain values.

    Args:
        where: which part differs.
        says: a sentence.
        got: that part of the first value, shown.
        expected: that part of the second value, shown.
    """

    where: str
    says: str
    got: str
    expected: str


def difference(
    got: Any,
    expected: Any,
    where: str,
    *,
    tolerance: Tolerance | None,
    nan_equal: bool = False,
    scale: Any = None,
) -> Difference | None:
    """Return the first difference between two plain values, or None.

    Type, length, shape, dtype, device and finiteness are compared strictly and first. An int is accepted
    where a float is expected.

    Args:
        got: what came.
        expected: what should have come.
        where: what to call the value.
        tolerance: None compares numbers exactly.
        nan_equal: whether NaN equals NaN.
        scale: what else gives the size that errors are measured against: one for all of the value, or one for
            each part of it.
    """

    def differ(says: str) -> Difference:
        return Difference(where, says, show(got), show(expected))

    kind = type(expected)
    if (type(got), kind) not in ((kind, kind), (int, float)):
        return differ(f"expected {kind_of(expected)}, got {kind_of(got)}")
    if kind is Tensor:
        says = _tensor_difference(got, expected, tolerance, nan_equal, _largest(scale))
    elif kind in (float, complex):
        says = _number_difference(got, expected, tolerance, nan_equal, _largest(scale))
    elif kind in (list, tuple) and len(got) != len(expected):
        says = f"expected {kind_of(expected)}, got {kind_of(got)}"
    elif kind is dict and got.keys() != expected.keys():
        says = f"expected the keys {sorted(map(str, expected))}, got {sorted(map(str, got))}"
    elif kind in (list, tuple, dict):
        parts = expected if kind is dict else range(len(expected))
        found = (
            difference(
                got[part],
                expected[part],
                f"{where}[{part!r}]",
                tolerance=tolerance,
                nan_equal=nan_equal,
                scale=scale[part] if type(scale) is kind and len(scale) == len(expected) else scale,
            )
            for part in parts
        )
        return next((one for one in found if one), None)
    else:
        says = "" if got == expected else f"expected {show(expected)}, got {show(got)}"
    return differ(says) if says else None


def _tensor_difference(
    got: Tensor, expected: Tensor, tolerance: Tolerance | None, nan_equal: bool, scale: float
) -> str:
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if got.dtype != expected.dtype:
        return f"expected dtype {short(expected.dtype)}, got {short(got.dtype)}"
    if got.device != expected.device:
        return f"expected a tensor on {expected.device}, got one on {got.device}"
    if not expected.numel():
        return ""
    if torch.equal(got, expected):
        return ""
    mine, theirs = _wide(got), _wide(expected)
    if tolerance is not None and (got.is_floating_point() or got.is_complex()):
        error = (mine - theirs).abs()
        worst = float(error.max())
        if math.isfinite(worst):  # then every element is
            allowed = tolerance.allows(got.dtype, max(float(theirs.abs().max()), scale))
            if worst <= allowed:
                return ""
            return f"{_at(error == worst, got, expected)}; the error {worst:.3g} is more than {allowed:.3g}"
    same = mine == theirs
    if nan_equal:
        same |= torch.isnan(mine) & torch.isnan(theirs)
    finite = torch.isfinite(mine) & torch.isfinite(theirs)
    exact = tolerance is None or not (got.is_floating_point() or got.is_complex())
    odd = ~same if exact else ~(same | finite)
    if bool(odd.any()) or exact:
        return _at(odd, got, expected) if bool(odd.any()) else ""
    # Infinities agree, and NaN where it may: compare what is left.
    got, expected = torch.where(finite, got, 0), torch.where(finite, expected, 0)
    return _tensor_difference(got, expected, tolerance, nan_equal, scale)


def _largest(scale: Any) -> float:
    """Return the size of the largest number in a scale; 0 where there is none."""
    if isinstance(scale, Tensor):
        return float(_wide(scale).abs().max()) if scale.numel() else 0.0
    if isinstance(scale, list | tuple):
        return max(map(_largest, scale), default=0.0)
    return 0.0 if scale is None else abs(scale)


def _at(places: Tensor, got: Tensor, expected: Tensor) -> str:
    """Return what stands at the first of the marked places."""
    place = tuple(int(part) for part in places.nonzero()[0])
    words = f"expected {_item(expected, place)}, got {_item(got, place)}"
    return f"at {list(place)} {words}" if place else words


def _number_difference(
    got: float | complex, expected: float | complex, tolerance: Tolerance | None, nan_equal: bool, scale: float
) -> str:
    if got == expected or (nan_equal and got != got and expected != expected):
        return ""
    error, scale = abs(got - expected), max(abs(expected), scale)
    words = f"expected {show(expected)}, got {show(got)}"
    if tolerance is None or not math.isfinite(error):
        return words
    allowed = tolerance.allows(torch.float64, scale)
    return "" if error <= allowed else f"{words}; the error {error:.3g} is more than {allowed:.3g}"


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor on the CPU in a dtype in which differences are exact enough."""
    tensor = tensor.cpu()
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor.long()


def _item(tensor: Tensor, place: tuple[int, ...]) -> str:
    value = tensor[place].item()
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def identical(first: Any, second: Any) -> bool:
    """Return whether two plain values are the same to the last bit; NaN equals NaN."""
    return difference(first, second, "", tolerance=None, nan_equal=True) is None


def alike(first: Any, second: Any) -> bool:
    """Return whether two plain values are equal up to the rounding of their dtype; NaN equals NaN."""
    return difference(first, second, "", tolerance=Tolerance(), nan_equal=True) is None
