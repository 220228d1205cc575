"""Principal components against a decomposition of the centred matrix in float64."""

import pytest
import torch

from cbnorm.mixtures import pca


def make_data(n, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spectrum = 0.97 ** torch.arange(width, dtype=torch.float64) * 10
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    return (torch.randn(n, width, generator=generator, dtype=torch.float64) * spectrum) @ rotation + 50


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("n", "width"), [(400, 30), (3000, 800), (60, 900), (20, 1000), (5, 40)])
def test_equals_the_singular_value_decomposition(n, width, standardise):
    data = make_data(n, width)
    d = min(16, n - 1)
    centred = data - data.mean(0)
    scaled = centred / centred.std(0, correction=0) if standardise else centred
    _, singular, directions = torch.linalg.svd(scaled, full_matrices=False)
    result = pca(data.float(), d, standardise=standardise)
    torch.testing.assert_close(result.variances, singular[:d].square() / n, rtol=1e-4, atol=0)
    cosines = (result.components @ directions[:d].T).abs()
    torch.testing.assert_close(cosines.diagonal(), torch.ones(d, dtype=torch.float64), atol=2e-3, rtol=0)
    assert result.total_variance == pytest.approx((singular.square().sum() / n).item(), rel=1e-4)


@pytest.mark.parametrize("width", [12, 800])
def test_coordinates_are_centred_and_uncorrelated(width):
    data = make_data(900, width).float()
    result = pca(data, 8)
    coordinates = result.transform(data)
    covariance = coordinates.T @ coordinates / len(data)
    torch.testing.assert_close(covariance, result.variances.diag(), rtol=1e-3, atol=1e-3)
    assert coordinates.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(
        result.components @ result.components.T, torch.eye(8, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_constant_features_contribute_nothing():
    data = torch.cat([make_data(200, 10).float(), torch.full((200, 3), 7.0)], dim=1)
    result = pca(data, 5, standardise=True)
    assert result.components[:, 10:].abs().max() < 1e-6
    assert result.total_variance == pytest.approx(10, rel=1e-5)


def test_bytes_give_what_their_float_copy_gives():
    data = torch.randint(0, 256, (500, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(pca(data, 4).components, pca(data.float(), 4).components)


def test_repeats_bit_for_bit():
    data = make_data(500, 800).float()
    first, second = pca(data, 6), pca(data, 6)
    assert torch.equal(first.components, second.components)


@pytest.mark.parametrize("d", [0, 6])
def test_impossible_dimensions_are_refused(d):
    with pytest.raises(ValueError, match="d must lie between 1 and 5"):
        pca(torch.randn(5, 9), d)


def test_infinite_data_are_refused():
    with pytest.raises(ValueError, match="NaN, infinity"):
        pca(torch.tensor([[1.0], [torch.inf]]), 1)
