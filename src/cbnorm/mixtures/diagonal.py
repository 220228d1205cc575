"""Gaussian mixtures with diagonal covariances on one tensor: posterior and one step of EM."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.mixtures.numerics import accumulator_dtype, compute_dtype, full_precision, posterior


class Mixture(NamedTuple):
    """A mixture of K Gaussians in D dimensions with diagonal covariances.

    Attributes:
        weights: Priors lambda_k, (K,), positive, with sum 1.
        means: (K, D).
        variances: (K, D), positive.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor


def log_responsibilities(data: Tensor, mixture: Mixture) -> Tensor:
    """Log posterior of every component given every point: log tau_k(x), eq. 6 of the paper.

    Differentiable in ``data`` and in the mixture's tensors. A row depends on its own point
    alone. It is finite and normalized while the point lies less than 1e18 (1e150 in float64) from
    every component, in the data's units and in standard deviations.

    Points are measured from the median of the means, and the precision that all components share
    is dropped, so that neither a component that left nor a far point costs digits. What remains in
    float32 is an error of about ``1e-7 d²``, where d is the distance from that median of the
    components that compete for a point, in units of their standard deviation: from d = 1000 on,
    where it is 0.1, float64 data are the remedy.

    Args:
        data: Points x, (n, D).
        mixture: The mixture, K components.

    Returns:
        Log responsibilities, (n, K), whose exponentials sum to 1 along K.

    Example:
        >>> mixture = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
        >>> log_responsibilities(torch.tensor([[0.0], [1e3]]), mixture).exp()
        tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]])
    """
    dtype = compute_dtype(data)
    mixture = Mixture(*(tensor.to(dtype) for tensor in mixture))
    means, precisions = mixture.means.detach(), mixture.variances.detach().reciprocal()
    middle = means.sort(dim=0).values[(len(means) - 1) // 2]
    shifted = data.to(dtype) - middle
    # The smallest precision, because a far point is between the components that have it.
    log_joint = _log_joint(shifted, shifted.square(), mixture, middle, precisions.amin(0))
    return log_joint.log_softmax(dim=1)


@torch.no_grad()
def em_step(data: Tensor, mixture: Mixture, *, floor: float = 1e-3) -> tuple[Mixture, Tensor]:
    """One step of expectation maximisation (eq. 6, and eq. 8 and 9 as weighted sums).

    Both halves are matrix products on data shifted by the mixture's mean: two (n, D)
    temporaries, no (n, K, D) one, nothing read back from the device, no gradient. The price is
    that a variance loses about ``1e-7 (1 + d²)`` of its relative accuracy in float32, where d is
    the distance of a component from the mixture's mean in units of its standard deviation;
    float64 data are computed in float64. A log responsibility is off by about ``1e-7 d²``, where d
    is the larger of that distance and the point's; responsibilities sum to 1 all the same, as long
    as the point lies less than 1e18 from every component (see :func:`log_responsibilities`, which
    loses less). A component that no point supports keeps its means and variances, and a weight of
    about 1e-7, so that it can come back.

    Args:
        data: Points, (n, D). Half precision is computed in float32, autocast notwithstanding.
        mixture: The current mixture.
        floor: Smallest variance.

    Returns:
        The updated mixture, in the types of the old, and the mean log-likelihood of ``data``
        under the *old* mixture (0-d).

    Example:
        >>> start = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
        >>> updated, _ = em_step(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), start)
        >>> updated.means, updated.variances
        (tensor([[1., 1.]]), tensor([[1.0000, 0.0010]]))
    """
    types = [tensor.dtype for tensor in mixture]
    mixture, shift, shifted = _prepare(data, mixture)
    squares = shifted.square()
    responsibilities, evidence = posterior(_log_joint(shifted, squares, mixture, shift))
    updated = _maximise(shifted, squares, responsibilities, mixture, shift, floor)
    updated = Mixture(*(tensor.to(dtype) for tensor, dtype in zip(updated, types, strict=True)))
    return updated, evidence.mean(dtype=accumulator_dtype(data.device))


@torch.no_grad()
def mixture_from_centers(data: Tensor, centers: Tensor, *, floor: float = 1e-3) -> Mixture:
    """The mixture whose components are the moments of the points nearest to each centre.

    Args:
        data: Points, (n, D).
        centers: (K, D), for instance from :func:`kmeans_plusplus`.
        floor: Smallest variance.

    Returns:
        Weights, means and variances of the K cells. A centre that is nearest to no point keeps
        its place, with the variances of all points around their mean.
    """
    points = data.to(compute_dtype(data))
    shift = points.mean(0)
    shifted = points - shift
    squares = shifted.square()
    spread = squares.mean(0).clamp_min(floor).expand(centers.shape)
    start = Mixture(shift.new_ones(len(centers)) / len(centers), centers.to(points.dtype), spread)
    moved = start.means - shift
    with full_precision(data.device):
        cells = (moved.square().sum(1) - 2 * shifted @ moved.T).argmin(dim=1)
    # A comparison instead of one_hot, which checks its input and so waits for the device.
    members = (cells[:, None] == torch.arange(len(centers), device=data.device)).to(points.dtype)
    return _maximise(shifted, squares, members, start, shift, floor)


def _prepare(data: Tensor, mixture: Mixture) -> tuple[Mixture, Tensor, Tensor]:
    """Mixture in the type to compute in, its mean, and the data relative to that mean.

    Squares of distances from the mixture's mean lose the fewest digits, and, unlike those from
    the batch's mean, do not make a point's posterior depend on the other points.
    """
    dtype = compute_dtype(data)
    mixture = Mixture(*(tensor.to(dtype) for tensor in mixture))
    shift = (mixture.weights[:, None] * mixture.means).sum(0).detach()
    return mixture, shift, data.to(dtype) - shift


def _log_joint(
    shifted: Tensor, squares: Tensor, mixture: Mixture, shift: Tensor, shared: Tensor | float = 0.0
) -> Tensor:
    """Log lambda_k + log p_k(x), (n, K), for points and their squares relative to ``shift``.

    Without the part that precisions ``shared`` (D,) by all components add to every column.
    """
    precisions = mixture.variances.reciprocal()
    offsets = mixture.means - shift
    linear = offsets * precisions
    volume = (mixture.variances.log() + offsets * linear).sum(1) + shifted.shape[1] * math.log(2 * math.pi)
    constants = mixture.weights.log() - 0.5 * volume
    with full_precision(shifted.device):
        partial = torch.addmm(constants, shifted, linear.T)
        return torch.addmm(partial, squares, (precisions - shared).T, alpha=-0.5)


def _maximise(
    shifted: Tensor, squares: Tensor, responsibilities: Tensor, old: Mixture, shift: Tensor, floor: float
) -> Mixture:
    """Weighted moments of the points; components without points keep theirs."""
    counts = responsibilities.sum(0, dtype=accumulator_dtype(shifted.device))
    smallest = 10 * torch.finfo(shifted.dtype).eps
    divisors = counts.clamp_min(smallest)[:, None].to(shifted.dtype)
    with full_precision(shifted.device):
        offsets = (responsibilities.T @ shifted) / divisors
        variances = (responsibilities.T @ squares) / divisors - offsets.square()
    alive = (counts > smallest)[:, None]
    weights = (counts / len(shifted)).clamp_min(smallest)
    return Mixture(
        (weights / weights.sum()).to(shifted.dtype),
        torch.where(alive, offsets + shift, old.means),
        torch.where(alive, variances.clamp_min(floor), old.variances),
    )
