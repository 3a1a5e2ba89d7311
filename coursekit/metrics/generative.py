"""How good generated samples are: their distance from real rows, their fidelity and variety, and what they copy.

Rows are compared as features (n, d): numbers in which near means alike, such as the inner layer of a classifier. All
functions take tensors of any floating type and compute in float64 where differences of large numbers are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coursekit.errors import ArgumentError, DataError, DeviceError

_PAIRS = 1 << 24  # distances held at once


# ------------------------------------------------------------------------------------------- Fréchet distance


def gaussian_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (d,) and covariance (d, d) of the rows in float64, with n − 1 in the denominator as `torch.cov`.

    Args:
        features: (n, d), at least two rows.

    Raises:
        ArgumentError: another shape, or a value that is not finite.
    """
    features = _features("gaussian_moments", features, rows=2).double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Return the Fréchet distance of two Gaussians, squared as is usual: ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½).

    With Σ = A Aᵀ, the trace of the root is the sum of the singular values of A₁ᵀ A₂: no root of a matrix that is not
    symmetric, nothing complex, and covariances may be singular.

    Args:
        mean: μ₁ (d,).
        covariance: Σ₁ (d, d), symmetric and positive semidefinite.
        other_mean: μ₂ (d,).
        other_covariance: Σ₂ (d, d).

    Raises:
        ArgumentError: the shapes do not fit, or a value is not finite.

    Source: Dowson & Landau 1982; as a measure of samples, Heusel et al. 2017, equation 6.
    """
    means = [mean.double(), other_mean.double()]
    covariances = [covariance.double(), other_covariance.double()]
    d = mean.numel()
    shapes = [tuple(part.shape) for part in (*means, *covariances)]
    if shapes != [(d,), (d,), (d, d), (d, d)] or not all(bool(x.isfinite().all()) for x in (*means, *covariances)):
        raise ArgumentError(
            "frechet_distance",
            "finite means (d,) and covariances (d, d) of one d",
            got=", ".join(map(str, shapes)),
            fix="take both from `gaussian_moments` of features of one kind",
        )
    first, second = (_factor(part) for part in covariances)
    spread = sum(float(part.trace()) for part in covariances)
    shared = float(torch.linalg.matrix_norm(first.T @ second, ord="nuc"))
    gap = float(torch.dot(means[0] - means[1], means[0] - means[1]))
    return max(0.0, gap + spread - 2 * shared)  # rounding may leave it just below 0


def feature_distance(real: Tensor, fake: Tensor) -> float:
    """Return the Fréchet distance of Gaussians fitted to two sets of features (n, d) and (m, d).

    Biased upwards, the more so the fewer rows there are: compare only values of the same n, m and features.

    Raises:
        ArgumentError: as `gaussian_moments` and `frechet_distance`.
    """
    return frechet_distance(*gaussian_moments(real), *gaussian_moments(fake))


def _factor(covariance: Tensor) -> Tensor:
    """Return A with A Aᵀ = Σ; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def inception_distance(real: Tensor, fake: Tensor, weights: Path | None = None, *, batch_size: int = 256) -> float:
    """Return the Fréchet inception distance (FID) of RGB images, by torchmetrics, where its network is at hand.

    Nothing is downloaded. Published numbers take 50,000 samples; with fewer the distance is larger.

    Args:
        real: images (n, 3, h, w), brightness from 0 to 1.
        fake: images (m, 3, h, w) likewise, on the same device.
        weights: the file of torch-fidelity's Inception v3; None looks where torch.hub keeps it.
        batch_size: images that pass through the network at once.

    Raises:
        DeviceError: the package torch-fidelity is missing.
        DataError: the weights are.
        ArgumentError: images of another shape.

    Source: Heusel et al. 2017; `torchmetrics.image.fid.FrechetInceptionDistance`.
    """
    for images in (real, fake):
        if images.dim() != 4 or images.shape[1] != 3 or len(images) < 2:
            got = str(tuple(images.shape))
            raise ArgumentError("inception_distance", "at least 2 images (n, 3, h, w)", got=got, fix="pass RGB images")
    weights = weights or Path(torch.hub.get_dir()) / "checkpoints" / _INCEPTION
    if not weights.is_file():
        raise DataError(
            "inception_distance",
            f"the weights of torch-fidelity's Inception v3 in {weights}",
            got="no such file",
            fix="put the file there, or compare by `feature_distance` on a classifier of your own",
        )
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        metric = FrechetInceptionDistance(normalize=True, feature_extractor_weights_path=str(weights))
    except ModuleNotFoundError:
        raise DeviceError(
            "inception_distance",
            "the package torch-fidelity",
            got="none installed",
            fix="install it with `pip install torch-fidelity`",
        ) from None
    metric = metric.to(real.device)
    for images, are_real in ((real, True), (fake, False)):
        for part in images.split(batch_size):
            metric.update(part, real=are_real)
    return float(metric.compute())


