"""Properties of inputs nobody thought of (hypothesis)."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cbnorm.norms import ClusterBatchNorm, MixtureNorm, ModeNorm, SCBNorm, UCBNorm
from cbnorm.norms.mixture import Components, log_posterior
from cbnorm.norms.standardize import pooled_moments, sample_moments

sizes = st.integers(1, 5)
scales = st.sampled_from([1e-3, 1.0, 30.0, 1e4])
quick = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def inputs(draw):
    n, c, length, k = draw(sizes), draw(sizes), draw(st.integers(1, 6)), draw(sizes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    x = draw(scales) * torch.randn(n, c, length, generator=generator, dtype=torch.float64)
    x = x + draw(st.sampled_from([0.0, -5.0, 1e4]))
    ids = torch.randint(-1, k, (n,), generator=generator)
    return x, ids, k, generator


@quick
@given(inputs())
def test_every_layer_gives_finite_values_and_gradients(problem):
    x, ids, k, _ = problem
    c = x.shape[1]
    for layer, arguments in (
        (SCBNorm(c, k, unknown="position"), (ids,)),
        (SCBNorm(c, k), (ids,)),
        (ClusterBatchNorm(c, k), (ids,)),
        (UCBNorm(c, k), ()),
        (UCBNorm(c, k, posterior="joint"), ()),
        (MixtureNorm(c, k), ()),
        (ModeNorm(c, k), ()),
    ):
        leaf = x.float().requires_grad_()
        y = layer(leaf, *arguments)
        y.sum().backward()
        assert torch.isfinite(y).all(), layer
        assert torch.isfinite(leaf.grad).all(), layer


@quick
@given(inputs())
def test_responsibilities_are_a_distribution(problem):
    x, _, k, generator = problem
    mean = torch.randn(k, x.shape[1], generator=generator, dtype=torch.float64)
    variance = torch.rand(k, x.shape[1], generator=generator, dtype=torch.float64) + 1e-3
    prior = torch.randn(k, generator=generator, dtype=torch.float64).log_softmax(0)
    for joint in (True, False):
        tau = log_posterior(x, Components(prior, mean, variance), joint=joint).exp()
        assert (tau >= 0).all()
        torch.testing.assert_close(tau.sum(1), torch.ones_like(tau[:, 0]), rtol=1e-9, atol=0)


@quick
@given(inputs())
def test_moments_of_groups_are_weighted_moments_of_values(problem):
    x, _, k, generator = problem
    weights = torch.rand(len(x), k, generator=generator, dtype=torch.float64)
    mass, mean, variance = pooled_moments(sample_moments(x), weights)
    tau = weights[:, :, None, None].expand(-1, -1, x.shape[1], x.shape[2])
    total = tau.sum(dim=(0, 3))
    expected = (tau * x[:, None]).sum(dim=(0, 3)) / total
    spread = (tau * (x[:, None] - expected[None, :, :, None]).square()).sum(dim=(0, 3)) / total
    torch.testing.assert_close(mass.expand_as(total), total)
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance, spread, rtol=1e-6, atol=1e-9)


@quick
@given(inputs(), st.floats(0.5, 3.0), st.floats(-3.0, 3.0))
def test_batch_statistics_do_not_see_units(problem, scale, shift):
    """Layers that centre and scale by the batch give the same for a·x + b, a > 0, up to eps."""
    x, ids, k, _ = problem
    known = ids.clamp_min(0)
    deviation = x.std(correction=0).clamp_min(1e-2)
    x = (x - x.mean()) / deviation
    layer = ClusterBatchNorm(x.shape[1], k, eps=1e-12).double()
    other = ClusterBatchNorm(x.shape[1], k, eps=1e-12).double()
    moved = x * scale + shift
    flat = x.new_ones(len(x), dtype=torch.bool)
    for cluster in known.unique():
        spread = x[known == cluster].transpose(0, 1).flatten(1).std(dim=1, correction=0)
        flat &= (known != cluster) | bool((spread > 1e-3).all())
    got, expected = other(moved, known), layer(x, known)
    torch.testing.assert_close(got[flat], expected[flat], rtol=1e-4, atol=1e-4)
