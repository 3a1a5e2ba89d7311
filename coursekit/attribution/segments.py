"""Divide pictures into segments, the players of LIME and SHAP, and paint values back onto them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.attribution.scores import check_inputs, shape_of
from coursekit.errors import ArgumentError


def grid_segments(height: int, width: int, cell: int, *, device: torch.device | str | None = None) -> Tensor:
    """Number the cells of a grid, row by row.

    Args:
        height, width: of the pictures, pixels.
        cell: side of a cell, pixels; the last row and column of cells may be narrower.
        device: of the result.

    Returns:
        (height, width), int64.

    Raises:
        ArgumentError: a size is below 1.
    """
    if min(height, width, cell) < 1:
        raise ArgumentError(
            "grid_segments", "height, width and cell must be at least 1", got=(height, width, cell), fix="pass 4"
        )
    rows = torch.arange(height, device=device) // cell
    columns = torch.arange(width, device=device) // cell
    return rows[:, None] * -(-width // cell) + columns


def superpixels(pictures: Tensor, count: int, *, compactness: float = 0.2, iterations: int = 10) -> Tensor:
    """Divide each picture into regions of like colour: k-means over place and colour, from a grid of seeds.

    Each pixel chooses among all the seeds of its picture. A seed that no pixel chooses at the last round goes, and
    so do numbers beyond the smallest number of regions in the batch: their pixels join the nearest region left.

    Args:
        pictures: (B, C, H, W), floating.
        count: regions per picture, about; at most H · W.
        compactness: how much place counts against colour. Both are scaled: colours by their range in the picture,
            places by the distance between seeds.
        iterations: of k-means.

    Returns:
        (B, H, W), int64: numbers from 0, as many in every picture.

    Raises:
        ArgumentError: an argument is not as above.

    Source: the distance of SLIC, Achanta et al. 2012, equation 3; ours does not limit the search to near seeds.
    """
    where = "superpixels"
    check_inputs(where, pictures)
    if pictures.ndim != 4:
        raise ArgumentError(where, "pictures must be (B, C, H, W)", got=shape_of(pictures), fix="reshape them")
    batch, _, height, width = pictures.shape
    if not 1 <= count <= height * width:
        raise ArgumentError(where, f"count must be from 1 to {height * width}", got=count, fix="pass 50")
    if compactness <= 0 or iterations < 1:
        raise ArgumentError(
            where,
            "compactness must be above 0 and iterations at least 1",
            got=(compactness, iterations),
            fix="pass 0.2 and 10",
        )
    down = max(1, round((count * height / width) ** 0.5))
    across = max(1, round(count / down))
    spacing = (height * width / (down * across)) ** 0.5
    low, high = pictures.detach().flatten(1).aminmax(dim=1)
    colour = (pictures.detach() - low.view(-1, 1, 1, 1)) / (high - low).clamp(min=1e-12).view(-1, 1, 1, 1)
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).to(colour)
    place = place.expand(batch, -1, -1, -1) * (compactness / spacing)
    points = torch.cat([colour, place], 1)  # (B, C + 2, H, W)
    seeds = F.adaptive_avg_pool2d(points, (down, across)).flatten(2).mT.contiguous()  # (B, S, C + 2)
    points = points.flatten(2).mT.contiguous()  # (B, H · W, C + 2)
    chosen = torch.cdist(points, seeds).argmin(2)
    for _ in range(iterations - 1):
        members = F.one_hot(chosen, seeds.shape[1]).to(points)
        sizes = members.sum(1)[..., None]
        seeds = torch.where(sizes > 0, members.mT @ points / sizes.clamp(min=1), seeds)
        chosen = torch.cdist(points, seeds).argmin(2)
    taken = F.one_hot(chosen, seeds.shape[1]).sum(1)  # (B, S)
    regions = int((taken > 0).sum(1).min())
    largest = taken.argsort(dim=1, descending=True, stable=True)[:, :regions]
    kept = seeds.gather(1, largest[..., None].expand(-1, -1, seeds.shape[2]))
    return torch.cdist(points, kept).argmin(2).view(batch, height, width)


def paint(values: Tensor, segments: Tensor) -> Tensor:
    """Give every pixel the value of its segment.

    Args:
        values: (B, S).
        segments: (H, W), or (B, H, W) with segments of their own.

    Returns:
        (B, H, W).

    Raises:
        ArgumentError: the segments do not fit the values.
    """
    fits = segments.ndim == 2 or (segments.ndim == 3 and len(segments) == len(values))
    if values.ndim != 2 or not fits or int(segments.max()) >= values.shape[1]:
        raise ArgumentError(
            "paint",
            "values must be (B, S) and segments (H, W) or (B, H, W), from 0 to S - 1",
            got=f"{shape_of(values)} and {shape_of(segments)}",
            fix="pass what the explanation was made with",
        )
    labels = segments.expand(len(values), *segments.shape[-2:])
    return values.gather(1, labels.flatten(1)).view(labels.shape)
