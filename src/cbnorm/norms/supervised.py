"""Known and unknown clusters: which affine map every sample, or position, gets (eq. 10, 12 and 13)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cbnorm.norms.mixture import Components, collapsed, log_posterior
from cbnorm.norms.standardize import apply_affine, blend, sample_moments

Scale = Literal["paper", "consistent"]
Unknown = Literal["sample", "position"]


class Clusters(NamedTuple):
    """Location and width of K clusters.

    Attributes:
        mean: mu_k, (K, C).
        deviation: What deviations are divided by, (K, C), positive; eps included.
    """

    mean: Tensor
    deviation: Tensor


def normalize_known(
    x: Tensor, ids: Tensor, clusters: Clusters, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """Eq. 10: ``(x - mu_k) / deviation_k`` with the k of each sample, times gamma_k plus beta_k.

    Args:
        x: (N, C, L).
        ids: (N,) in [0, K).
        clusters: K of them.
        gamma: (K, C), or None for ones.
        beta: (K, C), or None for zeros.

    Returns:
        (N, C, L).
    """
    ids = ids.long()
    # index_select, because the gradient of plain indexing is a slow scatter.
    slope = clusters.deviation.reciprocal() if gamma is None else gamma / clusters.deviation
    shift = None if beta is None else beta.index_select(0, ids)
    return apply_affine(x, clusters.mean.index_select(0, ids), slope.index_select(0, ids), shift)


def normalize_unknown(x: Tensor, clusters: Clusters, *, scale: Scale, unknown: Unknown) -> Tensor:
    """Eq. 12 with the posterior of eq. 13 freed of its surplus K; every sample's cluster is unknown.

    Args:
        x: (N, C, L).
        clusters: K of them, equally likely; densities have their mean and deviation.
        scale: ``"paper"`` multiplies by sqrt(K) as printed; ``"consistent"`` by 1, so that a certain
            posterior gives eq. 10.
        unknown: One posterior a ``"sample"`` (log densities summed over positions) or a ``"position"``.

    Returns:
        (N, C, L).
    """
    factor = len(clusters.mean) ** 0.5 if scale == "paper" else 1.0
    if unknown == "sample":
        centre, slope = blend(sample_posterior(x, clusters), clusters.mean, clusters.deviation.reciprocal())
        return apply_affine(x, centre, slope * factor)
    tau = log_posterior(x, _equally_likely(clusters), joint=True)[:, :, 0].exp()
    return collapsed(x, tau, clusters.mean, clusters.deviation.reciprocal()) * factor


def normalize_mixed(x: Tensor, ids: Tensor, clusters: Clusters, *, scale: Scale, unknown: Unknown) -> Tensor:
    """Eq. 10 where the id is known, :func:`normalize_unknown` where it is -1, without reading the ids."""
    hidden = ids < 0
    factor = len(clusters.mean) ** 0.5 if scale == "paper" else 1.0
    if unknown == "position":
        known = normalize_known(x, ids.clamp_min(0), clusters)
        return torch.where(
            hidden[:, None, None], normalize_unknown(x, clusters, scale=scale, unknown=unknown), known
        )
    member = (ids.unsqueeze(1) == torch.arange(len(clusters.mean), device=ids.device)).to(x.dtype)
    weights = torch.where(hidden.unsqueeze(1), sample_posterior(x, clusters), member)
    centre, slope = blend(weights, clusters.mean, clusters.deviation.reciprocal())
    return apply_affine(x, centre, torch.where(hidden.unsqueeze(1), slope * factor, slope))


def sample_posterior(x: Tensor, clusters: Clusters) -> Tensor:
    """Responsibilities (N, K) given a whole sample: log densities summed over channels and positions.

    Needs only the sample's moments: ``sum_l (x - mu)^2 = square + L (mean - mu)^2``.
    """
    moments = sample_moments(x)
    precision = clusters.deviation.square().reciprocal()
    relative = precision - precision.mean(dim=0)
    centred = (moments.mean.unsqueeze(1) - clusters.mean).square() * precision
    between = (centred - centred.detach().amin(dim=1, keepdim=True)).sum(dim=2)
    logits = -0.5 * (moments.square @ relative.T + moments.positions * between)
    return (logits - moments.positions * clusters.deviation.log().sum(dim=1)).softmax(dim=1)


def _equally_likely(clusters: Clusters) -> Components:
    prior = clusters.mean.new_zeros(len(clusters.mean))
    return Components(prior, clusters.mean, clusters.deviation.square())
