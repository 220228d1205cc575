"""One EM step and the posterior against float64 references written with torch.distributions."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from cbnorm.mixtures import Mixture, em_step, kmeans_plusplus, log_responsibilities, mixture_from_centers


def make_mixture(k=3, d=5, seed=0, dtype=torch.float32, spread=3.0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(k, generator=generator, dtype=torch.float64) + 0.2
    means = torch.randn(k, d, generator=generator, dtype=torch.float64) * spread
    variances = torch.rand(k, d, generator=generator, dtype=torch.float64) + 0.3
    return Mixture(*(t.to(dtype) for t in (weights / weights.sum(), means, variances)))


def sample(mixture: Mixture, n: int, seed=1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.multinomial(mixture.weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, mixture.means.shape[1], generator=generator, dtype=mixture.means.dtype)
    return mixture.means[ids] + noise * mixture.variances[ids].sqrt()


def reference_log_joint(data: Tensor, mixture: Mixture) -> Tensor:
    components = Independent(Normal(mixture.means.double(), mixture.variances.double().sqrt()), 1)
    return components.log_prob(data.double()[:, None]) + mixture.weights.double().log()


def reference_step(data: Tensor, mixture: Mixture, floor: float) -> Mixture:
    tau = reference_log_joint(data, mixture).softmax(1)
    counts = tau.sum(0)
    means = torch.einsum("nk,nd->kd", tau, data.double()) / counts[:, None]
    centred = data.double()[:, None] - means
    variances = torch.einsum("nk,nkd->kd", tau, centred.square()) / counts[:, None]
    return Mixture(counts / len(data), means, variances.clamp_min(floor))


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_step_equals_the_float64_reference(k, offset):
    mixture = make_mixture(k=k)
    mixture = mixture._replace(means=mixture.means + offset)
    data = sample(mixture, 2000)
    start = mixture_from_centers(data, kmeans_plusplus(data, k, generator=torch.Generator().manual_seed(0)))
    updated, likelihood = em_step(data, start)
    expected = reference_step(data, start, 1e-3)
    for got, want in zip(updated, expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=2e-4, atol=2e-5)
    mean = MixtureSameFamily(
        Categorical(start.weights.double()),
        Independent(Normal(start.means.double(), start.variances.double().sqrt()), 1),
    ).log_prob(data.double())
    torch.testing.assert_close(likelihood, mean.mean(), rtol=1e-5, atol=1e-5)


def test_step_in_double_is_exact_to_rounding():
    mixture = make_mixture(dtype=torch.float64)
    data = sample(mixture, 500)
    for got, want in zip(em_step(data, mixture)[0], reference_step(data, mixture, 1e-3), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_responsibilities_equal_the_reference_and_sum_to_one():
    mixture = make_mixture()
    data = sample(mixture, 300)
    got = log_responsibilities(data, mixture)
    torch.testing.assert_close(
        got.double(), reference_log_joint(data, mixture).log_softmax(1), rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close(got.exp().sum(1), torch.ones(300))


def test_responsibilities_are_finite_far_from_every_component():
    far = log_responsibilities(torch.full((1, 5), 1e4), make_mixture())
    assert far.isfinite().all()
    assert far.exp().sum().item() == pytest.approx(1)


TWINS = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.ones(2, 2))


@pytest.mark.parametrize("x", [0.0, 0.3, -2.0])
def test_far_points_are_shared_as_near_ones(x):
    """Their log densities are so large in float32 that the digits that tell components apart are lost."""
    far = torch.tensor([[x, 1e4]])
    got = log_responsibilities(far, TWINS).exp()
    torch.testing.assert_close(got.double(), reference_log_joint(far, TWINS).softmax(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dtype", "deviations"), [(torch.float32, 1e18), (torch.float64, 1e150)])
@pytest.mark.parametrize("variance", [1e-3, 1.0])
def test_responsibilities_hold_up_to_the_distance_that_is_promised(dtype, deviations, variance):
    mixture = make_mixture(d=64, dtype=dtype)
    mixture = mixture._replace(variances=mixture.variances * variance)
    far = torch.randn(20, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)
    far *= 0.99 * deviations * mixture.variances.min().sqrt() / far.norm(dim=1, keepdim=True)
    got = log_responsibilities(far, mixture)
    assert got.isfinite().all()
    torch.testing.assert_close(got.exp().sum(1), torch.ones(20, dtype=dtype))


def test_a_component_that_left_does_not_blur_the_others():
    mixture = Mixture(
        torch.ones(3) / 3, torch.tensor([[-2000.0], [1000.0], [1000.5]]), torch.full((3, 1), 0.01)
    )
    got = log_responsibilities(torch.tensor([[1000.25], [1000.2]]), mixture).exp()
    expected = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.924142, 0.075858]])
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("distance", [10.0, 300.0, 3000.0])
def test_responsibilities_are_as_exact_as_stated(distance):
    """Three components lie in one place, two that compete for the points in another."""
    means = torch.tensor([[0.0], [0.0], [0.0], [distance], [distance + 0.5]])
    mixture = Mixture(torch.ones(5) / 5, means, torch.tensor([[1.0], [1.0], [1.0], [1.0], [1.3]]))
    data = distance + torch.linspace(-1, 2, 301)[:, None]
    error = log_responsibilities(data, mixture).double() - reference_log_joint(data, mixture).log_softmax(1)
    assert error[:, 3:].abs().max() < 2e-7 * distance**2


def test_a_far_point_counts_once_in_a_step():
    data = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    data[0] = torch.tensor([0.0, 3e4])
    updated, likelihood = em_step(data, TWINS)
    expected, wanted = em_step(data.double(), TWINS)
    assert updated.weights.sum().item() == pytest.approx(1)
    for got, want in zip(updated, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(likelihood, wanted, rtol=1e-6, atol=0)


def test_gradients_of_responsibilities():
    mixture = make_mixture(dtype=torch.float64, spread=0.5)
    data = sample(mixture, 6).requires_grad_()
    inputs = (data, *(t.clone().requires_grad_() for t in mixture))
    assert torch.autograd.gradcheck(lambda x, w, m, v: log_responsibilities(x, Mixture(w, m, v)), inputs)


def test_one_component_has_the_moments_of_the_data():
    data = torch.randn(400, 7, generator=torch.Generator().manual_seed(3)) * 5 + 2
    start = Mixture(torch.ones(1), torch.zeros(1, 7), torch.ones(1, 7))
    updated, _ = em_step(data, start)
    torch.testing.assert_close(updated.means[0], data.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(updated.variances[0], data.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_dead_component_keeps_its_moments_and_comes_back():
    mixture = make_mixture(k=2, d=4)
    mixture = mixture._replace(means=torch.stack([torch.zeros(4), torch.full((4,), 1e3)]))
    near = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    dead, _ = em_step(near, mixture)
    assert torch.equal(dead.means[1], mixture.means[1])
    assert torch.equal(dead.variances[1], mixture.variances[1])
    assert 0 < dead.weights[1] < 1e-5
    assert log_responsibilities(near, dead).isfinite().all()
    revived, _ = em_step(torch.cat([near, near + 1e3]), dead)
    assert revived.weights[1].item() == pytest.approx(0.5, abs=1e-3)


def test_variances_respect_the_floor():
    data = torch.ones(10, 3)
    updated, _ = em_step(data, make_mixture(k=2, d=3), floor=0.25)
    assert (updated.variances >= 0.25).all()


def test_step_takes_half_precision_under_autocast():
    mixture = make_mixture()
    data = sample(mixture, 256).bfloat16()
    plain = em_step(data.float(), mixture)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = em_step(data, mixture)[0]
    for got, want in zip(lowered, plain, strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, want)


def test_step_keeps_the_mixture_s_type_and_computes_in_the_data_s():
    mixture = make_mixture(dtype=torch.float64)
    data = sample(mixture, 256)
    updated, _ = em_step(data.float(), mixture)
    assert {tensor.dtype for tensor in updated} == {torch.float64}
    assert log_responsibilities(data.float(), mixture).dtype == torch.float32


def test_posterior_does_not_depend_on_the_batch():
    mixture = make_mixture(dtype=torch.float64)
    data = sample(mixture, 50)
    alone = torch.cat([log_responsibilities(row[None], mixture) for row in data])
    torch.testing.assert_close(log_responsibilities(data, mixture), alone, rtol=1e-12, atol=1e-12)


def test_step_is_one_graph():
    torch.compiler.reset()
    mixture = make_mixture()
    data = sample(mixture, 64)
    compiled = torch.compile(em_step, fullgraph=True, backend="eager")
    for got, want in zip(compiled(data, mixture)[0], em_step(data, mixture)[0], strict=True):
        assert torch.equal(got, want)


def test_centers_become_the_moments_of_their_cells():
    data = torch.tensor([[0.0], [2.0], [10.0], [14.0]])
    mixture = mixture_from_centers(data, torch.tensor([[1.0], [12.0], [500.0]]))
    torch.testing.assert_close(mixture.weights[:2], torch.tensor([0.5, 0.5]), atol=1e-5, rtol=0)
    torch.testing.assert_close(mixture.means, torch.tensor([[1.0], [12.0], [500.0]]))
    torch.testing.assert_close(mixture.variances[:2], torch.tensor([[1.0], [4.0]]))
