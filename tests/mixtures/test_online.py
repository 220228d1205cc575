"""Online EM: identities with EM on the sums, and convergence to the source of the batches."""

import pytest
import torch

from cbnorm.mixtures import Mixture, em_step, kmeans_plusplus, mixture_from_centers, online_em_step


def make_source() -> Mixture:
    means = torch.tensor([[-4.0, 0.0], [0.0, 4.0], [4.0, -4.0]])
    return Mixture(torch.tensor([0.2, 0.3, 0.5]), means, torch.tensor([[1.0, 0.5], [0.3, 1.0], [1.0, 2.0]]))


def draw(source: Mixture, n: int, generator: torch.Generator) -> torch.Tensor:
    ids = torch.multinomial(source.weights, n, replacement=True, generator=generator)
    return source.means[ids] + source.variances[ids].sqrt() * torch.randn(n, 2, generator=generator)


def test_rate_one_is_a_plain_step():
    data = draw(make_source(), 300, torch.Generator().manual_seed(0))
    start = mixture_from_centers(data, kmeans_plusplus(data, 3, generator=torch.Generator().manual_seed(0)))
    online, likelihood = online_em_step(data, start, rate=1.0)
    plain, expected = em_step(data, start)
    assert likelihood == expected
    for got, want in zip(online, plain, strict=True):
        torch.testing.assert_close(got, want)


def test_sums_are_averaged():
    generator = torch.Generator().manual_seed(0)
    old = make_source()
    batch = draw(old, 200, generator)
    new, _ = em_step(batch, old)
    online, _ = online_em_step(batch, old, rate=0.3)

    def sums(mixture):
        w = mixture.weights[:, None]
        return mixture.weights, w * mixture.means, w * (mixture.variances + mixture.means.square())

    for got, a, b in zip(sums(online), sums(old), sums(new), strict=True):
        torch.testing.assert_close(got, 0.7 * a + 0.3 * b)


def test_batches_lead_to_their_source():
    generator = torch.Generator().manual_seed(1)
    source = make_source()
    mixture = source._replace(
        weights=torch.ones(3) / 3, means=source.means * 0.5, variances=torch.full((3, 2), 4.0)
    )
    for step in range(300):
        mixture, _ = online_em_step(draw(source, 100, generator), mixture, rate=(step + 2) ** -0.7)
    torch.testing.assert_close(mixture.weights, source.weights, atol=0.03, rtol=0)
    torch.testing.assert_close(mixture.means, source.means, atol=0.15, rtol=0)
    torch.testing.assert_close(mixture.variances, source.variances, atol=0.2, rtol=0.15)


@pytest.mark.parametrize("rate", [0.0, 1.5, float("nan")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        online_em_step(torch.zeros(3, 2), make_source(), rate=rate)
