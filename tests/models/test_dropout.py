"""Dropout by random bits has dropout's law; attention with it is attention."""

import math

import pytest
import torch
from torch.nn import functional as F

from cbnorm.models.dropout import Dropout, attention, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_are_dropped_or_scaled_as_often_as_they_should(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 1_000_003
    y = dropout(torch.ones(n, dtype=dtype), p, training=True)
    values = y.unique().tolist()
    assert values == pytest.approx([0, 1 / (1 - p)], rel=4e-3)
    share = (y == 0).double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n) + 2**-17
    # Neighbours share a word of random bits and must not share their fate.
    both = ((y[:-1] == 0) & (y[1:] == 0)).double().mean().item()
    assert abs(both - p * p) < 5 * math.sqrt(p * p / n)


def test_the_mean_stays() -> None:
    torch.manual_seed(1)
    x = torch.randn(400, 1000).abs()
    assert dropout(x, 0.1, training=True).mean() == pytest.approx(x.mean().item(), rel=2e-3)


def test_the_generator_decides_and_evaluation_changes_nothing() -> None:
    x, layer = torch.randn(5, 7), Dropout(0.5)
    first, second = (layer(x) for _ in range(2) if torch.manual_seed(3))
    assert torch.equal(first, second)
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)


def test_gradients_pass_where_values_did() -> None:
    x = torch.randn(100).requires_grad_()
    y = dropout(x, 0.25, training=True)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach().ne(0) / 0.75)


def test_attention_drops_weights_and_is_torchs_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attention(q, k, v), expected)
    torch.manual_seed(0)
    mean = torch.stack([attention(q, k, v, 0.2) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.06)
    monkeypatch.setattr("cbnorm.models.dropout.dropout", lambda x, _p, training: x)
    torch.testing.assert_close(attention(q, k, v, 0.2), expected)
