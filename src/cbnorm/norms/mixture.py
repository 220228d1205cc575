"""Mixture normalizing transform: responsibilities of components, their moments, and the normalization."""

from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.norms.standardize import middle

#: Below this mass (in positions) a component has no moments of its own and keeps the stored ones.
DEAD_MASS = 1e-12


class Components(NamedTuple):
    """K diagonal Gaussians, as the posterior needs them.

    Attributes:
        log_prior: log lambda_k, (K,).
        mean: mu_k, (K, C).
        variance: sigma_k^2 with whatever eps belongs to the density, (K, C), positive.
    """

    log_prior: Tensor
    mean: Tensor
    variance: Tensor


class Moments(NamedTuple):
    """Moments of the components in a batch (eq. 8 and 9).

    Attributes:
        mass: S_k, the sum of responsibilities over samples and positions; (K, C), or (K, 1) when shared.
        mean: m_k, (K, C).
        variance: Biased v_k, (K, C).
        share: Mean responsibility of every component, (K,).
    """

    mass: Tensor
    mean: Tensor
    variance: Tensor
    share: Tensor


def log_posterior(x: Tensor, components: Components, *, joint: bool, temper: bool = False) -> Tensor:
    """Log responsibilities log tau_k(x) of eq. 6.

    Log densities are compared, never densities, so that a value far from all components still belongs
    to one of them. The joint form drops what all components share (origin and mean precision) before
    its matrix products, which keeps the digits of large inputs.

    Args:
        x: (N, C, L).
        components: K of them.
        joint: One posterior for each position's C-vector (eq. 5) instead of one for each scalar.
        temper: Compare the joint log densities divided by C, their mean over the channels. Their sum grows
            with C until one component takes all.

    Returns:
        (N, K, 1, L) if ``joint``, else (N, K, C, L).
    """
    log_prior, mean, variance = components
    if not joint:
        centred = x.unsqueeze(1) - mean[None, :, :, None]
        weight = (log_prior[:, None] - 0.5 * variance.log())[None, :, :, None]
        return (weight - 0.5 * centred.square() / variance[None, :, :, None]).log_softmax(dim=1)
    origin = middle(mean)
    offset = mean - origin
    share = density_share(variance, temper=temper)
    precision = share / variance
    relative = precision - precision.mean(dim=0)
    linear = offset * precision
    constant = log_prior - 0.5 * (share * variance.log() + offset * linear).sum(dim=1)
    shifted = x - origin[:, None]
    logits = torch.einsum("ncl,kc->nkl", shifted, linear)
    logits = logits - 0.5 * torch.einsum("ncl,kc->nkl", shifted.square(), relative)
    return (logits + constant[:, None]).log_softmax(dim=1).unsqueeze(2)


def density_share(variance: Tensor, *, temper: bool) -> float:
    """What a channel's log density counts in a joint posterior; ``variance`` is (K, C)."""
    return 1 / variance.shape[1] if temper else 1.0


def component_moments(x: Tensor, tau: Tensor, stored_mean: Tensor, stored_variance: Tensor) -> Moments:
    """Mass, mean and centred biased variance of every component (eq. 8 as a weighted sum, and eq. 9).

    Args:
        x: (N, C, L).
        tau: Responsibilities, (N, K, C, L) or (N, K, 1, L).
        stored_mean: (K, C), for components without mass.
        stored_variance: (K, C), likewise.

    Returns:
        The moments, differentiable in ``x`` and ``tau``.
    """
    mass = tau.sum(dim=(0, 3))
    units = max(1, tau.shape[0] * tau.shape[2] * tau.shape[3])
    alive = ~(mass < DEAD_MASS)
    divisor = torch.where(alive, mass, torch.ones_like(mass))
    origin = middle(stored_mean)
    offset = _weighted_sum(tau, (x - origin[:, None]).unsqueeze(1)) / divisor
    mean = torch.where(alive, offset + origin, stored_mean)
    centred = x.unsqueeze(1) - mean[None, :, :, None]
    variance = torch.where(alive, _weighted_sum(tau, centred.square()) / divisor, stored_variance)
    return Moments(mass, mean, variance, mass.sum(dim=1) / units)


def normalized_moments(moments: Moments, eps: float) -> tuple[Tensor, Tensor]:
    """Plain mean and variance over the whole batch of ``xhat^k = (x - m_k) / sqrt(v_k + eps)`` (eq. 8).

    They follow from the components' moments without another pass: responsibilities sum to 1, so that the
    batch's mean and variance are those of the components together.

    Args:
        moments: Of the components in the batch.
        eps: Added to the variance under the root.

    Returns:
        ``(mean(x) - m_k) / sqrt(v_k + eps)`` and ``var(x) / (v_k + eps)``, biased, (K, C) each.
    """
    share = moments.mass / moments.mass.sum(dim=0).clamp_min(DEAD_MASS)
    offset = moments.mean - middle(moments.mean)
    centre = (share * offset).sum(dim=0)
    variance = (share * (moments.variance + (offset - centre).square())).sum(dim=0)
    width = moments.variance + eps
    return (centre - offset) * width.rsqrt(), variance / width


def _weighted_sum(tau: Tensor, values: Tensor) -> Tensor:
    return (tau * values).sum(dim=(0, 3))


def mixture_normalize(
    x: Tensor, log_tau: Tensor, log_prior: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """Sum over k of ``tau_k / sqrt(lambda_k) · (x - mean_k) / sqrt(variance_k + eps)`` (eq. 7 and 15).

    Args:
        x: (N, C, L).
        log_tau: (N, K, C, L) or (N, K, 1, L).
        log_prior: log lambda_k, (K,).
        mean: (K, C).
        variance: (K, C).
        eps: Added to the variance under the root.

    Returns:
        (N, C, L). The weight is formed in the log domain, so that a vanishing prior is no division by zero.
    """
    weight = (log_tau - 0.5 * log_prior[None, :, None, None]).exp()
    scale = (variance + eps).rsqrt()
    if log_tau.shape[2] == 1 and mean.shape[1] > 1:
        return collapsed(x, weight[:, :, 0], mean, scale)
    normalized = (x.unsqueeze(1) - mean[None, :, :, None]) * scale[None, :, :, None]
    return (weight * normalized).sum(dim=1)


def collapsed(x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """A posterior shared by the channels makes one affine map a position out of two matrix products."""
    origin = middle(mean)
    slope = torch.einsum("nkl,kc->ncl", weight, scale)
    lever = torch.einsum("nkl,kc->ncl", weight, scale * (mean - origin))
    return (x - origin[:, None]) * slope - lever
