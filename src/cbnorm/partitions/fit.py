"""Fit a partition on training images."""

from typing import Any

import torch
from torch import Tensor

from cbnorm.data.streams import generator
from cbnorm.mixtures import Mixture, fit_mixture, kmeans
from cbnorm.partitions import METHODS
from cbnorm.partitions.activations import Activations
from cbnorm.partitions.cache import Cache, State, code_version, fingerprint
from cbnorm.partitions.features import Features, fit_features
from cbnorm.partitions.partition import Partition

RESTARTS = 3
MAX_ITER = 100
FLOOR = 1e-3
#: Activation vectors that a mixture of them is fitted to, at most one per position or about as many.
VECTORS = 2**17
#: What each method clusters by unless told: the released lists are k-means on raw pixels; a
#: mixture of thousands of dimensions answers one-hot, so that the others go through PCA.
DEFAULT_FEATURES = {"kmeans": "raw", "gmm": "pca64", "random": "pca64", "mn_components": "activations"}


def fit_partition(
    method: str,
    images: Tensor,
    *,
    clusters: int,
    seed: int,
    features: str | None = None,
    network: Activations | None = None,
    cache: Cache | None = None,
) -> Partition:
    """Fit clusters on training images.

    - ``kmeans``: k-means, the best of three k-means++ starts.
    - ``gmm``: a mixture of Gaussians with diagonal covariances by EM, the best of three k-means++
      starts, at most 100 updates each. On ``pca64`` this is the reading of "components found by
      EM serve as clusters" that uses training images alone.
    - ``random``: fits ``gmm`` for its frequencies; ids are then drawn with them, whatever the
      images show. A control: if it does as well, clusters do not matter.
    - ``mn_components``: the same mixture of the activation vectors that enter a normalization
      layer, as mixture normalization would fit it there; up to 131,072 vectors, as many from
      every image. An image's id is the component with the largest mean responsibility.

    The same images and seed give the same clusters, whatever the state of the global generator.

    Args:
        method: One of the above.
        images: Training images, (N, C, H, W), uint8 (or floating point); held-out images have
            no place here.
        clusters: Number of clusters K.
        seed: The run's seed; the fit draws from its stream ``partition``.
        features: What to cluster by, see :func:`~cbnorm.partitions.features.fit_features`, or
            ``activations``; by default ``raw`` for k-means and ``pca64`` for the others.
        network: Where activations come from.
        cache: Where fits are remembered.

    Returns:
        The fitted partition.

    Raises:
        ValueError: If a name is unknown, the images are not a non-empty (N, C, H, W) tensor of
            finite values, or they hold fewer than ``clusters`` distinct images.
    """
    _check(method, images, clusters)
    name = features or DEFAULT_FEATURES[method]
    if method == "mn_components" and name != "activations":
        raise ValueError(f"mn_components are components of activations, not of features {name!r}")
    cache = cache or Cache()
    content = fit_content(method, images, clusters=clusters, seed=seed, features=name, network=network)
    fitted: Features | Activations
    if name == "activations":
        if network is None:
            raise ValueError("features 'activations' need the layer of a trained network: give network")
        fitted = network
    else:
        of_images = {"what": "features", "features": name, "images": content["images"]}
        state = cache.remember(of_images, lambda: fit_features(name, images).state())
        fitted = Features.from_state(state)
    found = cache.remember(content, lambda: _fit(method, images, clusters, seed, fitted))
    return Partition(
        method, seed, fitted, Mixture(*found["mixture"]), found["frequencies"], dict(found["report"])
    )


def fit_content(
    method: str,
    images: Tensor,
    *,
    clusters: int,
    seed: int,
    features: str,
    network: Activations | None = None,
) -> dict[str, Any]:
    """All that decides the clusters of a fit, as plain data."""
    origin = None
    if network is not None and features == "activations":
        origin = network.state() | network.computed_by() | {"code": code_version("models", "norms")}
    return {
        "what": "clusters",
        # Random ids are drawn with the frequencies of this mixture.
        "method": "gmm" if method == "random" else method,
        "features": features,
        "clusters": clusters,
        "seed": seed,
        "images": fingerprint(images),
        "network": origin,
    }


def _check(method: str, images: Tensor, clusters: int) -> None:
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


def _fit(method: str, images: Tensor, clusters: int, seed: int, features: Features | Activations) -> State:
    """Clusters and the share of the images in each, as plain data and tensors."""
    draws = generator(seed, "partition")
    if method == "mn_components":
        assert isinstance(features, Activations)  # noqa: S101 (tells the type checker)
        mixture, report = _gmm(_vectors(features, images, draws), clusters, draws)
    elif method == "kmeans":
        mixture, report = _kmeans(_points(features, images), clusters, draws)
    else:
        mixture, report = _gmm(_points(features, images), clusters, draws)
    unsized = Partition(method, seed, features, mixture, torch.full((clusters,), 1 / clusters), report)
    sizes = torch.bincount(unsized.nearest(images), minlength=clusters)
    report["sizes"] = sizes.tolist()
    return {"mixture": list(mixture), "frequencies": sizes.double() / len(images), "report": report}


def _points(features: Features | Activations, images: Tensor) -> Tensor:
    """Feature vectors of all images, (N, d); raw pixels stay in their own type."""
    if features.name == "raw":
        return images.flatten(1)
    narrow = isinstance(features, Activations) or features.projection is not None
    dtype = torch.float64 if narrow else torch.float32
    points = torch.empty(len(images), features.dimensions, dtype=dtype)
    for first in range(0, len(images), 512):
        points[first : first + 512] = features(images[first : first + 512])
    return points


def _vectors(activations: Activations, images: Tensor, draws: torch.Generator) -> Tensor:
    """Activation vectors at random positions, as many from every image, float32 (vectors, channels)."""
    pieces = []
    for chunk in images.split(512):
        maps = activations.maps(chunk)
        count = min(maps.shape[2], max(1, VECTORS // len(images)))
        order = torch.rand(len(chunk), maps.shape[2], generator=draws).argsort(dim=1)[:, None, :count]
        pieces.append(maps.gather(2, order.expand(-1, maps.shape[1], -1)).transpose(1, 2).flatten(0, 1))
    return torch.cat(pieces)


def _kmeans(points: Tensor, clusters: int, draws: torch.Generator) -> tuple[Mixture, dict[str, Any]]:
    result = kmeans(points, clusters, restarts=RESTARTS, generator=draws)
    weights = torch.full((clusters,), 1 / clusters, dtype=torch.float64)
    spread = result.inertia / points.numel()
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