_INCEPTION = "pt_inception-2015-12-05-6726825d.pth"


# ------------------------------------------------------------------------------------------- nearest neighbours


@dataclass(frozen=True)
class SampleQuality:
    """Precision and recall of samples.

    Attributes:
        precision: share of generated rows that lie among the real ones: fidelity.
        recall: share of real rows that lie among the generated ones: variety.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def precision_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> SampleQuality:
    """Return how many rows of each kind lie in the manifold of the other one.

    A manifold is estimated by a ball around each of its rows, as wide as the distance to its k-th nearest neighbour of
    the same kind (itself not counted); a row lies in it when it lies in any ball.

    Args:
        real: features (n, d).
        fake: features (m, d) of generated rows.
        neighbours: k; 3 in the paper.

    Raises:
        ArgumentError: shapes that do not fit, k below 1, or no more than k rows.

    Source: Kynkäänniemi et al. 2019, equations 1 and 2.
    """
    where = "precision_recall"
    real, fake = (_features(where, part, rows=neighbours + 1).double() for part in (real, fake))
    if neighbours < 1 or real.shape[1] != fake.shape[1]:
        got = f"{neighbours} neighbours, {real.shape[1]} and {fake.shape[1]} features"
        raise ArgumentError(where, "at least 1 neighbour, and one kind of features", got=got, fix="mend that")
    return SampleQuality(
        precision=_share_inside(fake, real, _reach(real, neighbours)),
        recall=_share_inside(real, fake, _reach(fake, neighbours)),
    )


def _reach(rows: Tensor, neighbours: int) -> Tensor:
    """Return each row's distance to its k-th nearest other row, (n,)."""
    parts = []
    for start, distances in _distances(rows, rows):
        # Out of the count by its place: the distance of a row to itself may round above another's.
        own = torch.arange(len(distances), device=rows.device)
        distances[own, start + own] = torch.inf
        parts.append(distances.kthvalue(neighbours, dim=1).values)
    return torch.cat(parts)


def _share_inside(rows: Tensor, centres: Tensor, reach: Tensor) -> float:
    inside = [(distances <= reach).any(1) for _, distances in _distances(rows, centres)]
    return float(torch.cat(inside).double().mean())


