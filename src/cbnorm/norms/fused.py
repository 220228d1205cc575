"""Autograd functions around the kernels: nothing of size (N, K, C, L) is kept, it is computed again.

Each takes the plain definition as its first argument and falls back to it for second derivatives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from cbnorm.norms.native import call, layout, matching

Plain = Callable[..., Any]


def _table(values: Tensor) -> Tensor:
    return values.detach().to(torch.float32).contiguous()


def differentiate(plain: Plain, inputs: Sequence[Tensor | None], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ``plain(*inputs)`` that can be differentiated again.

    Aliases of the inputs are differentiated by, so that one input that was computed from another is not
    counted twice.
    """
    with torch.enable_grad():
        aliases = [None if tensor is None else tensor.view_as(tensor) for tensor in inputs]
        output = plain(*aliases)
        wanted = [alias for alias in aliases if alias is not None and alias.requires_grad]
        grads = iter(torch.autograd.grad(output, wanted, grad, create_graph=True, allow_unused=True))
    return tuple(next(grads) if a is not None and a.requires_grad else None for a in aliases)


class Affine(Function):
    """``(x - centre) slope + shift`` with tables (N, C) or (1, C)."""

    @staticmethod
    def forward(
        ctx: Any, plain: Plain, x: Tensor, centre: Tensor, slope: Tensor, shift: Tensor | None
    ) -> Tensor:
        """See :func:`cbnorm.norms.standardize.apply_affine`."""
        source, last = layout(x.detach())
        tables = [None if table is None else _table(table) for table in (centre, slope, shift)]
        y = torch.empty_like(source)
        steps = [_step(table) for table in tables]
        call("affine_forward", source, *tables, y, *source.shape, last, *steps)
        ctx.save_for_backward(x, centre, slope, shift)
        ctx.plain = plain
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass: gradient of ``x`` and the two sums over positions that give all others."""
        x, centre, slope, shift = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *differentiate(ctx.plain, (x, centre, slope, shift), grad)
        source, last = layout(x)
        g, dx = matching(grad, last=last), torch.empty_like(source)
        m, a = _table(centre), _table(slope)
        total, moment = source.new_empty(x.shape[:2]), source.new_empty(x.shape[:2])
        call("affine_backward", source, g, m, a, dx, total, moment, *x.shape, last, _step(m), _step(a))
        by_shift = None if shift is None else _sum_rows(total, shift)
        return None, dx, _sum_rows(-a * total, centre), _sum_rows(moment, slope), by_shift


def _step(table: Tensor | None) -> int:
    """Distance between rows of a table, 0 for one shared row."""
    return 0 if table is None or table.shape[0] == 1 else table.shape[1]


def _sum_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.sum(dim=0, keepdim=True) if like.shape[0] == 1 else values


class SampleMomentsFunction(Function):
    """Mean and centred sum of squares of every channel of every sample."""

    @staticmethod
    def forward(ctx: Any, plain: Plain, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`cbnorm.norms.standardize.sample_moments`."""
        source, last = layout(x.detach())
        mean, square = source.new_empty(x.shape[:2]), source.new_empty(x.shape[:2])
        call("sample_moments", source, mean, square, *x.shape, last)
        ctx.save_for_backward(x, mean)
        ctx.plain = plain
        return mean, square

    @staticmethod
    def backward(ctx: Any, by_mean: Tensor, by_square: Tensor) -> tuple[Tensor | None, ...]:
        """``by_mean / L + 2 by_square (x - mean)``: an affine map again."""
        x, mean = ctx.saved_tensors
        if torch.is_grad_enabled():
            with torch.enable_grad():
                alias = x.view_as(x)
                outputs = ctx.plain(alias)
                return None, torch.autograd.grad(outputs, alias, (by_mean, by_square), create_graph=True)[0]
        source, last = layout(x)
        dx = torch.empty_like(source)
        slope, shift = _table(2 * by_square), _table(by_mean / x.shape[2])
        step = x.shape[1]
        call("affine_forward", source, mean, slope, shift, dx, *x.shape, last, step, step, step)
        return None, dx


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
        settings: tuple[bool, float, float, bool],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output, and mass, mean and variance of the components (not differentiable).

        ``settings``: whether moments are the batch's (then ``mean`` and ``variance`` are for components
        without mass), eps, the smallest mass that counts, and whether responsibilities carry no gradient
        (which no scalar posterior needs).
        """
        batch, eps, dead, _ = settings
        source, last = layout(x.detach())
        m, v = _table(mean).clone(), _table(variance).clone()
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
        batch, eps, dead, _ = ctx.settings
        if torch.is_grad_enabled():
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
    return _table(constant), _table(0.5 / s), _table(mu), _table(weight)


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
        settings: tuple[bool, float, float, bool],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :class:`ScalarMixture`, and ``gain · y + bias`` (C) in the same pass."""
        batch, eps, dead, _ = settings
        source, last = layout(x.detach())
        m, v = _table(mean).clone(), _table(variance).clone()
        y, mass = torch.empty_like(source), source.new_ones(len(m), 1)
        tau = source.new_empty(len(m) * x.shape[0] * x.shape[2])
        sizes = (*x.shape, len(m), last)
        a, h, center, w = _joint_densities(log_prior, mu, s)
        factor, shift = (None if table is None else _table(table) for table in (gain, bias))
        ends = (_scale(v, eps, factor), shift, y, *sizes)
        exact = call("joint_forward", source, a, h, center, w, tau, mass, m, v, *ends, batch, dead)
        if batch:
            if not exact:
                squares = torch.empty_like(m)
                call("joint_squares", source, tau, m, squares, *sizes)
                v = torch.where(mass < dead, v, squares / mass)
            call("joint_apply", source, tau, w, m, _scale(v, eps, factor), shift, y, *sizes)
        ctx.save_for_backward(x, log_prior, mu, s, mean, variance, gain, bias, mass, m, v, tau)
        ctx.plain, ctx.settings = plain, settings
        ctx.mark_non_differentiable(mass, m, v)
        return y, mass, m, v

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes over the batch; only the responsibilities, K numbers a position, were kept."""
        x, log_prior, mu, s, mean, variance, gain, bias, mass, m, v, tau = ctx.saved_tensors
        batch, eps, dead, constant = ctx.settings
        if torch.is_grad_enabled():
            inputs = (x, log_prior, mu, s, mean, variance, gain, bias)
            return None, *differentiate(ctx.plain, inputs, grad), None
        source, last = layout(x)
        g, dx = matching(grad, last=last), torch.empty_like(source)
        sizes = (*x.shape, len(m), last)
        _a, h, center, w = _joint_densities(log_prior, mu, s)
        root = (v + eps).rsqrt()
        scale = _scale(v, eps, None if gain is None else _table(gain))
        p, q, l1, l2 = (torch.zeros_like(m) for _ in range(4))
        u, l0 = None if constant else torch.empty_like(tau), torch.zeros_like(mass)
        call("joint_sums", source, g, tau, w, m, scale, p, q, u, *sizes)
        alive = mass >= dead if batch else torch.zeros_like(mass, dtype=torch.bool)
        by_mean, by_variance = -scale * p, -0.5 * root**2 * scale * q
        inverse = torch.where(alive, mass.reciprocal(), 0.0)
        call(
            *("joint_backward", source, g, tau, u, h, center, w, m, v, scale),
            *(by_mean * inverse, by_variance * inverse, dx, l0, l1, l2, *sizes, batch, constant),
        )
        by_prior = l0.sum(dim=1) - 0.5 * (scale * q).sum(dim=1)
        by_mean, by_variance = torch.where(alive, 0.0, by_mean), torch.where(alive, 0.0, by_variance)
        by_gain = None if gain is None else (root * q).sum(dim=0)
        # Responsibilities sum to 1, so these are the sums of the gradient itself.
        by_bias = None if bias is None else (p / w[:, None]).sum(dim=0)
        by_s = 0.5 * (l2 / s - l0) / s
        return None, dx, by_prior, l1 / s, by_s, by_mean, by_variance, by_gain, by_bias, None


def _joint_densities(log_prior: Tensor, mu: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    constant = log_prior - 0.5 * s.log().sum(dim=1)
    return _table(constant), _table(0.5 / s), _table(mu), _table((-0.5 * log_prior).exp())


def _scale(variance: Tensor, eps: float, gain: Tensor | None) -> Tensor:
    root = (variance + eps).rsqrt()
    return root if gain is None else root * gain
