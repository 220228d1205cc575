"""What the layers must equal: batch normalization, an affine map, each other."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cbnorm.norms import (
    ClusterBatchNorm,
    ConditionalBatchNorm,
    MixtureNorm,
    ModeNorm,
    SCBNorm,
    SCBNormBase,
    UCBNorm,
    apply_norm,
)
from cbnorm.norms.mixture import Components, log_posterior

C = 4


def batch_norm(x, eps=1e-5):
    return F.batch_norm(x, None, None, training=True, eps=eps)


def identical_components(layer):
    with torch.no_grad():
        layer.mean.copy_(layer.mean[:1].expand_as(layer.mean))
    return layer


@pytest.mark.parametrize("shape", [(32, C), (8, C, 5), (8, C, 3, 3)], ids=str)
@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_one_component_is_batch_normalization(draw, shape, posterior):
    x = draw(*shape)
    expected = batch_norm(x)
    torch.testing.assert_close(UCBNorm(C, 1, posterior=posterior)(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(MixtureNorm(C, 1)(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ModeNorm(C, 1)(x), expected, rtol=1e-5, atol=1e-5)
    ids = torch.zeros(len(x), dtype=torch.long)
    torch.testing.assert_close(ConditionalBatchNorm(C, 1)(x, ids), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ClusterBatchNorm(C, 1)(x, ids), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
@pytest.mark.parametrize("components", [2, 3, 5])
def test_identical_components_are_root_k_times_batch_normalization(draw, posterior, components):
    x = draw(8, C, 3, 3)
    layer = identical_components(UCBNorm(C, components, posterior=posterior))
    torch.testing.assert_close(layer(x), components**0.5 * batch_norm(x), rtol=1e-4, atol=1e-5)


def test_one_cluster_of_scb_is_a_learned_affine_map(draw):
    x, layer = draw(8, C, 3, 3), SCBNorm(C, 1)
    with torch.no_grad():
        layer.mean.normal_(generator=torch.Generator().manual_seed(0))
        layer.raw_spread.normal_(generator=torch.Generator().manual_seed(1))
    slope = (F.softplus(layer.raw_spread) + 1e-4 + layer.eps).rsqrt()
    expected = x * slope[:, :, None, None] - (layer.mean * slope)[:, :, None, None]
    for ids in (torch.zeros(8, dtype=torch.long), torch.full((8,), -1), None):
        torch.testing.assert_close(layer(x, ids), expected, rtol=1e-5, atol=1e-5)


def test_scb_is_gather_then_affine(cases, draw, ids):
    x, layer = draw(6, C, 3, 3), cases["scb"].make()
    mean, deviation = layer.clusters(torch.float32)
    for n, k in enumerate(ids.tolist()):
        expected = (x[n] - mean[k][:, None, None]) / deviation[k][:, None, None]
        torch.testing.assert_close(layer(x, ids)[n], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_scb_base_is_scb_with_summed_parameters(draw, mixed_ids, convention):
    base = SCBNormBase(C, 3, convention=convention, seed=1)
    plain = SCBNorm(C, 3, convention=convention)
    with torch.no_grad():
        base.mean_bias.normal_(generator=torch.Generator().manual_seed(0))
        plain.mean.copy_(base.mean_weight + base.mean_bias)
        plain.raw_spread.copy_(base.spread_weight + base.spread_bias)
    x = draw(6, C, 3, 3)
    torch.testing.assert_close(base(x, mixed_ids), plain(x, mixed_ids), rtol=1e-6, atol=1e-6)


def test_scb_base_with_certain_weights_is_scb_base_with_ids(cases, draw, ids):
    x, layer = draw(6, C, 3, 3), cases["scb_base"].make()
    torch.testing.assert_close(layer(x, torch.eye(3)[ids]), layer(x, ids), rtol=1e-5, atol=1e-6)
    for weights, word in ((torch.ones(6, 2), r"shape \(6, 3\)"), (torch.ones(6, 3, device="meta"), "meta")):
        with pytest.raises(ValueError, match=word):
            layer(x, weights)
    with pytest.raises(TypeError, match="integer"):
        cases["scb"].make()(x, torch.eye(3)[ids])


@pytest.mark.parametrize("unknown", ["sample", "position"])
def test_a_certain_posterior_gives_eq_10_times_the_scale(draw, ids, unknown):
    """Eq. 12 as printed is sqrt(K) eq. 10; the consistent scale is eq. 10."""
    for scale, factor in (("paper", 3**0.5), ("consistent", 1.0)):
        layer = SCBNorm(C, 3, scale=scale, unknown=unknown)
        with torch.no_grad():
            layer.mean.copy_(torch.tensor([-40.0, 0.0, 40.0])[:, None])
        x = draw(6, C, 5) + layer.mean.detach()[ids][:, :, None]
        torch.testing.assert_close(layer(x), factor * layer(x, ids), rtol=1e-4, atol=1e-4)


def test_cluster_statistics_give_every_cluster_zero_mean_and_unit_variance(draw, ids):
    x = draw(6, C, 50) + 3.0 * ids[:, None, None]
    y = ClusterBatchNorm(C, 3)(x, ids)
    for k in range(3):
        part = y[ids == k].transpose(0, 1).flatten(1)
        torch.testing.assert_close(part.mean(1), torch.zeros(C), rtol=0, atol=1e-5)
        torch.testing.assert_close(part.var(1, correction=0), torch.ones(C), rtol=1e-3, atol=0)


def test_permuting_clusters_with_their_parameters_changes_nothing(own, draw, mixed_ids):
    order = torch.tensor([2, 0, 1])
    layer, permuted = own.make().eval(), own.make().eval()
    with torch.no_grad():
        for tensors, twins in (
            (layer.named_parameters(), permuted.get_parameter),
            (layer.named_buffers(), permuted.get_buffer),
        ):
            for name, tensor in tensors:
                if tensor.ndim and tensor.shape[0] == 3:
                    twins(name).copy_(tensor[order])
    renamed = torch.where(mixed_ids < 0, mixed_ids, order.argsort()[mixed_ids.clamp_min(0)])
    x = draw(6, C, 5)
    clusters = (mixed_ids, renamed) if "num_clusters" in own.options else ()
    expected, got = layer(x, *clusters[:1]), permuted(x, *clusters[1:])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_responsibilities_sum_to_one_everywhere(draw, joint, scale):
    components = Components(torch.randn(5).log_softmax(0), torch.randn(5, C), torch.rand(5, C) + 1e-3)
    tau = log_posterior(draw(6, C, 7, scale=scale), components, joint=joint).exp()
    torch.testing.assert_close(tau.sum(1), torch.ones_like(tau[:, 0]), rtol=1e-5, atol=0)


def test_tempering_keeps_joint_responsibilities_soft_in_many_channels():
    """Log densities of 128 channels are sums of 128 terms: the largest takes all unless they are averaged."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 128, 1, generator=generator)
    components = Components(
        torch.zeros(3).log_softmax(0), torch.randn(3, 128, generator=generator), torch.ones(3, 128)
    )
    plain, tempered = (log_posterior(x, components, joint=True, temper=t).exp() for t in (False, True))
    assert plain.amax(1).median() > 0.999
    assert tempered.amax(1).median() < 0.6


