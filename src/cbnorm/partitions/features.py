"""What images are clustered by: affine features of their pixels, fitted on training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.pca import pca
from cbnorm.partitions import PIXEL_FEATURES


@dataclass(frozen=True)
class Features:
    """A map from images to vectors: ``projection @ ((pixels - mean) / scale)``.

    Attributes:
        name: ``"raw"``, ``"standardised"``, ``"pca64"`` or ``"mean_rgb"``.
        shape: Shape of an image, (C, H, W).
        mean: (D,), float64; D = C H W.
        scale: (D,), float64.
        projection: (d, D), float64, or None for the identity.
    """

    name: str
    shape: tuple[int, ...]
    mean: Tensor
    scale: Tensor
    projection: Tensor | None = None

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return len(self.mean) if self.projection is None else len(self.projection)

    def __call__(self, images: Tensor) -> Tensor:
        """Features of a few images (n, C, H, W): (n, d), float64."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"this partition was fitted on images of shape {self.shape}, not {tuple(images.shape[1:])}"
            )
        pixels = (images.flatten(1).to(self.mean) - self.mean) / self.scale
        return pixels if self.projection is None else pixels @ self.projection.T

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that make up the map."""
        return {**vars(self), "shape": list(self.shape)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Features":
        """The map whose :meth:`state` this is."""
        return cls(**{**state, "shape": tuple(state["shape"])})


def fit_features(name: str, images: Tensor) -> Features:
    """Fit the named features.

    - ``raw``: pixels as they are.
    - ``standardised``: every pixel and channel less its mean, divided by its standard deviation
      (constant ones are only centred).
    - ``pca64``: the 64 leading principal components of the standardised pixels, or as many as
      the pixels or the images allow.
    - ``mean_rgb``: the mean of every channel.

    Args:
        name: One of the above.
        images: Training images, (N, C, H, W).

    Returns:
        The fitted map.

    Raises:
        ValueError: If the name is unknown or the images are not finite.
    """
    if name not in PIXEL_FEATURES:
        raise ValueError(f"features must be one of {', '.join(PIXEL_FEATURES)}, not {name!r}")
    shape = tuple(images.shape[1:])
    pixels = images.flatten(1)
    zeros = torch.zeros(pixels.shape[1], dtype=torch.float64)
    ones = torch.ones_like(zeros)
    if name == "pca64":
        result = pca(pixels, min(64, *pixels.shape), standardise=True)
        return Features(name, shape, result.mean, result.scale, result.components)
    if name == "standardised":
        stream = RowStream.centred(pixels)
        scale = stream.variances().sqrt()
        return Features(name, shape, stream.origin.double(), torch.where(scale > 0, scale, 1.0))
    if name == "mean_rgb":
        area = shape[1] * shape[2]
        averaging = torch.eye(shape[0], dtype=torch.float64).repeat_interleave(area, dim=1) / area
        return Features(name, shape, zeros, ones, averaging)
    return Features(name, shape, zeros, ones)
