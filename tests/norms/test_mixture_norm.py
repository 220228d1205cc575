"""The mixture inside MN: seeded once, warm-started, in constant order, or given."""

import copy

import pytest
import torch

from cbnorm.mixtures import Mixture, log_responsibilities
from cbnorm.norms import MixtureNorm
from cbnorm.norms.mixture import log_posterior

C = 3


def modes(seed, n=600):
    """Three clouds of vectors around -6, 0 and 6, as (n, C)."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(-1, 2, (n, 1), generator=generator)
    return 6.0 * side + torch.randn(n, C, generator=generator)


def order_of(layer):
    return layer.mixture_means[:, 0].argsort().tolist()


def test_the_first_batch_seeds_a_mixture_that_fits():
    layer = MixtureNorm(C, 3, seed=0)
    layer(modes(0))
    centres = layer.mixture_means.mean(1).sort().values
    torch.testing.assert_close(centres, torch.tensor([-6.0, 0.0, 6.0]), rtol=0, atol=0.3)
    torch.testing.assert_close(layer.mixture_variances, torch.ones(3, C), rtol=0.3, atol=0)


def test_components_keep_their_order():
    layer = MixtureNorm(C, 3, seed=0)
    layer(modes(0))
    order = order_of(layer)
    for seed in range(1, 30):
        layer(modes(seed))
        assert order_of(layer) == order
    torch.testing.assert_close(layer.running_mean, layer.mixture_means, rtol=0, atol=0.4)


def test_components_keep_their_order_when_seeded_anew():
    layer = MixtureNorm(C, 3, seed=0, refit_every=2)
    layer(modes(0))
    order = order_of(layer)
    for seed in range(1, 12):
        layer(modes(seed))
        assert order_of(layer) == order


def test_evaluation_before_training_is_possible():
    assert torch.isfinite(MixtureNorm(C, 3).eval()(modes(0))).all()


def test_the_posterior_is_that_of_the_mixtures_package():
    layer = MixtureNorm(C, 3, seed=0)
    x = modes(0)
    layer(x)
    mixture = Mixture(layer.mixture_weights, layer.mixture_means, layer.mixture_variances)
    expected = log_responsibilities(x, mixture)
    got = log_posterior(x[:, :, None], layer._components(torch.float32), joint=True)[:, :, 0, 0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_given_mixture_is_never_refitted(given_mixture):
    weights, means, variances = (tensor[..., :C] if tensor.ndim > 1 else tensor for tensor in given_mixture)
    layer = MixtureNorm(C, 3, mixture=(weights, means, variances))
    for seed in range(3):
        layer(modes(seed))
    assert torch.equal(layer.mixture_means, means)
    assert not torch.equal(layer.running_mean, means)


@pytest.mark.parametrize(
    ("weights", "means", "variances", "message"),
    [
        (torch.ones(2), torch.zeros(3, C), torch.ones(3, C), r"weights must have shape \(3,\)"),
        (torch.ones(3), torch.zeros(3, C), torch.zeros(3, C), "variances must be positive"),
    ],
)
def test_a_wrong_mixture_is_refused(weights, means, variances, message):
    with pytest.raises(ValueError, match=message):
        MixtureNorm(C, 3, mixture=(weights, means, variances))


def test_large_batches_are_fitted_on_evenly_spread_vectors():
    layer = MixtureNorm(C, 2, fit_samples=128)
    x = torch.arange(2 * C * 5000, dtype=torch.float32).reshape(2, C, 5000)
    rows = layer._subsample(x)[:, 0]
    assert len(rows) == 128
    assert len(rows.unique()) == 128
    samples, positions = (rows >= C * 5000).float(), rows % (C * 5000)
    assert samples.mean().item() == pytest.approx(0.5, abs=0.02)
    assert positions.mean().item() == pytest.approx(2500, rel=0.05)
    layer.num_batches_tracked += 1
    assert not torch.equal(rows, layer._subsample(x)[:, 0])


def test_seeding_from_values_that_are_not_finite_is_refused():
    with pytest.raises(ValueError, match="first batch is not finite"):
        MixtureNorm(C, 2)(modes(0) / 0.0)


def test_fewer_vectors_than_components_are_enough():
    assert torch.isfinite(MixtureNorm(C, 5)(modes(0, n=2))).all()


def test_the_seed_decides_and_travels():
    first, second, other = (MixtureNorm(C, 3, seed=seed) for seed in (4, 4, 5))
    resumed = MixtureNorm(C, 3, seed=99)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    x = modes(0)
    for layer in (first, second, other, resumed):
        layer(x)
    assert torch.equal(first.mixture_means, second.mixture_means)
    assert torch.equal(first.mixture_means, resumed.mixture_means)
    assert not torch.equal(first.mixture_means, other.mixture_means)