def test_tempering_one_channel_changes_nothing(draw):
    x, layers = draw(6, 1, 5), [UCBNorm(1, 3, posterior="joint", temper=temper) for temper in (False, True)]
    assert torch.equal(layers[0](x), layers[1](x))


def test_tempering_leaves_priors_alone():
    """Equal components: the responsibilities are the priors, in however many channels."""
    prior = torch.tensor([0.7, 0.2, 0.1])
    components = Components(prior.log(), torch.zeros(3, 50), torch.ones(3, 50))
    tau = log_posterior(torch.randn(4, 50, 2), components, joint=True, temper=True).exp()
    torch.testing.assert_close(tau[:, :, 0], prior[None, :, None].expand(4, 3, 2))


@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_separated_components_have_variance_k(posterior):
    """1/sqrt(lambda) makes the mean square of the output K, not 1."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(0, 3, (4000, 1), generator=generator)
    x = 20.0 * (side - 1) + torch.randn(4000, C, generator=generator)
    layer = UCBNorm(C, 3, posterior=posterior)
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([-20.0, 0.0, 20.0])[:, None])
    assert layer(x).square().mean().item() == pytest.approx(3, rel=0.05)


def test_a_dead_component_keeps_its_statistics_and_harms_nobody(draw, run):
    for posterior in ("per_channel", "joint"):
        layer = UCBNorm(C, 3, posterior=posterior)
        with torch.no_grad():
            layer.mean[2] = 1e4
            layer.running_mean[2] = 7.0
        result = run(layer, draw(8, C, 5))
        assert all(torch.isfinite(tensor).all() for tensor in result.values())
        assert torch.equal(layer.running_mean[2], torch.full((C,), 7.0))
        alive = UCBNorm(C, 2, posterior=posterior)
        with torch.no_grad():
            alive.mean.copy_(layer.mean[:2])
        torch.testing.assert_close(
            result["y"] / 3**0.5, alive(draw(8, C, 5)).detach() / 2**0.5, rtol=1e-4, atol=1e-4
        )


def test_everything_in_one_component_is_batch_normalization(draw):
    """The prior still divides: the output is batch normalization over sqrt(lambda)."""
    x, layer = draw(8, C, 5), UCBNorm(C, 3)
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([0.0, 1e3, -1e3])[:, None])
    torch.testing.assert_close(layer(x), 3**0.5 * batch_norm(x), rtol=1e-4, atol=1e-4)


def test_the_moving_average_finds_a_known_mixture():
    generator = torch.Generator().manual_seed(0)
    weights, means, deviations = torch.tensor([0.3, 0.7]), torch.tensor([-2.0, 1.0]), torch.tensor([0.5, 0.8])
    layer = UCBNorm(1, 2, update="moving_average", momentum=0.05)
    for _ in range(400):
        part = torch.multinomial(weights, 512, replacement=True, generator=generator)
        layer((means[part] + deviations[part] * torch.randn(512, generator=generator))[:, None])
    assert torch.allclose(layer.running_prior, weights, atol=0.03)
    assert torch.allclose(layer.running_mean[:, 0], means, atol=0.1)
    assert torch.allclose(layer.running_var[:, 0].sqrt(), deviations, atol=0.1)


@pytest.mark.parametrize(
    "name",
    ["ucb", "ucb-joint", "ucb-joint-True", "mode", "conditional_bn", "cluster_bn", "cluster_bn-True-True"],
)
def test_averages_that_are_the_last_batch_s_make_evaluation_training(cases, draw, ids, name):
    """With momentum 1 both are the same function, where nothing but moments is averaged."""
    x, case = draw(6, C, 5, 5, dtype=torch.float64), cases[name]
    layer = case.make(momentum=1.0).double()
    ids = ids if case.count == "num_clusters" else None
    first = apply_norm(layer, draw(6, C, 5, 5, dtype=torch.float64, seed=1), ids)
    expected = apply_norm(layer, x, ids)
    torch.testing.assert_close(apply_norm(layer.eval(), x, ids), expected)
    assert not torch.allclose(apply_norm(layer, x, ids), first)


def test_averages_go_the_momentum_s_part_of_the_way(averaging, draw, ids):
    found = []
    for momentum in (0.25, 0.5, 1.0):
        layer = averaging.make(momentum=momentum).double()
        known = ids if averaging.count == "num_clusters" else None
        apply_norm(layer, draw(6, C, 5, 5, dtype=torch.float64), known)
        found.append({k: v for k, v in layer.named_buffers() if k.startswith("running_")})
    quarter, half, whole = found
    assert quarter
    for name, value in whole.items():
        torch.testing.assert_close(half[name] - quarter[name], (value - half[name]) / 2, msg=name)
    # Moments that are never read are not averaged.
    unread = averaging.options.get("eval_stats") == "params"
    assert torch.equal(whole["running_mean"], half["running_mean"]) == unread


def test_a_cluster_of_two_values_has_a_variance_to_learn_from_and_one_of_one_has_not():
    layer = ClusterBatchNorm(1, 3, momentum=1.0)
    layer(torch.tensor([[1.0], [5.0], [7.0]]), torch.tensor([0, 0, 1]))
    assert layer.running_mean.flatten().tolist() == [3, 7, 0]
    assert layer.running_var.flatten().tolist() == [4, 1, 1]


def test_separate_gamma_and_beta_are_one_batch_normalization_per_cluster():
    """Domain-specific batch normalization, in training and in evaluation."""
    torch.manual_seed(0)
    layer = ClusterBatchNorm(C, 2, affine=True, separate=True)
    single = [nn.BatchNorm2d(C) for _ in range(2)]
    with torch.no_grad():
        for table in (layer.weight, layer.bias):
            table.normal_()
        for k, norm in enumerate(single):
            norm.weight.copy_(layer.weight[k])
            norm.bias.copy_(layer.bias[k])
    ids = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    for training in (True, False):
        x = torch.randn(7, C, 4, 4) + 3 * ids[:, None, None, None]
        y = layer.train(training)(x, ids)
        for k, norm in enumerate(single):
            # torch's running variance is the unbiased one: a thousandth more after one batch.
            close = 1e-4 if training else 6e-3
            torch.testing.assert_close(y[ids == k], norm.train(training)(x[ids == k]), rtol=close, atol=close)
    assert layer.weight.shape == (2, C)
    unknown = layer(x, None)
    middle = ClusterBatchNorm(C, 2, affine=True)
    state = layer.state_dict()
    state |= {key: state[key].mean(0) for key in ("weight", "bias")}
    middle.load_state_dict(state)
    torch.testing.assert_close(unknown, middle.eval()(x, None))
