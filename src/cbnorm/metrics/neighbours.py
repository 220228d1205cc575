"""Fidelity and diversity by nearest neighbours in feature space."""

from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1024


class Neighbourhood(NamedTuple):
    """How two sets of features lie in each other's neighbourhoods; a ball reaches to the k-th neighbour.

    Attributes:
        precision: Share of the samples that lie in a ball around a real image (Kynkäänniemi et al., 2019).
        recall: Share of the real images that lie in a ball around a sample (the same).
        density: Balls around real images that hold a sample, on average over samples, divided by k (Naeem
            et al., 2020); 1 is expected of samples that are distributed as the real images are.
        coverage: Share of the real images whose ball holds a sample (the same).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhood(real: Tensor, samples: Tensor, k: int = 5) -> Neighbourhood:
    """Compare samples with real images by their k nearest neighbours.

    Precision and recall grow with outliers of the other set, density and coverage don't: the balls of the
    latter are all around real images. k = 5 is the choice of Naeem et al., whatever the sample size.

    Args:
        real: Features of real images, (N, D).
        samples: Features of samples, (M, D).
        k: How many neighbours, not counting the point itself; less than N and M.

    Raises:
        ValueError: Features of other shapes, or too few for k.

    >>> line = torch.arange(8.0)[:, None]
    >>> neighbourhood(line, line, k=2)
    Neighbourhood(precision=1.0, recall=1.0, density=1.5, coverage=1.0)
    """
    check_shapes(real, samples)
    if not 0 < k < min(len(real), len(samples)):
        raise ValueError(f"k={k} neighbours need more than k images, not {len(real)} and {len(samples)}")
    real, samples = real.double(), samples.double()
    of_real, of_samples = nearest_distances(real, k), nearest_distances(samples, k)
    around_samples = torch.zeros(len(samples), dtype=torch.int64, device=real.device)
    recalled, covered = [], []
    for part, radii in zip(real.split(_CHUNK), of_real.split(_CHUNK), strict=True):
        distances = squared_distances(part, samples)
        inside = distances <= radii[:, None]
        around_samples += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances <= of_samples).any(1))
    return Neighbourhood(
        precision=(around_samples > 0).double().mean().item(),
        recall=torch.cat(recalled).double().mean().item(),
        density=(around_samples.double().mean() / k).item(),
        coverage=torch.cat(covered).double().mean().item(),
    )


def check_shapes(a: Tensor, b: Tensor) -> None:
    """Refuse what is not two sets of features in one space.

    Raises:
        ValueError: One line with the two shapes.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features of shapes {tuple(a.shape)} and {tuple(b.shape)} can't be compared")


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (N, M) of float64 features (N, D) and (M, D)."""
    products = a @ b.T
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * products).clamp(min=0)


def nearest_distances(features: Tensor, k: int) -> Tensor:
    """Squared distance of each image to its k-th nearest among the others, (N,); features float64 (N, D)."""
    found = []
    for start in range(0, len(features), _CHUNK):
        part = features[start : start + _CHUNK]
        distances = squared_distances(part, features)
        rows = torch.arange(len(part), device=features.device)
        distances[rows, rows + start] = torch.inf
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)