def _distances(rows: Tensor, others: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the distances of some rows after another to all others, (some, m), with the number of the first."""
    for start in range(0, len(rows), step := max(1, _PAIRS // len(others))):
        yield start, torch.cdist(rows[start : start + step], others)


def nearest_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return each row's distance to the nearest of the others, (n,).

    Args:
        rows: (n, d).
        others: (m, d).

    Raises:
        ArgumentError: another shape, or a value that is not finite.
    """
    rows, others = (_features("nearest_distances", part, rows=1).double() for part in (rows, others))
    return torch.cat([distances.amin(1) for _, distances in _distances(rows, others)])


@dataclass(frozen=True, eq=False)
class Copies:
    """Samples that lie nearer to a training row than unseen real rows do.

    Attributes:
        share: of the samples.
        expected: the share of unseen real rows that would be called copies too.
        threshold: the distance below which a sample counts as a copy.
        distances: of each sample to its nearest training row, (n,).
        found: whether each sample is a copy, bool (n,).
    """

    share: float
    expected: float
    threshold: float
    distances: Tensor
    found: Tensor


def find_copies(samples: Tensor, training: Tensor, held_out: Tensor, *, quantile: float = 0.01) -> Copies:
    """Find samples that copy training rows: nearer to one than all but a small share of held-out rows are.

    Distances between pixels or features alone say nothing: how near two different real rows come is what a copy has to
    be measured by. A generator that repeats the training rows has share 1, one as good as the data about `quantile`.

    Args:
        samples: generated rows (n, ...).
        training: the rows that the generator learned from, (m, ...).
        held_out: real rows that it did not see, (k, ...).
        quantile: share of held-out rows below the threshold.

    Raises:
        ArgumentError: shapes that do not fit, or a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise ArgumentError("find_copies", "a quantile between 0 and 1", got=quantile, fix="choose one there")
    samples, training, held_out = (part.flatten(1) for part in (samples, training, held_out))
    usual, distances = nearest_distances(held_out, training), nearest_distances(samples, training)
    threshold = usual.quantile(quantile)
    found = distances < threshold
    return Copies(
        share=float(found.double().mean()),
        expected=float((usual < threshold).double().mean()),
        threshold=float(threshold),
        distances=distances,
        found=found,
    )


# ------------------------------------------------------------------------------------------- modes


@dataclass(frozen=True)
class Modes:
    """What part of a mixture the samples show.

    Attributes:
        covered: modes that hold their part of the samples.
        high_quality: share of the samples that lie near a mode, or have a class that is sure.
        shares: of each mode among the samples, its own near ones to all, (modes,).
    """

    covered: int
    high_quality: float
    shares: Tensor


def modes_of_points(samples: Tensor, centres: Tensor, std: float, *, radius: float = 3.0, least: float = 0.0) -> Modes:
    """Count the modes of a mixture of round Gaussians that samples fall on.

    A sample is of high quality when it lies within `radius` standard deviations of its nearest centre.

    Args:
        samples: points (n, d).
        centres: of the mixture, (modes, d).
        std: standard deviation of each Gaussian along each axis.
        radius: in standard deviations; 3 is usual for a ring of Gaussians in the plane, and holds 98.9 % of them there.
        least: share of all samples that a covered mode holds; with 0 one sample is enough.

    Raises:
        ArgumentError: shapes that do not fit, or numbers out of range.

    Source: Srivastava et al. 2017 (VEEGAN): modes captured and high-quality samples.
    """
    samples, centres = (_features("modes_of_points", part, rows=1).double() for part in (samples, centres))
    if std <= 0 or radius <= 0:
        raise ArgumentError("modes_of_points", "std and radius above 0", got=f"{std}, {radius}", fix="enlarge them")
    distances, nearest = torch.cdist(samples, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    return _modes(nearest, distances <= radius * std, len(centres), least)


def modes_of_classes(probabilities: Tensor, *, least: float, sure: float = 0.0) -> Modes:
    """Count the classes that a classifier sees among samples.

    Args:
        probabilities: of a classifier for each sample, (n, classes).
        least: share of all samples that a covered class holds.
        sure: probability of its class above which a sample counts, and is of high quality; 0 counts all.

    Raises:
        ArgumentError: another shape, or shares outside [0, 1).
    """
    probabilities = _features("modes_of_classes", probabilities, rows=1)
    if not (0 <= least < 1 and 0 <= sure < 1):
        raise ArgumentError("modes_of_classes", "shares from 0 to below 1", got=f"{least}, {sure}", fix="lower them")
    highest, nearest = probabilities.max(1)
    return _modes(nearest, highest > sure, probabilities.shape[1], least)


def _modes(nearest: Tensor, counts: Tensor, modes: int, least: float) -> Modes:
    shares = torch.bincount(nearest[counts], minlength=modes).double() / len(nearest)
    covered = (shares > 0) & (shares >= least)
    return Modes(covered=int(covered.sum()), high_quality=float(counts.double().mean()), shares=shares)


def _features(where: str, features: Tensor, *, rows: int) -> Tensor:
    """Return the features, checked."""
    if features.dim() != 2 or len(features) < rows or not features.isfinite().all():
        got = f"shape {tuple(features.shape)}" + ("" if features.isfinite().all() else ", some of them not finite")
        raise ArgumentError(where, f"finite features (n, d) of at least {rows} rows", got=got, fix="flatten each row")
    return features
