"""Fréchet distance between the normal distributions that fit two sets of features.

It is the distance of Heusel et al. (2017), called FID there because the features are those of one
Inception network. With other features it is another number: :mod:`cbnorm.metrics.extractors` names them.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """The normal distribution that fits a set of features.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), divided by N - 1.
        samples: N, how many features there were.
    """

    mean: Tensor
    covariance: Tensor
    samples: int


def moments(features: Tensor) -> Moments:
    """Fit a normal distribution in double precision.

    Args:
        features: (N, D), N from 2 up, any floating type.

    Raises:
        ValueError: Another shape, or a value that is not finite.

    >>> moments(torch.tensor([[0.0], [2.0]])).covariance.item()
    2.0
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must have the shape (N, D) with N from 2 up, not {tuple(features.shape)}")
    values = features.double()
    if not torch.isfinite(values).all():
        raise ValueError("features must be finite")
    mean = values.mean(0)
    centred = values - mean
    return Moments(mean, centred.T @ centred / (len(values) - 1), len(values))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two normal distributions.

    ``|m_a - m_b|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2)`` (Dowson and Landau, 1982). The product in
    the root is symmetric and has no negative eigenvalue, unlike ``A B`` itself, whose root would have to be
    taken in complex numbers where rounding makes an eigenvalue negative.

    With few samples it is too large, by an amount that depends on N and D alone as long as both sets
    hold N of them: compare only equal sample sizes, and beside the distance of real images from others.

    Args:
        a: One set's moments.
        b: The other's, of the same dimension.

    Raises:
        ValueError: Their dimensions differ.

    >>> one = Moments(torch.zeros(1).double(), torch.eye(1).double(), 9)
    >>> round(frechet_distance(one, Moments(torch.ones(1).double(), 4 * torch.eye(1).double(), 9)), 6)
    2.0
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and {len(b.mean)} numbers can't be compared")
    root = _root(a.covariance)
    product = root @ b.covariance @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    apart = (a.mean - b.mean).square().sum()
    distance = apart + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(distance.item(), 0.0)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a covariance matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
