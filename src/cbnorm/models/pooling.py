"""Poolings that cost less on a CPU and compute what torch computes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from cbnorm.norms import native

#: Channels that the kernels take at once.
_LANES = 32
#: Of a window without a positive value.
_NONE = 255


def relu_max_pool(x: Tensor) -> Tensor:
    """``max_pool2d(relu(x), 3, stride=2, ceil_mode=True)``, the same values and gradients.

    The two commute, because the largest of clamped values is the clamped largest, and in that order ReLU sees
    a quarter of the values. On a CPU in channels_last one kernel does both and keeps a byte for each value
    that it gives, where torch keeps its input and the places as int64.

    Args:
        x: ``(N, C, H, W)``, H and W at least 2.

    Returns:
        ``(N, C, ceil((H - 1) / 2), ceil((W - 1) / 2))``.

    Example:
        >>> relu_max_pool(torch.arange(-8.0, 8.0).reshape(1, 1, 4, 4))
        tensor([[[[2., 3.],
                  [6., 7.]]]])
    """
    if _suits(x):
        y: Tensor = _ReluMaxPool.apply(x)
        return y
    return F.relu(F.max_pool2d(x, 3, stride=2, ceil_mode=True))


def mean_over_positions(x: Tensor) -> Tensor:
    """``x.mean(dim=(2, 3))``, whose gradient comes in the layout of `x`.

    Torch's comes contiguous, and the operations before it then walk through two layouts at once: in
    channels_last that costs several times the mean itself.

    Args:
        x: ``(N, C, H, W)``.

    Returns:
        ``(N, C)``.

    Example:
        >>> mean_over_positions(torch.arange(8.0).reshape(1, 2, 2, 2))
        tensor([[1.5000, 5.5000]])
    """
    if x.is_contiguous():
        return x.mean(dim=(2, 3))
    return x.permute(0, 2, 3, 1).mean(dim=(1, 2))


def _suits(x: Tensor) -> bool:
    return (
        x.ndim == 4
        and x.dtype in {torch.bfloat16, torch.float32}
        and x.shape[1] % _LANES == 0
        and min(x.shape[2:]) >= 2
        and x.is_contiguous(memory_format=torch.channels_last)
        and native.usable(x)
    )


class _ReluMaxPool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        N, C, H, W = x.shape
        ctx.sizes = (N, C, H, W, H // 2, W // 2)
        y = torch.empty((N, C, H // 2, W // 2), dtype=x.dtype, memory_format=torch.channels_last)
        taken = torch.empty_like(y, dtype=torch.uint8) if x.requires_grad else None
        native.call("relu_pool_forward", x, y, taken, *ctx.sizes, x.element_size())
        ctx.save_for_backward(taken)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (taken,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _scattered(grad, taken, ctx.sizes)
        g = grad.contiguous(memory_format=torch.channels_last)
        dx = torch.empty(ctx.sizes[:4], dtype=g.dtype, memory_format=torch.channels_last)
        native.call("relu_pool_backward", g, taken, dx, *ctx.sizes, g.element_size())
        return dx


def _scattered(grad: Tensor, taken: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The gradient in a form that can be differentiated again."""
    N, C, H, W, rows, columns = sizes
    place = taken.long()
    row = 2 * torch.arange(rows)[:, None] + place.div(3, rounding_mode="floor")
    at = row * W + 2 * torch.arange(columns) + place % 3
    nowhere = taken == _NONE
    sent = grad.masked_fill(nowhere, 0).flatten(2)
    return (
        grad.new_zeros(N, C, H * W)
        .scatter_add(2, at.masked_fill(nowhere, 0).flatten(2), sent)
        .view(N, C, H, W)
    )
