"""ReLU and max pooling in one are torch's two, bit for bit."""

import sys

import pytest
import torch
from torch.nn import functional as F

from cbnorm.models.pooling import mean_over_positions, relu_max_pool
from cbnorm.norms import native

SHAPES = [(3, 64, 32, 32), (2, 32, 7, 9), (1, 32, 2, 2), (2, 96, 3, 5), (2, 5, 8, 8)]
needs_compiler = pytest.mark.skipif(native.library() is None, reason="the kernels cannot be built here")


@pytest.fixture(params=["kernel", "plain"])
def path(request, monkeypatch):
    if request.param == "kernel" and native.library() is None:
        pytest.skip("the kernels cannot be built here")
    monkeypatch.setattr(native, "SMALLEST", 0 if request.param == "kernel" else sys.maxsize)


def torchs(x):
    return F.max_pool2d(F.relu(x), 3, stride=2, ceil_mode=True)


def values_and_gradients(pool, x, grad):
    x = x.detach().requires_grad_()
    y = pool(x)
    y.backward(grad)
    return y.detach(), x.grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_values_and_gradients_are_torchs(path, shape, dtype, layout):
    torch.manual_seed(0)
    # Halves, so that windows hold equal values and zeros; some windows have no positive value.
    x = (2 * torch.randn(shape) - 1).round().div(2).to(dtype).contiguous(memory_format=layout)
    # Gradients of very different size: sums in bfloat16 depend on their order.
    grad = (torch.randn_like(torchs(x)) * 10 ** torch.randn_like(torchs(x))).contiguous(memory_format=layout)
    for got, expected in zip(
        values_and_gradients(relu_max_pool, x, grad), values_and_gradients(torchs, x, grad), strict=True
    ):
        assert torch.equal(got, expected)
    with torch.no_grad():
        assert torch.equal(relu_max_pool(x), torchs(x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_the_mean_is_torchs_and_its_gradient_keeps_the_layout(shape, dtype, layout):
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    grad = torch.randn(shape[:2]).to(dtype)
    value, slope = values_and_gradients(mean_over_positions, x, grad)
    expected, expected_slope = values_and_gradients(lambda x: x.mean(dim=(2, 3)), x, grad)
    assert torch.equal(value, expected)
    assert torch.equal(slope, expected_slope)
    assert slope.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_values_that_are_not_finite_come_out_as_such(path, value, dtype):
    x = torch.randn(2, 32, 6, 6).to(dtype).contiguous(memory_format=torch.channels_last)
    x[1, 7, 2, 2] = value
    assert torch.equal(relu_max_pool(x).isnan(), torchs(x).isnan())
    assert torch.equal(relu_max_pool(x).nan_to_num(), torchs(x).nan_to_num())


@needs_compiler
def test_the_kernel_is_what_runs_and_threads_change_nothing(monkeypatch):
    x = torch.randn(4, 64, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert type(relu_max_pool(x).grad_fn).__name__ == "_ReluMaxPoolBackward"
    assert relu_max_pool(x).is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn(4, 64, 8, 8)
    alone = values_and_gradients(relu_max_pool, x, grad)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert all(
        torch.equal(a, b) for a, b in zip(alone, values_and_gradients(relu_max_pool, x, grad), strict=True)
    )


@needs_compiler
def test_it_can_be_differentiated_twice(monkeypatch):
    monkeypatch.setattr(native, "SMALLEST", 0)
    x = torch.randn(1, 32, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    (slope,) = torch.autograd.grad(relu_max_pool(x).pow(2).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    (expected,) = torch.autograd.grad(torchs(x).pow(2).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, expected)
    torch.testing.assert_close(curvature, torch.autograd.grad(expected.sum(), x)[0])
