"""Padding as TensorFlow's "same", against sums over windows computed by hand."""

import pytest
import torch

from cbnorm.models.same import SameConv2d


def by_hand(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Windows begin (kernel - 1) // 2 before their pixel, or where TensorFlow's formula puts them."""
    size, kernel = x.shape[-1], weight.shape[-1]
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    y = torch.zeros(outputs, outputs, dtype=x.dtype)
    for row in range(outputs):
        for column in range(outputs):
            for i in range(kernel):
                for j in range(kernel):
                    r, c = row * stride - before + i, column * stride - before + j
                    if 0 <= r < size and 0 <= c < size:
                        y[row, column] += weight[i, j] * x[r, c]
    return y


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 6])
def test_agrees_with_windows_by_hand(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    conv = SameConv2d(1, 1, kernel, stride=stride, bias=False).double()
    x = torch.randn(size, size, dtype=torch.double)
    torch.testing.assert_close(conv(x[None, None])[0, 0], by_hand(x, conv.weight[0, 0], stride))


def test_even_kernels_reach_one_row_and_column_further_down_and_right() -> None:
    conv = SameConv2d(1, 1, 4, bias=False)
    pixel = torch.zeros(1, 1, 7, 7)
    pixel[..., 3, 3] = 1
    rows = conv(pixel)[0, 0].detach().abs().sum(1).nonzero().flatten().tolist()
    assert rows == [1, 2, 3, 4]  # the window of row r is r - 1 to r + 2


def test_stride_two_on_an_even_size_pads_the_end_only() -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1)
    assert conv(torch.arange(4.0).expand(1, 1, 4, 4))[0, 0, 0].tolist() == [9.0, 15.0]
