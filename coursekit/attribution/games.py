"""Explanations as games: features, or groups of them, are players that are present or absent."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from coursekit.attribution.scores import Baseline, Explained, Model, Target, check_baselines, check_inputs, shape_of
from coursekit.errors import ArgumentError

_MOST_BITS = 62  # a coalition as one int64


class Game(Protocol):
    """A value for every coalition of players; B games with the same players are played at once."""

    players: int

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Return the values (B, M) of coalitions (M, players), bool."""
        ...


class MaskingGame:
    """The score of each row where the features of absent players are replaced by a baseline.

    With R baselines the value is the mean over them: the interventional game of SHAP. Coalitions that look the same,
    since they differ in players who are as the baseline anyway, are scored once.

    Args:
        model: a module (held in evaluation mode) or a function: (n, ...) to scores (n, K), or (n,) without a target.
        inputs: (B, ...), floating.
        target: the output to explain: an index, one per row (B,), or None for a model with one output.
        baseline: None for zeros, a number, or a tensor that broadcasts against the inputs; with one more leading
            axis, (R, ...), R baselines.
        segments: the player of each feature, integers from 0: for pictures (H, W), or (B, H, W) with segments of
            their own; for tables (d,). None: each column of a table is a player.
        batch_size: rows per pass; None chooses by the size of a row.

    Raises:
        ArgumentError: an argument is not as above.
    """

    def __init__(
        self,
        model: Model,
        inputs: Tensor,
        target: Target = None,
        *,
        baseline: Baseline = None,
        segments: Tensor | None = None,
        batch_size: int | None = None,
        where: str = "MaskingGame",
    ) -> None:
        self._explained = Explained(where, model, inputs, target, batch_size=batch_size)
        self._baselines = check_baselines(where, self._explained.inputs, baseline)
        self._segments, self.players = check_segments(where, inputs, segments)

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Return the values (B, M) of coalitions (M, players), bool; no graph."""
        if coalitions.ndim != 2 or coalitions.shape[1] != self.players or coalitions.dtype != torch.bool:
            raise ArgumentError(
                self._explained.where,
                f"coalitions must be (M, {self.players}), bool",
                got=shape_of(coalitions),
                fix="make one row per coalition, True for those present",
            )
        coalitions = coalitions.to(self._explained.inputs.device)
        few = self._distinct(coalitions) if len(self._baselines) == 1 and self.players <= _MOST_BITS else None
        return self._all_values(coalitions) if few is None else self._values_of(coalitions, *few)

    def _all_values(self, coalitions: Tensor) -> Tensor:
        rows, starts = self._explained.inputs, self._baselines

        def masked(part: slice) -> Tensor:
            which = torch.arange(part.start, part.stop, device=rows.device)
            present = coalitions[which // len(starts)][:, self._segments]
            absent = starts[0] if len(starts) == 1 else starts[which % len(starts)]
            return torch.where(present, rows, absent)

        values = self._explained.scores(len(coalitions) * len(starts), masked)
        return values if len(starts) == 1 else values.unflatten(1, (-1, len(starts))).mean(2)

    def _distinct(self, coalitions: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Find which coalitions look different, for each row: a player who is as the baseline changes nothing.

        Returns:
            Row and coalition of each distinct picture, (N,) each, and for every row and coalition which of those it
            is, (B, M). None where there is little to save.
        """
        bits = 1 << torch.arange(self.players, device=coalitions.device)
        matters = ((self._counts > 0) * bits).sum(1)  # (B,), a bit for each player
        looks = (coalitions * bits).sum(1) & matters[:, None]  # (B, M)
        ordered, order = looks.sort(dim=1, stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        row, place = first.nonzero(as_tuple=True)
        if len(row) > 0.9 * first.numel():
            return None
        number = first.flatten().cumsum(0).view_as(order) - 1
        return row, order[row, place], torch.empty_like(order).scatter_(1, order, number)

    def _values_of(self, coalitions: Tensor, row: Tensor, which: Tensor, number: Tensor) -> Tensor:
        rows = self._explained.inputs
        absent, labels = self._baselines[0].expand_as(rows), self._segments

        def masked(part: slice) -> Tensor:
            chosen, here = coalitions[which[part]], row[part]
            if len(labels) == 1:
                present = chosen[:, labels[0]]
            else:
                own = labels[here]
                present = chosen.gather(1, own.flatten(1)).view_as(own)
            return torch.where(present, rows[here], absent[here])

        return self._explained.scores_of(row, masked)[number]

    @cached_property
    def _counts(self) -> Tensor:
        """How many features of each player differ from the baseline, (B, players)."""
        rows = self._explained.inputs
        differs = (rows != self._baselines[0]).flatten(1)
        labels = self._segments.expand_as(rows).flatten(1)
        return torch.zeros(len(rows), self.players, device=rows.device).scatter_add_(1, labels, differs.float())


def check_segments(where: str, inputs: Tensor, segments: Tensor | None) -> tuple[Tensor, int]:
    """Return the player of each feature, broadcastable against the inputs (B, ...), and how many players there are.

    Raises:
        ArgumentError: the segments do not fit the inputs, or do not count from 0.
    """
    check_inputs(where, inputs)
    if segments is None:
        if inputs.ndim != 2:
            raise ArgumentError(
                where,
                "segments must be given for inputs that are not a table",
                got=f"inputs {tuple(inputs.shape)}",
                fix="pass grid_segments(H, W, cell) or superpixels(pictures)",
            )
        return torch.arange(inputs.shape[1], device=inputs.device)[None], inputs.shape[1]
    batch, *row = inputs.shape
    plane = tuple(row[-2:]) if len(row) == 3 else tuple(row)
    if segments.is_floating_point() or segments.shape not in (plane, (batch, *plane)):
        raise ArgumentError(
            where,
            f"segments must be whole numbers of shape {plane} or {(batch, *plane)}",
            got=shape_of(segments),
            fix="give every feature the number of its player",
        )
    labels = segments.to(inputs.device, torch.long)
    players = int(labels.max()) + 1
    if int(labels.min()) < 0 or len(labels.unique()) != players:
        raise ArgumentError(
            where,
            "segments must count from 0 without gaps",
            got=f"{len(labels.unique())} different ones from {int(labels.min())} to {players - 1}",
            fix="number them by segments.unique(return_inverse=True)[1]",
        )
    if segments.shape == plane:
        labels = labels[None]
    return (labels[:, None] if len(row) == 3 else labels), players
