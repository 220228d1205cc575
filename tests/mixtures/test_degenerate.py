"""Degenerate data: an answer that is stated, or one clear line."""

from dataclasses import replace

import pytest
import torch

from cbnorm.mixtures import Mixture, fit_mixture, kmeans

COVARIANCES = ("diagonal", "spherical", "tied", "full")


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_empty_cluster_moves_to_the_farthest_point():
    data = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 1.0), torch.full((1, 2), 9.0)])
    far = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1e4, 1e4]])
    result = kmeans(data, 3, init=far)
    assert result.counts.tolist() == [50, 50, 1]
    assert result.inertia == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_collapsing_components_stop_at_the_floor(covariance):
    data = torch.cat([torch.randn(100, 3, generator=seeded()), torch.full((30, 3), 5.0)])
    fit = fit_mixture(data, 2, covariance=covariance, generator=seeded(), floor=0.01, max_iter=50)
    assert torch.isfinite(fit.covariances).all()
    assert torch.tensor(fit.history).isfinite().all()
    smallest = (
        torch.linalg.eigvalsh(fit.covariances).min()
        if covariance in {"tied", "full"}
        else fit.covariances.min()
    )
    assert smallest >= 0.01 * (1 - 1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_component_without_points_is_reported(covariance):
    data = torch.randn(200, 2, generator=seeded())
    centers = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1e3, 1e3]])
    fit = fit_mixture(data, 3, covariance=covariance, init=centers, max_iter=5)
    assert fit.dead == 1
    assert fit.counts[2] == 0
    assert torch.equal(fit.means[2].float(), centers[2])
    assert torch.tensor(fit.history).isfinite().all()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_constant_features_duplicates_and_one_point_give_finite_fits(covariance):
    constant = torch.cat([torch.randn(200, 4, generator=seeded()), torch.full((200, 1), 7.0)], dim=1)
    for data, k in ((constant, 3), (constant.repeat(3, 1), 3), (torch.tensor([[1.0, 2.0]]), 1)):
        fit = fit_mixture(data, k, covariance=covariance, generator=seeded())
        assert torch.tensor(fit.history).isfinite().all()
        assert fit.weights.sum().item() == pytest.approx(1)
    assert fit.means.flatten().tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("fit", [kmeans, fit_mixture])
@pytest.mark.parametrize(
    ("data", "k", "message"),
    [
        (torch.zeros(5, 2), 2, "fewer than 2 points that can be told apart"),
        (torch.randn(5, 2), 6, "k must be an integer between 1 and the number of points, 5"),
        (torch.randn(5, 2), 0, "k must be"),
        (torch.randn(5, 2), 2.0, "k must be an integer between 1 and the number of points, 5, not 2.0"),
        (torch.empty(0, 2), 1, "non-empty"),
        (torch.randn(5), 1, "non-empty"),
        (torch.tensor([[0.0], [torch.nan]]), 1, "NaN"),
        (torch.tensor([[0.0], [-torch.inf]]), 1, "infinity"),
    ],
)
def test_impossible_data_are_refused(fit, data, k, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit(data, k)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fit", [kmeans, fit_mixture])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(5, 3), "data must have 2 columns, as what was fitted had, not 3"),
        (torch.tensor([[0.0, torch.nan]]), "NaN"),
        (torch.zeros(2), "non-empty"),
    ],
)
def test_what_a_fit_can_t_predict_is_refused(fit, data, message):
    found = fit(torch.randn(9, 2, generator=seeded()), 2)
    with pytest.raises(ValueError, match=message):
        found.predict(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "random"}, "init must be"),
        ({"init": torch.zeros(2, 3)}, "init must have shape"),
        ({"init": torch.full((2, 2), torch.nan)}, "init holds NaN"),
        ({"restarts": 0}, "restarts"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
    ],
)
@pytest.mark.parametrize("fit", [kmeans, fit_mixture])
def test_impossible_options_are_refused(fit, options, message):
    with pytest.raises(ValueError, match=message):
        fit(torch.randn(9, 2, generator=seeded()), 2, **options)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"weights": torch.tensor([1.0, 0.0])}, "proper mixture"),
        ({"weights": torch.tensor([1.0, torch.inf])}, "proper mixture"),
        ({"weights": torch.ones(3) / 3}, r"weights of shape \(3,\).* give a mixture with \(2,\)"),
        ({"means": torch.full((2, 2), torch.nan)}, "proper mixture"),
        ({"means": torch.zeros(2, 3)}, "this fit needs a diagonal one with"),
        ({"variances": torch.zeros(2, 2)}, "proper mixture"),
        ({"variances": -torch.ones(2, 2)}, "proper mixture"),
        ({"variances": torch.tensor([[1.0, 1.0], [1.0, torch.nan]])}, "proper mixture"),
        ({"variances": torch.ones(2, 1)}, r"covariances of shape \(2, 1\); give a mixture with .* \(2, 2\)"),
        ({"variances": torch.ones(2)}, r"covariances of shape \(2,\)"),
    ],
)
def test_an_improper_mixture_is_no_start(part, message):
    proper = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.ones(2, 2))
    with pytest.raises(ValueError, match=message) as caught:
        fit_mixture(torch.randn(9, 2, generator=seeded()), 2, init=proper._replace(**part))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_an_improper_fit_is_no_start(covariance):
    data = torch.randn(50, 2, generator=seeded())
    fit = fit_mixture(data, 2, covariance=covariance, generator=seeded())
    for covariances in (-fit.covariances, 0 * fit.covariances, fit.covariances * torch.nan):
        with pytest.raises(ValueError, match="proper mixture"):
            fit_mixture(data, 2, covariance=covariance, init=replace(fit, covariances=covariances))
    with pytest.raises(ValueError, match="covariances of shape"):
        fit_mixture(data, 2, covariance=covariance, init=replace(fit, covariances=fit.covariances[None]))


def test_close_points_far_from_their_mean_are_told_apart():
    """Their squared distances are rounding noise in float32; only then seeds are drawn in float64."""
    data = torch.tensor([[-1000.0], [-999.0], [999.0], [1000.0]])
    for seed in range(10):
        result = kmeans(data, 4, generator=seeded(seed))
        assert result.inertia == 0
        assert result.counts.tolist() == [1, 1, 1, 1]
        assert torch.tensor(fit_mixture(data, 4, generator=seeded(seed)).history).isfinite().all()


def test_arrays_are_refused_by_type():
    with pytest.raises(TypeError, match="must be a torch tensor, not list"):
        kmeans([[0.0], [1.0]], 1)


def test_impossible_covariances_are_refused():
    with pytest.raises(ValueError, match="covariance must be one of diagonal"):
        fit_mixture(torch.zeros(3, 2), 1, covariance="diag")
    with pytest.raises(ValueError, match="at most 512 dimensions"):
        fit_mixture(torch.zeros(3, 513), 1, covariance="full")
