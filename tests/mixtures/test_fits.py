"""Whole fits: known sources come back, likelihood climbs, symmetries hold, odd data are answered."""

from dataclasses import replace

import pytest
import torch

from cbnorm.mixtures import Mixture, em_step, fit_mixture, kmeans, log_responsibilities, pca
from cbnorm.mixtures.chunks import CHUNK_BYTES, RowStream

COVARIANCES = ("diagonal", "spherical", "tied", "full")


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_groups(n=3000, width=4, distance=8.0, seed=0):
    """Three groups of correlated points and their ids."""
    generator = seeded(seed)
    ids = torch.multinomial(torch.tensor([0.2, 0.3, 0.5]), n, replacement=True, generator=generator)
    means = torch.eye(3, width) * distance
    mixing = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q * torch.linspace(
        0.5, 1.5, width
    )
    return means[ids] + torch.randn(n, width, generator=generator) @ mixing, ids


def matched(labels, ids):
    """Share of points whose label is the most frequent id of its cluster."""
    return sum(int((ids[labels == k]).bincount().max()) for k in labels.unique()) / len(ids)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_known_groups_are_recovered(covariance):
    data, ids = make_groups()
    fit = fit_mixture(data, 3, covariance=covariance, restarts=3, generator=seeded())
    assert matched(fit.labels, ids) > 0.995
    order = fit.weights.argsort()
    torch.testing.assert_close(fit.weights[order].float(), torch.tensor([0.2, 0.3, 0.5]), atol=0.03, rtol=0)
    torch.testing.assert_close(fit.means[order].float(), torch.eye(3, 4) * 8, atol=0.2, rtol=0)
    assert torch.equal(fit.predict(data), fit.labels)
    assert fit.converged
    assert fit.dead == 0


def test_full_covariances_are_recovered():
    data, ids = make_groups(n=20000)
    fit = fit_mixture(data, 3, covariance="full", restarts=2, generator=seeded())
    for k in range(3):
        label = int(fit.labels[ids == k].mode().values)
        torch.testing.assert_close(
            fit.covariances[label].float(), data[ids == k].T.cov(), atol=0.05, rtol=0.05
        )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_likelihood_never_falls(covariance):
    data = make_groups(distance=1.5)[0]
    fit = fit_mixture(
        data.double(), 5, covariance=covariance, tol=0, max_iter=40, floor=0.05, generator=seeded()
    )
    steps = torch.tensor(fit.history).diff()
    assert len(steps) >= 5
    assert steps.min() > -1e-10


def test_likelihood_in_float32_falls_by_rounding_at_most():
    data = make_groups(width=200, distance=1.5)[0]
    fit = fit_mixture(data, 5, tol=0, max_iter=40, generator=seeded())
    assert torch.tensor(fit.history).diff().min() > -1e-6 * abs(fit.mean_log_likelihood)


def test_inertia_never_rises():
    data = make_groups(distance=1.5)[0]
    history = torch.tensor(kmeans(data, 8, tol=0, generator=seeded()).history)
    assert history.diff().max() <= 1e-6 * history[0]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_shift_scale_and_order_change_nothing(covariance):
    data = make_groups(distance=3)[0].double()
    centers = data[:3]
    plain = fit_mixture(data, 3, covariance=covariance, init=centers, floor=1e-9, max_iter=20, tol=0)
    moved = fit_mixture(
        data * 4 + 1000, 3, covariance=covariance, init=centers * 4 + 1000, floor=1e-9, max_iter=20, tol=0
    )
    assert torch.equal(plain.labels, moved.labels)
    torch.testing.assert_close(moved.means, plain.means * 4 + 1000)
    torch.testing.assert_close(moved.covariances, plain.covariances * 16, rtol=1e-6, atol=1e-8)
    order = torch.randperm(len(data), generator=seeded())
    mixed = fit_mixture(data[order], 3, covariance=covariance, init=centers, floor=1e-9, max_iter=20, tol=0)
    assert torch.equal(mixed.labels, plain.labels[order])


def test_full_covariances_are_invariant_under_rotation():
    data = make_groups(distance=3)[0].double()
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=seeded(), dtype=torch.float64)).Q
    fits = [
        fit_mixture(x, 3, covariance="full", init=x[:3], floor=1e-9, max_iter=20, tol=0)
        for x in (data, data @ rotation)
    ]
    assert torch.equal(fits[0].labels, fits[1].labels)
    assert fits[0].mean_log_likelihood == pytest.approx(fits[1].mean_log_likelihood)


def test_warm_start_goes_on_where_the_fit_stopped():
    data = make_groups(distance=3)[0].double()
    for covariance in COVARIANCES:
        options = {"covariance": covariance, "tol": 0.0}
        half = fit_mixture(data, 3, init=data[:3], max_iter=4, **options)
        whole = fit_mixture(data, 3, init=data[:3], max_iter=9, **options)
        resumed = fit_mixture(data, 3, init=half, max_iter=5, **options)
        torch.testing.assert_close(resumed.means, whole.means)
        assert half.history + resumed.history[1:] == pytest.approx(whole.history)


