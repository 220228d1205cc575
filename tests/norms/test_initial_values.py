"""What layers start from: published numbers depend on it."""

import math

import pytest
import torch
from torch.nn import functional as F

from cbnorm.norms import (
    ClusterBatchNorm,
    ConditionalBatchNorm,
    MixtureNorm,
    ModeNorm,
    SCBNorm,
    SCBNormBase,
    UCBNorm,
)

C, K = 200, 4


def check_uniform(values, bound):
    """Drawn evenly between -bound and bound."""
    assert values.abs().max() <= bound
    assert values.abs().max() > 0.98 * bound
    assert values.mean().abs() < 0.1 * bound
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.06)


def test_scb_starts_near_the_identity():
    mean, deviation = SCBNorm(C, K).clusters(torch.float64)
    assert mean.tolist() == torch.zeros(K, C).tolist()
    torch.testing.assert_close(deviation, torch.ones(K, C, dtype=torch.float64), atol=2e-3, rtol=0)


def test_scb_as_released_starts_from_glorot_s_tables():
    layer = SCBNorm(C, K, convention="released", seed=1)
    for table in (layer.mean, layer.raw_spread):
        check_uniform(table.detach(), math.sqrt(6 / (C + K)))
    assert not torch.equal(layer.mean, layer.raw_spread)


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_scb_base_starts_from_glorot_s_kernels_about_the_same(convention):
    layer = SCBNormBase(C, K, convention=convention, seed=1)
    for kernel in (layer.mean_weight, layer.spread_weight):
        check_uniform(kernel.detach(), math.sqrt(6 / (C + K)))
    assert not torch.equal(layer.mean_weight, layer.spread_weight)
    assert layer.mean_bias.tolist() == [0] * C
    about = F.softplus(layer.spread_bias) if convention == "paper" else layer.spread_bias.exp()
    torch.testing.assert_close(about, torch.ones(C))


@pytest.mark.parametrize("update", ["weight", "moving_average"])
@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_ucb_starts_with_components_apart(update, posterior):
    layer = UCBNorm(C, K, update=update, posterior=posterior, seed=1)
    log_prior, mean, variance = layer.mixture(torch.float64)
    torch.testing.assert_close(log_prior.exp(), torch.full((K,), 1 / K, dtype=torch.float64))
    torch.testing.assert_close(variance, torch.ones(K, C, dtype=torch.float64), atol=2e-3, rtol=0)
    spread = torch.linspace(-1, 1, K, dtype=torch.float64)[:, None].expand(-1, C)
    if posterior == "joint":
        spread = spread / C**0.5
        assert not torch.equal(mean, mean.sort(dim=0).values)
        mean = mean.sort(dim=0).values
    torch.testing.assert_close(mean, spread, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.running_mean.double().sort(dim=0).values, spread, atol=1e-6, rtol=0)
    assert layer.running_var.tolist() == torch.ones(K, C).tolist()


def test_one_component_starts_at_zero():
    assert UCBNorm(C, 1).mixture(torch.float32)[1].tolist() == [[0] * C]


def test_mode_starts_from_small_gates():
    layer = ModeNorm(C, K, seed=1)
    check_uniform(layer.gate_weight.detach(), 1 / math.sqrt(C))
    assert layer.gate_bias.tolist() == [0] * K


@pytest.mark.parametrize(
    "layer",
    [MixtureNorm(C, K), ModeNorm(C, K), ConditionalBatchNorm(C, K), ClusterBatchNorm(C, K, affine=True)],
    ids=lambda layer: type(layer).__name__,
)
def test_the_others_start_as_batch_normalization_does(layer):
    for name, value in (*layer.named_parameters(), *layer.named_buffers()):
        end = name.rpartition("_")[2]
        if end in ("weight", "var", "variances") and not name.startswith("gate"):
            assert bool((value == 1).all()), name
        elif end in ("bias", "mean", "means"):
            assert bool((value == 0).all()), name
        elif end in ("prior", "weights"):
            assert value.tolist() == [1 / K] * K, name


def test_eps_and_momentum_are_torch_s_unless_they_are_given():
    for layer in (UCBNorm(C, K), MixtureNorm(C, K), ModeNorm(C, K), ClusterBatchNorm(C, K)):
        assert (layer.eps, layer.momentum) == (1e-5, 0.1)
    for layer in (SCBNorm(C, K), SCBNormBase(C, K)):
        assert layer.eps == 1e-5
