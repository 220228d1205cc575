"""Autograd functions of mixture normalization around the kernels.

Nothing of size (N, K, C, L) is kept for the backward pass: responsibilities of scalars are computed again,
those of positions are K numbers a position. Second derivatives come from the plain definitions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from cbnorm.norms.fused_affine import Plain, differentiate, table
from cbnorm.norms.mixture import density_share
from cbnorm.norms.native import call, differentiable, layout, matching
from cbnorm.norms.standardize import middle


class ScalarMixture(Function):
    """Mixture normalization with one posterior a scalar; moments of the batch, or given."""

    @staticmethod
    def forward(
        ctx: Any,
        plain: Plain,
        x: Tensor,
        log_prior: Tensor,
        mu: Tensor,
        s: Tensor,
        mean: Tensor,
        variance: Tensor,
        settings: tuple[bool, float, float],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output, and mass, mean and variance of the components (not differentiable).

        ``settings``: whether moments are the batch's (then ``mean`` and ``variance`` are for components
        without mass), eps and the smallest mass that counts.
        """
        batch, eps, dead = settings
        source, last = layout(x.detach())
        m, v = table(mean).clone(), table(variance).clone()
        y, mass = torch.empty_like(source), torch.empty_like(m)
        densities = _densities(log_prior, mu, s)
        call("scalar_forward", source, *densities, mass, m, v, y, *x.shape, len(m), last, batch, eps, dead)
        ctx.save_for_backward(x, log_prior, mu, s, mean, variance, mass, m, v)
        ctx.plain, ctx.settings = plain, settings
        ctx.mark_non_differentiable(mass, m, v)
        return y, mass, m, v

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes over the batch (one for given moments), responsibilities computed anew."""
        x, log_prior, mu, s, mean, variance, mass, m, v = ctx.saved_tensors
        batch, eps, dead = ctx.settings
        if differentiable(grad):
            return None, *differentiate(ctx.plain, (x, log_prior, mu, s, mean, variance), grad), None
        source, last = layout(x)
        g, dx = matching(grad, last=last), torch.empty_like(source)
        alive = mass >= dead if batch else torch.zeros_like(mass, dtype=torch.bool)
        inverse = torch.where(alive, mass.reciprocal(), 0.0)
        p, q, l0, l1, l2 = (torch.empty_like(m) for _ in range(5))
        densities = _densities(log_prior, mu, s)
        call(
            *("scalar_backward", source, g, *densities, m, v, inverse, dx, p, q, l0, l1, l2),
            *(*x.shape, len(m), last, batch, eps),
        )
        root = (v + eps).rsqrt()
        by_prior = l0.sum(dim=1) - 0.5 * (root * q).sum(dim=1)
        by_mean, by_variance = torch.where(alive, 0.0, -root * p), torch.where(alive, 0.0, -0.5 * root**3 * q)
        return None, dx, by_prior, l1 / s, 0.5 * (l2 / s - l0) / s, by_mean, by_variance, None


def _densities(log_prior: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    constant = log_prior[:, None] - 0.5 * s.log()
    weight = (-0.5 * log_prior).exp()
    return table(constant), table(0.5 / s), table(mu), table(weight)


class VectorMixture(Function):
    """Mixture normalization with one posterior a position; moments of the batch, or given."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any,
        plain: Plain,
        x: Tensor,
        log_prior: Tensor,
        mu: Tensor,
        s: Tensor,
        mean: Tensor,
        variance: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        settings: tuple[bool, float, float, bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :class:`ScalarMixture`, and ``gain · y + bias`` (C) in the same pass.

        ``settings`` ends with whether responsibilities carry no gradient, and whether log densities are
        divided by C before they are compared.
        """
        batch, eps, dead, _, temper = settings
        source, last = layout(x.detach())
        m, v = table(mean).clone(), table(variance).clone()
        y, mass = torch.empty_like(source), source.new_ones(len(m), 1)
        tau = source.new_empty(len(m) * x.shape[0] * x.shape[2])
        sizes = (*x.shape, len(m), last)
        densities = _joint_densities(log_prior, mu, s, temper=temper)
        w = densities[-1]
        factor, shift = (None if values is None else table(values) for values in (gain, bias))
        ends = (_scale(v, eps, factor), shift, y, *sizes)
        exact = call("joint_forward", source, *densities, tau, mass, m, v, *ends, batch, dead)
        if batch:
            if not exact:
                squares = torch.empty_like(m)
                call("joint_squares", source, tau, m, squares, *sizes)
                v = torch.where(mass < dead, v, squares / mass)
            call("joint_apply", source, tau, w, m, _scale(v, eps, factor), shift, y, *sizes)
        inputs = (x, log_prior, mu, s, mean, variance, gain, bias)
        ctx.save_for_backward(*inputs, mass, m, v, tau, *densities[1:])
        ctx.plain, ctx.settings = plain, settings
        ctx.mark_non_differentiable(mass, m, v)
        return y, mass, m, v

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes over the batch; only the responsibilities, K numbers a position, were kept."""
        *inputs, mass, m, v, tau, slope, bend, center, w = ctx.saved_tensors
        x, _, _, s, _, _, gain, bias = inputs
        batch, eps, dead, constant, temper = ctx.settings
        if differentiable(grad):
            return None, *differentiate(ctx.plain, inputs, grad), None
        source, last = layout(x)
        g, dx = matching(grad, last=last), torch.empty_like(source)
        sizes = (*x.shape, len(m), last)
        root = (v + eps).rsqrt()
        scale = _scale(v, eps, None if gain is None else table(gain))
        p, q, l1, l2 = (torch.zeros_like(m) for _ in range(4))
        u, l0 = None if constant else torch.empty_like(tau), torch.zeros_like(mass)
        call("joint_sums", source, g, tau, w, m, scale, p, q, u, *sizes)
        alive = mass >= dead if batch else torch.zeros_like(mass, dtype=torch.bool)
        by_mean, by_variance = -scale * p, -0.5 * root**2 * scale * q
        inverse = torch.where(alive, mass.reciprocal(), 0.0)
        call(
            *("joint_backward", source, g, tau, u, slope, bend, center, w, m, v, scale),
            *(by_mean * inverse, by_variance * inverse, dx, l0, l1, l2, *sizes, batch, constant),
        )
        by_prior = l0.sum(dim=1) - 0.5 * (scale * q).sum(dim=1)
        by_mean, by_variance = torch.where(alive, 0.0, by_mean), torch.where(alive, 0.0, by_variance)
        by_gain = None if gain is None else (root * q).sum(dim=0)
        # Responsibilities sum to 1, so these are the sums of the gradient itself.
        by_bias = None if bias is None else (p / w[:, None]).sum(dim=0)
        width = s / density_share(s, temper=temper)
        by_s = 0.5 * (l2 / s - l0) / width
        return None, dx, by_prior, l1 / width, by_s, by_mean, by_variance, by_gain, by_bias, None


def _joint_densities(log_prior: Tensor, mu: Tensor, s: Tensor, *, temper: bool) -> tuple[Tensor, ...]:
    """Constant (K,), slope, bend and mean (K, C) and weight (K,), as ``joint.cpp`` explains them."""
    center, share = table(mu), density_share(s, temper=temper)
    slope, bend = torch.empty_like(center), torch.empty_like(center)
    a, w = center.new_empty(len(mu)), center.new_empty(len(mu))
    mixture = (table(log_prior), center, table(s), middle(center), share)
    call("joint_densities", *mixture, a, slope, bend, w, *center.shape)
    return a, slope, bend, center, w


def _scale(variance: Tensor, eps: float, gain: Tensor | None) -> Tensor:
    root = (variance + eps).rsqrt()
    return root if gain is None else root * gain
