"""The checks themselves are checked: a planted error in the functional core must be noticed."""

import pytest
import torch
from torch.nn import functional as F

from cbnorm.norms import UCBNorm, mixture, native, ucb

C = 4


def is_batch_norm_with_one_component(draw):
    x = draw(8, C, 5)
    expected = F.batch_norm(x, None, None, training=True)
    return torch.allclose(UCBNorm(C, 1)(x), expected, atol=1e-5)


def is_root_k_times_batch_norm(draw):
    x, layer = draw(8, C, 5), UCBNorm(C, 3)
    with torch.no_grad():
        layer.mean.zero_()
    expected = 3**0.5 * F.batch_norm(x, None, None, training=True)
    return torch.allclose(layer(x), expected, atol=1e-4)


def agrees_with_reference(draw, reference):
    x, layer = draw(6, C, 3, dtype=torch.float64), UCBNorm(C, 3, eval_stats="params", eps=0.1).double().eval()
    log_prior, mean, variance = (tensor.detach().numpy() for tensor in layer.mixture(torch.float64))
    expected = reference.ucb_parameters(x.numpy(), reference.softmax(log_prior), mean, variance, 0.1)
    return abs(layer(x).detach().numpy() - expected).max() < 1e-10


def tempered_agrees_with_reference(draw, reference):
    x, options = draw(6, C, 3, dtype=torch.float64), {"posterior": "joint", "temper": True}
    layer = UCBNorm(C, 3, eval_stats="params", **options).double().eval()
    log_prior, mean, variance = (tensor.detach().numpy() for tensor in layer.mixture(torch.float64))
    prior = reference.softmax(log_prior)
    expected = reference.ucb_parameters(x.numpy(), prior, mean, variance, layer.eps, "tempered")
    return abs(layer(x).detach().numpy() - expected).max() < 1e-10


def tracks_what_algorithm_2_prints(draw):
    """For one component: 0 and 1."""
    layer = UCBNorm(C, 1, update="moving_average_printed", momentum=1.0)
    layer(draw(50, C, 3) + 7)
    zero, one = torch.zeros(1, C), torch.ones(1, C)
    return torch.allclose(layer.running_mean, zero, atol=1e-4) and torch.allclose(
        layer.running_var, one, atol=1e-4
    )


@pytest.fixture
def plain(monkeypatch):
    """The definitions, not the kernels derived from them."""
    monkeypatch.setattr(native, "wanted", lambda *_: False)
    return monkeypatch


def test_the_checks_hold_without_a_mutation(plain, draw, reference):
    assert is_batch_norm_with_one_component(draw)
    assert is_root_k_times_batch_norm(draw)
    assert agrees_with_reference(draw, reference)
    assert tempered_agrees_with_reference(draw, reference)
    assert tracks_what_algorithm_2_prints(draw)


def test_a_posterior_that_is_not_tempered_is_noticed(plain, draw, reference):
    plain.setattr(mixture, "density_share", lambda variance, *, temper: 1.0)
    assert not tempered_agrees_with_reference(draw, reference)
    assert agrees_with_reference(draw, reference)


def test_moments_of_the_data_in_place_of_the_printed_ones_are_noticed(plain, draw):
    plain.setattr(ucb, "normalized_moments", lambda moments, eps: (moments.mean, moments.variance))
    assert not tracks_what_algorithm_2_prints(draw)


def test_moments_over_the_wrong_axis_are_noticed(plain, draw):
    def over_channels(tau, values):
        return (tau * values).mean(dim=2).sum(dim=(0, 2))[:, None].expand(-1, C)

    plain.setattr(mixture, "_weighted_sum", over_channels)
    assert not is_batch_norm_with_one_component(draw)


def test_a_missing_root_of_the_prior_is_noticed(plain, draw, reference):
    original = mixture.mixture_normalize

    def without_prior(x, log_tau, log_prior, *rest):
        return original(x, log_tau, torch.zeros_like(log_prior), *rest)

    plain.setattr(mixture, "mixture_normalize", without_prior)
    assert not is_root_k_times_batch_norm(draw)
    assert not agrees_with_reference(draw, reference)


def test_eps_outside_the_root_is_noticed(plain, draw, reference):
    original = mixture.mixture_normalize

    def moved(x, log_tau, log_prior, mean, variance, eps):
        return original(x, log_tau, log_prior, mean, (variance.sqrt() + eps).square(), 0.0)

    plain.setattr(mixture, "mixture_normalize", moved)
    assert not agrees_with_reference(draw, reference)
