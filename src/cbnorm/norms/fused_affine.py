"""Autograd functions of affine maps and sample moments around the kernels.

Each takes the plain definition as its first argument and falls back to it for second derivatives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from cbnorm.mixtures.numerics import full_precision
from cbnorm.norms.native import call, differentiable, layout, matching

Plain = Callable[..., Any]


def table(values: Tensor) -> Tensor:
    """``values`` as kernels take them: float32, row-major, outside autograd."""
    return values.detach().to(torch.float32).contiguous()


def differentiate(plain: Plain, inputs: Sequence[Tensor | None], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ``plain(*inputs)`` that can be differentiated again.

    Aliases of the inputs are differentiated by, so that one input that was computed from another is not
    counted twice.
    """
    # A penalty on gradients may be computed under autocast; what is normalized never is.
    with torch.enable_grad(), full_precision(grad.device):
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
        tables = [None if values is None else table(values) for values in (centre, slope, shift)]
        y = torch.empty_like(source)
        steps = [_step(values) for values in tables]
        call("affine_forward", source, *tables, y, *source.shape, last, *steps)
        ctx.save_for_backward(x, centre, slope, shift)
        ctx.plain = plain
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass: gradient of ``x`` and the two sums over positions that give all others."""
        x, centre, slope, shift = ctx.saved_tensors
        if differentiable(grad):
            return None, *differentiate(ctx.plain, (x, centre, slope, shift), grad)
        source, last = layout(x)
        g, dx = matching(grad, last=last), torch.empty_like(source)
        m, a = table(centre), table(slope)
        total, moment = source.new_empty(x.shape[:2]), source.new_empty(x.shape[:2])
        call("affine_backward", source, g, m, a, dx, total, moment, *x.shape, last, _step(m), _step(a))
        by_shift = None if shift is None else _sum_rows(total, shift)
        return None, dx, _sum_rows(-a * total, centre), _sum_rows(moment, slope), by_shift


def _step(values: Tensor | None) -> int:
    """Distance between rows of a table, 0 for one shared row."""
    return 0 if values is None or values.shape[0] == 1 else values.shape[1]


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
        if differentiable(by_mean, by_square):
            with torch.enable_grad():
                alias = x.view_as(x)
                outputs = ctx.plain(alias)
                return None, torch.autograd.grad(outputs, alias, (by_mean, by_square), create_graph=True)[0]
        source, last = layout(x)
        dx = torch.empty_like(source)
        slope, shift = table(2 * by_square), table(by_mean / x.shape[2])
        step = x.shape[1]
        call("affine_forward", source, mean, slope, shift, dx, *x.shape, last, step, step, step)
        return None, dx
