"""Explanations by taking parts of the input away, one at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.attribution.games import MaskingGame, check_segments
from coursekit.attribution.scores import Baseline, Explained, Model, Target, check_baselines, shape_of
from coursekit.errors import ArgumentError


def occlusion(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    window: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    baseline: Baseline = None,
    batch_size: int | None = None,
) -> Tensor:
    """Slide a window over each picture: how much the score falls when all channels there take the baseline.

    A pixel gets the mean over the windows that cover it. The last window of a row or column is cut off at the border
    where the stride does not end there. A window that hides only what is the baseline already needs no pass.

    Args:
        model: a module (held in evaluation mode) or a function: (n, C, H, W) to scores (n, K), or (n,) without a
            target.
        inputs: pictures (B, C, H, W), floating.
        target: the output to explain: an index, one per row (B,), or None for a model with one output.
        window: height and width of the window, pixels; one number for a square.
        stride: step down and across, pixels, no larger than the window; None for the window's own size.
        baseline: None for zeros, a number, or a tensor that broadcasts against the inputs; with one more leading
            axis, (R, ...), the mean over R baselines.
        batch_size: rows per pass; None chooses by the size of a row.

    Returns:
        (B, H, W).

    Raises:
        ArgumentError: an argument is not as above.

    Source: Zeiler & Fergus 2014, section 4.2 (there as a map of the score itself); borders as captum's `Occlusion`.
    """
    where = "occlusion"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    if rows.ndim != 4:
        raise ArgumentError(
            where, "inputs must be pictures (B, C, H, W)", got=shape_of(inputs), fix="use feature_ablation for tables"
        )
    down, across = (
        _intervals(where, full, side, move, rows.device)
        for full, side, move in zip(
            rows.shape[2:], _pair(window), _pair(window if stride is None else stride), strict=True
        )
    )
    hidden = (down[:, None, :, None] & across[None, :, None, :]).flatten(0, 1)  # (M, H, W)
    total = torch.zeros(
        len(rows), len(hidden), dtype=torch.promote_types(rows.dtype, torch.float32), device=rows.device
    )
    baselines = check_baselines(where, rows, baseline)
    for absent in baselines:
        total += _falls(explained, hidden, absent)
    falls = total / len(baselines)
    return torch.einsum("bm,mhw->bhw", falls, hidden.to(falls)) / hidden.sum(0)


def _falls(explained: Explained, hidden: Tensor, absent: Tensor) -> Tensor:
    """Return how much the score of each row falls under each mask (M, H, W): (B, M)."""
    rows = explained.inputs
    whole = explained.scores(1, lambda _: rows[None].clone())
    differs = (rows != absent).any(1).flatten(1)  # (B, H · W)
    matters = differs.float() @ hidden.flatten(1).T.float() > 0  # (B, M)
    if matters.all():
        return whole - explained.scores(len(hidden), lambda part: torch.where(hidden[part, None, None], absent, rows))
    falls = whole.new_zeros(matters.shape)
    row, mask = matters.nonzero(as_tuple=True)
    full = absent.expand_as(rows)
    falls[row, mask] = whole[row, 0] - explained.scores_of(
        row, lambda part: torch.where(hidden[mask[part], None], full[row[part]], rows[row[part]])
    )
    return falls


def feature_ablation(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    segments: Tensor | None = None,
    baseline: Baseline = None,
    batch_size: int | None = None,
) -> Tensor:
    """Return how much the score falls when one feature, or one segment, takes the baseline.

    Args:
        model, inputs, target, baseline, segments, batch_size: as of `MaskingGame`.

    Returns:
        (B, players); `paint` puts segments back into pictures.

    Raises:
        ArgumentError: an argument is not as there.
    """
    game = MaskingGame(
        model, inputs, target, baseline=baseline, segments=segments, batch_size=batch_size, where="feature_ablation"
    )
    without = ~torch.eye(game.players + 1, game.players, dtype=torch.bool)  # the last row: nothing is absent
    values = game(without)
    return values[:, -1:] - values[:, :-1]


def feature_permutation(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    segments: Tensor | None = None,
    draws: int = 1,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Tensor:
    """Return how much each score falls when one feature, or segment, is shuffled among the rows of the batch.

    Args:
        model, inputs, target, segments, batch_size: as of `MaskingGame`; at least two rows.
        draws: shuffles to average over.
        generator: of the shuffles; on any device.

    Returns:
        (B, players). Its mean over a data set is the permutation importance of Breiman 2001, of the score.

    Raises:
        ArgumentError: an argument is not as above.
    """
    where = "feature_permutation"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    labels, players = check_segments(where, rows, segments)
    if len(rows) < 2 or draws < 1:
        raise ArgumentError(
            where, "at least two rows and one draw", got=f"{len(rows)} rows, {draws} draws", fix="pass more rows"
        )
    orders = torch.stack(
        [torch.randperm(len(rows), generator=generator, device=generator.device) for _ in range(players * draws)]
    ).to(rows.device)

    def shuffled(part: slice) -> Tensor:
        player = torch.arange(part.start, part.stop, device=rows.device) % players
        taken = labels == player.view(-1, *[1] * labels.ndim)
        return torch.where(taken, rows[orders[part]], rows)

    whole = explained.scores(1, lambda _: rows[None].clone())
    values = explained.scores(players * draws, shuffled)
    return whole - values.unflatten(1, (draws, players)).mean(1)


def _intervals(where: str, full: int, side: int, step: int, device: torch.device) -> Tensor:
    """Mark the places of a sliding interval, (places, full), bool; the last may stick out."""
    if not 1 <= step <= side <= full:
        raise ArgumentError(
            where,
            f"1 ≤ stride ≤ window ≤ {full}, the picture's side",
            got=f"stride {step}, window {side}",
            fix="pass window=4, stride=2",
        )
    starts = torch.arange(-(-(full - side) // step) + 1, device=device)[:, None] * step
    place = torch.arange(full, device=device)
    return (place >= starts) & (place < starts + side)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
