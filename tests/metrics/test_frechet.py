"""The Fréchet distance against scipy's matrix root, closed forms and identities."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from cbnorm.metrics import Moments, frechet_distance, moments


def features(n, d, seed=0):
    """Correlated features with means of their own."""
    stream = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=stream, dtype=torch.float64) / math.sqrt(d)
    return torch.randn(n, d, generator=stream, dtype=torch.float64) @ mixing + torch.randn(
        d, generator=stream, dtype=torch.float64
    )


def by_scipy(a, b):
    """The formula of Heusel et al. with the root of the product as such."""
    a, b = a.numpy(), b.numpy()
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return apart + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root.real)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 7), (60, 90, 40), (300, 300, 1 + 63)])
def test_it_is_what_scipys_matrix_root_gives(n, m, d):
    a, b = features(n, d), features(m, d, seed=1)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(by_scipy(a, b), rel=1e-9)


def test_with_fewer_images_than_features_it_follows_from_the_features_themselves():
    # tr (A B)^1/2 is the sum of the singular values of X Y^T / sqrt((n - 1)(m - 1)), X and Y centred.
    a, b = features(20, 50), features(30, 50, seed=1)
    x, y = a - a.mean(0), b - b.mean(0)
    overlap = torch.linalg.svdvals(x @ y.T).sum() / math.sqrt(19 * 29)
    spread = x.square().sum() / 19 + y.square().sum() / 29
    wanted = (a.mean(0) - b.mean(0)).square().sum() + spread - 2 * overlap
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(wanted.item(), rel=1e-6)


def test_closed_forms():
    zero, eye = torch.zeros(3).double(), torch.eye(3).double()
    unit = Moments(zero, eye, 9)
    assert frechet_distance(unit, Moments(zero + 2, eye, 9)) == pytest.approx(12)
    assert frechet_distance(unit, Moments(zero, 9 * eye, 9)) == pytest.approx(3 * (1 - 3) ** 2)
    variances = torch.tensor([1.0, 4.0, 0.0]).double()
    assert frechet_distance(unit, Moments(zero, variances.diag(), 9)) == pytest.approx(0 + 1 + 1)


def test_a_set_has_no_distance_from_itself_and_both_directions_are_one():
    a, b = moments(features(50, 9)), moments(features(50, 9, seed=1))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_turning_the_features_changes_nothing_and_scaling_scales_by_the_square():
    a, b = features(80, 6), features(80, 6, seed=1)
    turn = torch.linalg.qr(features(6, 6, seed=2)).Q
    wanted = frechet_distance(moments(a), moments(b))
    assert frechet_distance(moments(a @ turn), moments(b @ turn)) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(moments(3 * a), moments(3 * b)) == pytest.approx(9 * wanted, rel=1e-9)


def test_moments_are_numpys_even_of_half_precision():
    values = features(40, 5).half()
    found = moments(values)
    assert np.allclose(found.mean, values.double().numpy().mean(0), atol=1e-12)
    assert np.allclose(found.covariance, np.cov(values.double().numpy(), rowvar=False), atol=1e-12)
    assert (found.mean.dtype, found.samples) == (torch.float64, 40)


def test_the_distance_of_equal_distributions_falls_with_the_sample_size():
    gaps = [
        frechet_distance(moments(whole[:n]), moments(whole[n:]))
        for n in (25, 100, 400)
        for whole in [torch.randn(2 * n, 16, generator=torch.Generator().manual_seed(n))]
    ]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


@pytest.mark.parametrize("values", [torch.ones(1, 3), torch.ones(4), torch.tensor([[1.0], [math.nan]])])
def test_what_has_no_moments_is_refused(values):
    with pytest.raises(ValueError, match="features must"):
        moments(values)


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="features of 3 and 4 numbers"):
        frechet_distance(moments(torch.rand(5, 3)), moments(torch.rand(5, 4)))
