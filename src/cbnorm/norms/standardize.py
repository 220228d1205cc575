"""Layers that treat all positions of a sample alike: moments of a sample, one affine map for each sample."""

from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.norms import native
from cbnorm.norms.fused_affine import Affine, SampleMomentsFunction


class SampleMoments(NamedTuple):
    """Moments of every channel of every sample over its positions.

    Attributes:
        mean: (N, C).
        square: Sum over positions of squared deviations from ``mean``, (N, C).
        positions: L, the number of positions.
    """

    mean: Tensor
    square: Tensor
    positions: int


def sample_moments(x: Tensor) -> SampleMoments:
    """Mean and centred sum of squares of each channel of each sample; ``x`` is (N, C, L)."""
    if native.wanted(x):
        mean, square = SampleMomentsFunction.apply(_plain_moments, x)
    else:
        mean, square = _plain_moments(x)
    return SampleMoments(mean, square, x.shape[2])


def _plain_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=2) if x.shape[2] else x.sum(dim=2)
    return mean, (x - mean.unsqueeze(2)).square().sum(dim=2)


def pooled_moments(moments: SampleMoments, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of groups of samples, from the moments of the samples.

    Sums of squares within and between samples are added, and each group is measured from its own middle, so
    nothing cancels (Chan et al.). A sample of weight zero takes no part, whatever its values. For weights g
    (N, K) these are eq. 8 and 9 of the paper with tau constant over a sample's positions.

    Args:
        moments: Of N samples.
        weights: Share of every sample in every group, (N, K), not negative.

    Returns:
        Mass (K, 1) in positions, mean (K, C), biased variance (K, C). A group of mass zero has zero moments.
    """
    mass = weights.sum(dim=0).unsqueeze(1) * moments.positions
    share = weights.T * moments.positions / mass.clamp_min(torch.finfo(weights.dtype).tiny)
    share = share.unsqueeze(2)
    member = share > 0
    mean = torch.where(member, moments.mean, 0.0)  # (K, N, C)
    origin = (share * mean).detach().sum(dim=1, keepdim=True)
    deviation = torch.where(member, mean - origin, 0.0)
    offset = (share * deviation).sum(dim=1, keepdim=True)
    within = torch.where(member, moments.square / moments.positions, 0.0)
    variance = (share * (within + (deviation - offset).square())).sum(dim=1)
    return mass, (origin + offset).squeeze(1), variance


def middle(mean: Tensor) -> Tensor:
    """A point (C,) among the means (K, C), to measure from: the lower median, constant for autograd.

    Large numbers cancel in anything measured from far away. A mean would be drawn along by one component
    that left the data; the median stays.
    """
    return mean.detach().sort(dim=0).values[(len(mean) - 1) // 2]


def blend(weights: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Collapse ``sum_k w_k (x - mean_k) scale_k`` into one map ``(x - centre) · slope`` a sample.

    Args:
        weights: (N, K), not negative.
        mean: (K, C).
        scale: (K, C), positive.

    Returns:
        Centre and slope, (N, C) each. The centre is a weighted mean of the means, so that large means
        cost no digits.
    """
    slope = weights @ scale
    origin = middle(mean)
    lever = weights @ (scale * (mean - origin))
    return origin + lever / slope.clamp_min(torch.finfo(slope.dtype).tiny), slope


def apply_affine(x: Tensor, centre: Tensor, slope: Tensor, shift: Tensor | None = None) -> Tensor:
    """``(x - centre) · slope + shift`` with one map a sample and channel.

    Args:
        x: (N, C, L).
        centre: (N, C), or (1, C) for one map shared by all samples.
        slope: Likewise.
        shift: Likewise, or None for zero.

    Returns:
        (N, C, L).
    """
    if native.wanted(x):
        y: Tensor = Affine.apply(_plain_affine, x, centre, slope, shift)
        return y
    return _plain_affine(x, centre, slope, shift)


def _plain_affine(x: Tensor, centre: Tensor, slope: Tensor, shift: Tensor | None) -> Tensor:
    y = (x - centre.unsqueeze(2)) * slope.unsqueeze(2)
    return y if shift is None else y + shift.unsqueeze(2)


def scale_and_shift(y: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    """``gain · y + bias`` of (N, C, L) with one of each a channel, (C,); ``y`` where there are none."""
    if gain is None or bias is None:
        return y
    return y * gain[:, None] + bias[:, None]