def test_warm_start_from_a_mixture():
    data = make_groups()[0]
    mixture = Mixture(torch.ones(3) / 3, torch.eye(3, 4) * 8, torch.ones(3, 4))
    fit = fit_mixture(data, 3, init=mixture)
    torch.testing.assert_close(fit.means.float(), mixture.means, atol=0.2, rtol=0)
    with pytest.raises(ValueError, match="needs a full one"):
        fit_mixture(data, 3, init=mixture, covariance="full")


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_sum_of_a_warm_start_s_weights_does_not_matter(covariance):
    data = make_groups()[0]
    start = fit_mixture(data, 3, covariance=covariance, init=data[:3], max_iter=2)
    scaled = fit_mixture(data, 3, covariance=covariance, init=replace(start, weights=start.weights * 64))
    plain = fit_mixture(data, 3, covariance=covariance, init=start)
    assert scaled.history == pytest.approx(plain.history)
    assert scaled.history[0] == pytest.approx(start.mean_log_likelihood, rel=1e-6)


@pytest.mark.parametrize("covariance", ["diagonal", "spherical"])
def test_a_far_row_counts_once(covariance):
    data = torch.randn(100, 2, generator=seeded())
    data[0] = torch.tensor([0.0, 3e4])
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    fit = fit_mixture(data, 2, covariance=covariance, init=means, max_iter=1)
    twins = replace(fit, means=means, covariances=torch.ones_like(fit.covariances))
    torch.testing.assert_close(twins.log_responsibilities(data).exp().sum(1), torch.ones(100))
    # Responsibilities that sum to 1 keep the mean of the data.
    updated = fit_mixture(data, 2, covariance=covariance, init=twins, max_iter=1)
    torch.testing.assert_close(updated.weights @ updated.means, data.double().mean(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_devices_are_named_as_torch_names_them(device):
    data = make_groups(n=300)[0]
    for fit in (kmeans, fit_mixture):
        named = fit(data, 3, generator=seeded(), device=device)
        assert torch.equal(named.labels, fit(data, 3, generator=seeded()).labels)
    assert torch.equal(pca(data, 2, device=device).components, pca(data, 2).components)


def test_restarts_keep_the_best():
    data = make_groups(n=500, distance=4, seed=3)[0]
    one = [kmeans(data, 6, generator=seeded(s)).inertia for s in range(4)]
    generator = seeded(0)
    assert kmeans(data, 6, restarts=8, generator=generator).inertia <= one[0]
    single = fit_mixture(data, 6, generator=seeded(0)).mean_log_likelihood
    assert fit_mixture(data, 6, restarts=8, generator=seeded(0)).mean_log_likelihood >= single


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_one_component_has_the_moments_of_the_data(covariance):
    data = make_groups()[0].double()
    fit = fit_mixture(data, 1, covariance=covariance, floor=1e-9)
    scatter = data.T.cov(correction=0)
    expected = {
        "full": scatter[None],
        "tied": scatter,
        "diagonal": scatter.diagonal()[None],
        "spherical": scatter.diagonal().mean()[None],
    }[covariance]
    torch.testing.assert_close(fit.covariances, expected)
    torch.testing.assert_close(fit.means[0], data.mean(0))


def test_chunks_do_not_matter(monkeypatch):
    data = make_groups()[0].double()
    whole = fit_mixture(data, 3, init=data[:3], covariance="full"), kmeans(data, 3, init=data[:3])
    monkeypatch.setattr("cbnorm.mixtures.chunks.CHUNK_BYTES", 999)
    assert RowStream(data).rows_per_chunk == 31
    pieces = fit_mixture(data, 3, init=data[:3], covariance="full"), kmeans(data, 3, init=data[:3])
    torch.testing.assert_close(pieces[0].means, whole[0].means)
    assert torch.equal(pieces[0].labels, whole[0].labels)
    assert torch.equal(pieces[1].labels, whole[1].labels)


def test_bytes_are_clustered_as_their_float_copy():
    pixels = torch.randint(0, 256, (600, 12), generator=seeded(), dtype=torch.uint8)
    for fit in (kmeans, fit_mixture):
        assert torch.equal(
            fit(pixels, 3, generator=seeded()).labels, fit(pixels.float(), 3, generator=seeded()).labels
        )


def test_same_generator_same_fit_bit_for_bit():
    data = make_groups()[0]
    first, second = (fit_mixture(data, 4, restarts=2, generator=seeded(5)) for _ in range(2))
    assert torch.equal(first.means, second.means)
    assert first.history == second.history


def test_chunks_fit_the_cache():
    assert RowStream(torch.zeros(2, 4)).rows_per_chunk == 2
    wide = RowStream(torch.zeros(1, dtype=torch.uint8).expand(10000, 4096))
    assert all(chunk.nbytes <= CHUNK_BYTES for _, chunk in wide)
    assert RowStream(torch.zeros(3, CHUNK_BYTES)).rows_per_chunk == 1


@pytest.mark.parametrize("covariance", ["diagonal", "spherical"])
def test_a_fit_serves_as_a_mixture(covariance):
    data = make_groups()[0].double()
    fit = fit_mixture(data, 3, covariance=covariance, generator=seeded())
    torch.testing.assert_close(log_responsibilities(data, fit.mixture), fit.log_responsibilities(data))
    assert em_step(data, fit.mixture)[1].item() == pytest.approx(fit.mean_log_likelihood)


def test_a_fit_with_matrices_is_no_diagonal_mixture():
    with pytest.raises(ValueError, match="no diagonal form"):
        _ = fit_mixture(make_groups()[0], 3, covariance="full").mixture
