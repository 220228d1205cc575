"""A fitted partition: gives every image the id of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cbnorm.data.streams import generator
from cbnorm.mixtures import Mixture, log_responsibilities
from cbnorm.partitions.activations import Activations
from cbnorm.partitions.features import Features

STATE_VERSION = 1
_IMAGES_PER_CHUNK = 512
_DRAWS_PER_BLOCK = 4096
# Far above the rounding of float64 sums, far below any difference that means something.
_TIE = 1e-10


@dataclass(frozen=True)
class Partition:
    """Clusters fitted on training images: the paper's Z clusters, one id per image.

    k-means clusters are kept as a mixture of equal spheres with equal weights, whose most
    probable component is the nearest centre.

    Attributes:
        method: ``"kmeans"``, ``"gmm"``, ``"random"`` or ``"mn_components"``.
        seed: The seed of the fit and of random ids.
        features: Map from images to the vectors that were clustered; for ``"mn_components"`` these are
            the activation vectors of all positions of an image.
        mixture: The clusters, float64.
        frequencies: Share of the training images in every cluster, (K,), float64.
        report: How the fit went: iterations, convergence, mean log-likelihood or inertia.
    """

    method: str
    seed: int
    features: Features | Activations
    mixture: Mixture
    frequencies: Tensor
    report: Mapping[str, Any]

    @property
    def num_clusters(self) -> int:
        """Number of clusters K."""
        return len(self.frequencies)

    def predict(self, images: Tensor, *, split: str, start: int = 0) -> Tensor:
        """Cluster ids of images.

        An id depends on its image alone (method ``random``: on the seed, the split's name and the
        image's index alone), not on how many images are asked for at a time.

        Args:
            images: (N, C, H, W), in the pixel range of the training images.
            split: Name of the split the images come from: ``"train"``, ``"val"``, ``"test"``, ...
            start: Index in the split of the first image; only random ids depend on it.

        Returns:
            Ids in 0 … K-1, int64 (N,), on the CPU.

        Raises:
            ValueError: If the images have another shape than those of the fit, or are not finite.
        """
        if self.method == "random":
            return self._draw(split, start, len(images))
        return self.nearest(images)

    @torch.no_grad()
    def nearest(self, images: Tensor) -> Tensor:
        """Most probable component of every image (N, C, H, W), whatever the method: int64 (N,)."""
        ids = torch.empty(len(images), dtype=torch.int64)
        for first in range(0, len(images), _IMAGES_PER_CHUNK):
            chunk = images[first : first + _IMAGES_PER_CHUNK].to(self.frequencies.device)
            ids[first : first + len(chunk)] = self._nearest(chunk)
        return ids

    def _nearest(self, images: Tensor) -> Tensor:
        if self.method == "mn_components":
            assert isinstance(self.features, Activations)  # noqa: S101 (tells the type checker)
            return most_responsible(self.features.maps(images), self.mixture)
        return most_probable(self.features(images), self.mixture)

    def _draw(self, split: str, start: int, count: int) -> Tensor:
        """Ids drawn with the frequencies; an index always falls on the same draw of the same block."""
        blocks = range(start // _DRAWS_PER_BLOCK, -(-(start + count) // _DRAWS_PER_BLOCK))
        draws = [
            torch.rand(
                _DRAWS_PER_BLOCK,
                generator=generator(self.seed, f"partition ids of {split}", block),
                dtype=torch.float64,
            )
            for block in blocks
        ]
        uniforms = torch.cat(draws or [torch.empty(0, dtype=torch.float64)])
        first = start % _DRAWS_PER_BLOCK
        limits = self.frequencies.cpu().cumsum(0)[:-1]
        return torch.searchsorted(limits, uniforms[first : first + count], right=True)

    def summary(self) -> dict[str, Any]:
        """Plain values for a run's record."""
        network: dict[str, Any] = {}
        if isinstance(self.features, Activations):
            network = {"run": self.features.run, "layer": self.features.layer}
        return {
            "method": self.method,
            "clusters": self.num_clusters,
            "seed": self.seed,
            "features": self.features.name,
            "feature_dimensions": self.mixture.means.shape[1],
            **network,
            "frequencies": self.frequencies.tolist(),
            **self.report,
        }

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that ``torch.load(..., weights_only=True)`` reads back."""
        return {
            "version": STATE_VERSION,
            "method": self.method,
            "seed": self.seed,
            "features": self.features.state(),
            "mixture": list(self.mixture),
            "frequencies": self.frequencies,
            "report": dict(self.report),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], network: Activations | None = None) -> "Partition":
        """The partition whose :meth:`state` this is.

        Args:
            state: The state.
            network: The activations that were clustered, when these were activations.

        Raises:
            ValueError: If the state comes from another version of the format, or from other activations.
        """
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"this partition's format is {state.get('version')!r}, not {STATE_VERSION}: fit it again"
            )
        return cls(
            state["method"],
            state["seed"],
            _features(state["features"], network),
            Mixture(*state["mixture"]),
            state["frequencies"],
            state["report"],
        )


def _features(state: Mapping[str, Any], network: Activations | None) -> Features | Activations:
    if state["name"] != Activations.name:
        return Features.from_state(state)
    if network is None or network.state() != dict(state):
        raise ValueError(
            f"this partition clusters layer {state['layer']} of run {state['run']}: give these activations"
        )
    return network


def most_responsible(maps: Tensor, mixture: Mixture) -> Tensor:
    """Index of the component with the largest mean responsibility over positions, the lowest in a tie.

    Args:
        maps: Activation vectors, (n, D, positions).
        mixture: K components in D dimensions.

    Returns:
        int64 (n,).

    Example:
        >>> mixture = Mixture(torch.ones(2) / 2, torch.tensor([[0.0], [9.0]]), torch.ones(2, 1))
        >>> most_responsible(torch.tensor([[[0.0, 1.0, 9.0]], [[0.0, 9.0, 9.0]]]), mixture)
        tensor([0, 1])
    """
    vectors = maps.transpose(1, 2).flatten(0, 1).to(mixture.means)
    shares = log_responsibilities(vectors, mixture).exp().unflatten(0, (len(maps), -1)).mean(1)
    ties = shares >= shares.max(dim=1, keepdim=True).values - _TIE
    return ties.to(torch.uint8).max(dim=1).indices


def most_probable(points: Tensor, mixture: Mixture) -> Tensor:
    """Index of the most probable component for points (n, D), the lowest of those that tie.

    Squares of differences, not differences of squares, and float64: what is left of rounding,
    which varies with the number of points in a product, is less than the width of a tie.
    """
    if not points.isfinite().all():
        raise ValueError("images hold NaN or infinity; remove them before asking for clusters")
    constants = mixture.weights.log() - 0.5 * mixture.variances.log().sum(1)
    scores = points.new_empty(len(points), len(constants))
    for k, (mean, variance) in enumerate(zip(mixture.means, mixture.variances, strict=True)):
        scores[:, k] = constants[k] - 0.5 * ((points - mean).square() / variance).sum(1)
    best = scores.max(dim=1, keepdim=True).values
    ties = best - scores <= _TIE * (1 + best.abs())
    return ties.to(torch.uint8).max(dim=1).indices
