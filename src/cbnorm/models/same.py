"""Convolutions padded as TensorFlow's "same"."""

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) positions; an odd row or column goes to the end.

    TensorFlow puts the larger half of an odd padding to the bottom and to the right, which differs from a
    symmetric padding for even kernels, and for odd ones with stride 2 on an even size.

    Shapes:
        ``(N, C, H, W)`` to ``(N, C', ceil(H / stride), ceil(W / stride))``.

    Example:
        >>> import torch
        >>> conv = SameConv2d(1, 1, 2, bias=False)
        >>> _ = nn.init.ones_(conv.weight)
        >>> conv(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).flatten().tolist()
        [10.0, 6.0, 7.0, 4.0]
    """

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  (torch's)
        (top, bottom), (left, right) = (
            _padding(size, kernel, stride)
            for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride)


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
