"""Fit a partition on training images."""

from typing import Any

import torch
from torch import Tensor

from cbnorm.data.streams import generator
from cbnorm.mixtures import Mixture, fit_mixture, kmeans
from cbnorm.partitions import METHODS
from cbnorm.partitions.features import Features, fit_features
from cbnorm.partitions.partition import Partition

RESTARTS = 3
MAX_ITER = 100
FLOOR = 1e-3
#: What each method clusters by unless told: the released lists are k-means on raw pixels; a
#: mixture of thousands of dimensions answers one-hot, so that the others go through PCA.
DEFAULT_FEATURES = {"kmeans": "raw", "gmm": "pca64", "random": "pca64"}


def fit_partition(
    method: str, images: Tensor, *, clusters: int, seed: int, features: str | None = None
) -> Partition:
    """Fit clusters on training images.

    - ``kmeans``: k-means, the best of three k-means++ starts.
    - ``gmm``: a mixture of Gaussians with diagonal covariances by EM, the best of three k-means++
      starts, at most 100 updates each. On ``pca64`` this is the reading of "components found by
      EM serve as clusters" that uses training images alone.
    - ``random``: fits ``gmm`` for its frequencies; ids are then drawn with them, whatever the
      images show. A control: if it does as well, clusters do not matter.

    The same images and seed give the same clusters, whatever the state of the global generator.

    Args:
        method: One of the above.
        images: Training images, (N, C, H, W), uint8 (or floating point); held-out images have
            no place here.
        clusters: Number of clusters K.
        seed: The run's seed; the fit draws from its stream ``partition``.
        features: What to cluster by, see :func:`~cbnorm.partitions.features.fit_features`;
            by default ``raw`` for k-means and ``pca64`` for the others.

    Returns:
        The fitted partition.

    Raises:
        ValueError: If a name is unknown, the images are not a non-empty (N, C, H, W) tensor of
            finite values, or they hold fewer than ``clusters`` distinct images.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(
            f"images must be a non-empty (N, C, H, W) tensor, not of shape {tuple(images.shape)}"
        )
    if not 1 <= clusters <= len(images):
        raise ValueError(
            f"clusters must lie between 1 and the number of images, {len(images)}, not {clusters}"
        )
    fitted = fit_features(features or DEFAULT_FEATURES[method], images)
    points = _points(fitted, images)
    draws = generator(seed, "partition")
    if method == "kmeans":
        mixture, report = _kmeans(points, clusters, draws, fitted)
    else:
        mixture, report = _gmm(points, clusters, draws)
    unsized = Partition(method, seed, fitted, mixture, torch.full((clusters,), 1 / clusters), report)
    sizes = torch.bincount(unsized.nearest(images), minlength=clusters)
    report["sizes"] = sizes.tolist()
    return Partition(method, seed, fitted, mixture, sizes.double() / len(images), report)


def _points(features: Features, images: Tensor) -> Tensor:
    """Feature vectors of all images, (N, d); raw pixels stay in their own type."""
    if features.name == "raw":
        return images.flatten(1)
    narrow = features.projection is not None
    points = torch.empty(len(images), features.dimensions, dtype=torch.float64 if narrow else torch.float32)
    for first in range(0, len(images), 512):
        points[first : first + 512] = features(images[first : first + 512])
    return points


def _kmeans(
    points: Tensor, clusters: int, draws: torch.Generator, features: Features
) -> tuple[Mixture, dict[str, Any]]:
    result = kmeans(points, clusters, restarts=RESTARTS, generator=draws)
    weights = torch.full((clusters,), 1 / clusters, dtype=torch.float64)
    spread = result.inertia / (len(points) * features.dimensions)
    mixture = Mixture(weights, result.centers, torch.full_like(result.centers, max(spread, FLOOR)))
    return mixture, {
        "iterations": result.iterations,
        "converged": result.converged,
        "mean_inertia": result.inertia / len(points),
    }


def _gmm(points: Tensor, clusters: int, draws: torch.Generator) -> tuple[Mixture, dict[str, Any]]:
    fit = fit_mixture(
        points, clusters, restarts=RESTARTS, max_iter=MAX_ITER, tol=1e-4, floor=FLOOR, generator=draws
    )
    return fit.mixture, {
        "iterations": fit.iterations,
        "converged": fit.converged,
        "mean_log_likelihood": fit.mean_log_likelihood,
    }
