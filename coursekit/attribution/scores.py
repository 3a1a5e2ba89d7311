"""What every method explains: one number per row, a model's output at a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from coursekit.errors import ArgumentError
from coursekit.metrics import evaluating

Model = Callable[[Tensor], Tensor]
Target = int | Tensor | None
Baseline = float | Tensor | None
Result = TypeVar("Result")

# Numbers of input per pass when the caller does not say: on a CPU what its caches hold, on a GPU what keeps it busy.
_NUMBERS_PER_PASS = {"cpu": 3 * 2**14, "cuda": 2**24}


def shape_of(value: object) -> str:
    """Return a value in a few words for an error message."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    return repr(value)


class Explained:
    """A model, the rows to explain and the output that is explained.

    Changed copies of the rows go through the model in passes of `batch_size` rows, so that memory is bounded by the
    larger of one pass and the inputs themselves. A module is held in evaluation mode meanwhile; the rows of a batch
    must not depend on each other.

    Args:
        where: the function that complains about bad arguments.
        model: a module or function: rows (n, ...) to outputs (n, K), or to (n,) or (n, 1) when `target` is None.
        inputs: the rows to explain (B, ...), floating, finite, at least one. Never changed.
        target: the output to explain: one index, one per row (B,), or None for a model with one output.
        batch_size: rows per pass; None chooses by the size of a row.

    Raises:
        ArgumentError: an argument is not as above (what only the model's output shows: with the first pass).
    """

    def __init__(
        self, where: str, model: Model, inputs: Tensor, target: Target = None, *, batch_size: int | None = None
    ) -> None:
        self.where = where
        self.model = model
        self.inputs = check_inputs(where, inputs)
        self.target = self._check_target(target)
        self._bounds = (0, 0) if self.target is None else tuple(int(bound) for bound in self.target.aminmax())
        if batch_size is None:
            numbers = _NUMBERS_PER_PASS.get(inputs.device.type, 2**20)
            batch_size = max(16, numbers // inputs[0].numel())
        elif batch_size < 1:
            raise ArgumentError(where, "batch_size must be at least 1", got=batch_size, fix="pass 64")
        self.batch_size = batch_size
        # Convolutions of a CPU run faster on pictures laid out channels last; some models cannot take that layout.
        self._channels_last = inputs.ndim == 4 and inputs.device.type == "cpu"
        self._takes_channels_last = False  # until a pass has shown it

    def __len__(self) -> int:
        return len(self.inputs)

    def groups(self, count: int) -> Iterator[slice]:
        """Divide `count` variants of all rows into groups of about one pass each."""
        together = max(1, self.batch_size // len(self))
        yield from (slice(start, min(start + together, count)) for start in range(0, count, together))

    def scores(self, count: int, variants: Callable[[slice], Tensor]) -> Tensor:
        """Return the score of each row under each of `count` variants, (B, count), without a graph.

        Args:
            count: number of variants.
            variants: gives the variants of a slice, (m, B, ...), in memory of their own: a model may write over it.
        """
        table = torch.empty(len(self), count, dtype=self._dtype, device=self.inputs.device)
        with torch.inference_mode(), evaluating(self.model):
            for group in self.groups(count):
                rows = variants(group)
                flat = torch.cat([self._score(*piece) for piece in self._pieces(rows)])
                table[:, group] = flat.view(rows.shape[:2]).T
        return self._finite(table)

    def scores_of(self, which: Tensor, changed: Callable[[slice], Tensor]) -> Tensor:
        """Return the scores (N,) of changed copies of single rows, without a graph.

        Args:
            which: the row that each is a copy of, (N,), int64; its target is explained.
            changed: gives the copies of a slice, (n, ...).
        """
        column = torch.empty(len(which), dtype=self._dtype, device=self.inputs.device)
        with torch.inference_mode(), evaluating(self.model):
            for start in range(0, len(which), self.batch_size):
                part = slice(start, min(start + self.batch_size, len(which)))
                target = None if self.target is None else self.target[which[part]]
                column[part] = self._score(changed(part), target)
        return self._finite(column)

    def gradients(self, count: int, variants: Callable[[slice], Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of `count` variants with ∂ score / ∂ variant, (m, B, ...); no parameter gets a gradient.

        Works inside of `no_grad` and `inference_mode`.

        Args:
            count: number of variants.
            variants: gives the variants of a slice, (m, B, ...).
        """
        with evaluating(self.model):
            for group in self.groups(count):
                rows = variants(group)
                slopes = torch.cat([self._gradient(*piece) for piece in self._pieces(rows)])
                yield group, slopes.view(rows.shape).contiguous()

    def parts(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the rows themselves, pass by pass, each with its targets."""
        yield from self._pieces(self.inputs[None])

    def _finite(self, scores: Tensor) -> Tensor:
        if not scores.isfinite().all():
            raise ArgumentError(
                self.where,
                "the model's outputs must be finite",
                got="NaN or infinity",
                fix="look for a logarithm of 0 or an overflow in the model",
            )
        return scores

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.inputs.dtype, torch.float32)

    def _pieces(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Divide variants (m, B, ...) into passes of nearly equal size, each with its targets."""
        flat = rows.flatten(0, 1)
        target = None if self.target is None else self.target.repeat(len(rows))
        passes = -(-len(flat) // self.batch_size)
        size = -(-len(flat) // passes)
        for start in range(0, len(flat), size):
            part = slice(start, start + size)
            yield flat[part], None if target is None else target[part]

    def _gradient(self, rows: Tensor, target: Tensor | None) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            laid = (channels_last(rows) if self._channels_last else rows.contiguous()).detach()
            leaf = (laid.clone() if laid.is_inference() else laid).requires_grad_()
            # The model gets a copy: its first layer may work in place.
            score = self._score(leaf.clone(), None if target is None else target.clone())
            found = torch.autograd.grad(score.sum(), leaf, allow_unused=True)[0] if score.requires_grad else None
        if found is None:
            raise ArgumentError(
                self.where,
                "the score must depend on the inputs by differentiable steps",
                fix="explain a model without detach or argmax, or use a method that only asks for outputs (occlusion)",
            )
        if not found.isfinite().all():
            raise ArgumentError(
                self.where,
                "the model's gradients must be finite",
                got="NaN or infinity",
                fix="look for a root or a logarithm of 0 in the model",
            )
        return found

    def _score(self, rows: Tensor, target: Tensor | None) -> Tensor:
        """Return one number per row (n,), at least float32."""
        return self.laid_out(partial(self.run, target=target), rows).to(self._dtype)

    def _chosen(self, output: Tensor, target: Tensor | None) -> Tensor:
        """Return the explained output of each row, (n,).

        Args:
            output: what the model gave for n rows.
            target: of these rows, (n,), or None.

        Raises:
            ArgumentError: the output has no such place.
        """
        if target is None:
            if output.ndim == 2 and output.shape[1] != 1:
                raise ArgumentError(
                    self.where,
                    "target must name one of the model's outputs",
                    got=f"None, with outputs {tuple(output.shape)}",
                    fix="pass the class to explain, such as model(inputs).argmax(1)",
                )
            return output.reshape(-1)
        if output.ndim == 1:
            raise ArgumentError(
                self.where,
                "target must be None for a model with one output per row",
                got=shape_of(self.target),
                fix="leave it out",
            )
        low, high = self._bounds
        if low < 0 or high >= output.shape[1]:
            raise ArgumentError(
                self.where,
                f"target must be from 0 to {output.shape[1] - 1}",
                got=low if low < 0 else high,
                fix="count the classes from 0",
            )
        return output.gather(1, target[:, None]).squeeze(1)

    def run(self, rows: Tensor, target: Tensor | None) -> Tensor:
        """Return one number per row (n,) by a pass of the model, with its graph."""
        output = self.model(rows)
        if not isinstance(output, Tensor) or output.ndim not in (1, 2) or len(output) != len(rows):
            raise ArgumentError(
                self.where,
                f"the model must give outputs ({len(rows)}, K) or ({len(rows)},) for {len(rows)} rows",
                got=shape_of(output),
                fix="wrap the model in a function that returns the scores of its classes",
            )
        return self._chosen(output, target)

    def laid_out(self, run: Callable[[Tensor], Result], rows: Tensor) -> Result:
        """Run something on rows in the layout that is fastest, or in the usual one where the model cannot take that."""
        if self._channels_last and self._takes_channels_last:
            return run(channels_last(rows))
        if self._channels_last:
            try:
                result = run(channels_last(rows).clone())  # a copy: it may be written over before something fails
            except RuntimeError:  # `.view` needs the usual layout; what is wrong by itself is raised by the last line
                self._channels_last = False
            else:
                self._takes_channels_last = True
                return result
        return run(rows.contiguous())

    def _check_target(self, target: Target) -> Tensor | None:
        if target is None:
            return None
        found = torch.as_tensor(target, device=self.inputs.device)
        whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
        if not whole or found.shape not in ((), (len(self),)):
            raise ArgumentError(
                self.where,
                f"target must be an index, or one per row, shape ({len(self)},)",
                got=shape_of(target),
                fix="pass the class to explain, such as model(inputs).argmax(1)",
            )
        return found.long().expand(len(self))


def check_inputs(where: str, inputs: Tensor) -> Tensor:
    """Return the inputs without their graph, or raise an ArgumentError."""
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or not inputs.is_floating_point() or inputs.numel() == 0:
        raise ArgumentError(
            where,
            "inputs must be floating, (B, ...), with at least one row",
            got=shape_of(inputs),
            fix="pass inputs.float(), and inputs[None] for a single row",
        )
    if not inputs.isfinite().all():
        raise ArgumentError(where, "inputs must be finite", got="NaN or infinity", fix="clean the data first")
    return inputs.detach()


def check_baselines(where: str, inputs: Tensor, baseline: Baseline) -> Tensor:
    """Return what stands for absence, as (R, 1 or B, ...): R baselines to average over.

    Args:
        where: the function that complains.
        inputs: (B, ...).
        baseline: None for zeros, a number, or a tensor that broadcasts against the inputs; with one more leading
            axis, (R, ...), it is R baselines.

    Raises:
        ArgumentError: it does not broadcast, or is not finite.
    """
    if not isinstance(baseline, Tensor):
        baseline = inputs.new_full((1,) * inputs.ndim, 0.0 if baseline is None else baseline)
    several = baseline if baseline.ndim == inputs.ndim + 1 else baseline[None]
    if several.ndim <= inputs.ndim:  # fewer axes than a row's: (d,) or (H, W)
        several = several.reshape(1, *[1] * (inputs.ndim + 1 - several.ndim), *several.shape[1:])
    wanted = (len(several), *inputs.shape)
    if several.ndim != len(wanted) or any(
        size not in (1, full) for size, full in zip(several.shape, wanted, strict=True)
    ):
        raise ArgumentError(
            where,
            f"baseline must broadcast against inputs {tuple(inputs.shape)}, or be several of those",
            got=shape_of(baseline),
            fix="pass a number, one row, one row per input, or (R, 1, ...) for R rows",
        )
    if len(several) == 0 or not several.isfinite().all():
        raise ArgumentError(where, "baseline must be finite, at least one", got=shape_of(baseline), fix="pass 0.0")
    rows = several.detach().to(inputs)
    return rows.expand(*rows.shape[:2], *inputs.shape[1:])


def channels_last(rows: Tensor) -> Tensor:
    """Return pictures (n, C, H, W) with the channels of a pixel side by side in memory.

    `contiguous(memory_format=torch.channels_last)` leaves pictures of one channel as they are, with strides by which
    convolutions choose the slower kernel.
    """
    n, c, h, w = rows.shape
    strides = (h * w * c, 1, w * c, c)
    if rows.stride() == strides:
        return rows
    if c == 1 and rows.is_contiguous():
        return rows.as_strided(rows.shape, strides)
    return torch.empty_strided((n, c, h, w), strides, dtype=rows.dtype, device=rows.device).copy_(rows)
