"""The same start, tolerance and data give scikit-learn's fits."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from cbnorm.mixtures import fit_mixture, kmeans, kmeans_plusplus

SKLEARN = {"diagonal": "diag", "spherical": "spherical", "tied": "tied", "full": "full"}


def make_data(n=6000, width=8, groups=4, seed=0):
    """Overlapping correlated groups, float32, far enough from the origin to cost digits."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(groups, (n,), generator=generator)
    means = torch.randn(groups, width, generator=generator) * 2 + 30
    mixing = torch.randn(groups, width, width, generator=generator) / width**0.5
    noise = torch.randn(n, 1, width, generator=generator)
    return means[ids] + (noise @ mixing[ids])[:, 0] + 0.3 * torch.randn(n, width, generator=generator)


def cell_moments(data, centers, covariance):
    """Weights, means and precisions of the cells, computed with NumPy."""
    points, k = data.double().numpy(), len(centers)
    distances = ((points[:, None] - centers.double().numpy()) ** 2).sum(2)
    members = np.eye(k)[distances.argmin(1)]
    counts = members.sum(0)
    means = members.T @ points / counts[:, None]
    centred = [points[members[:, i] == 1] - means[i] for i in range(k)]
    scatters = np.stack([c.T @ c for c in centred])
    full = scatters / counts[:, None, None]
    diagonal = np.stack([np.diag(c) for c in full])
    covariances = {
        "full": full,
        "tied": scatters.sum(0) / len(points),
        "diagonal": diagonal,
        "spherical": diagonal.mean(1),
    }[covariance]
    inverted = np.linalg.inv(covariances) if covariance in {"full", "tied"} else 1 / covariances
    return counts / len(points), means, inverted


@pytest.mark.parametrize("updates", [1, 40])
@pytest.mark.parametrize("covariance", SKLEARN)
def test_mixture_equals_scikit_learn(covariance, updates):
    data = make_data()
    centers = kmeans_plusplus(data, 4, generator=torch.Generator().manual_seed(1))
    weights, means, precisions = cell_moments(data, centers, covariance)
    theirs = GaussianMixture(
        4,
        covariance_type=SKLEARN[covariance],
        tol=1e-6 if updates > 1 else 0.0,
        max_iter=updates,
        reg_covar=0,
        weights_init=weights,
        means_init=means,
        precisions_init=precisions,
    )
    points = data.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = theirs.fit_predict(points)
    ours = fit_mixture(
        data,
        4,
        covariance=covariance,
        init=centers,
        tol=1e-6 if updates > 1 else 0.0,
        max_iter=theirs.n_iter_,
        floor=1e-9,
    )
    assert ours.mean_log_likelihood == pytest.approx(theirs.score(points), rel=1e-6)
    assert (ours.labels.numpy() == labels).mean() >= 0.9999
    np.testing.assert_allclose(ours.means, theirs.means_, atol=2e-3)
    np.testing.assert_allclose(ours.covariances, theirs.covariances_, atol=3e-3)


@pytest.mark.parametrize(("width", "k"), [(2, 3), (8, 4), (200, 5)])
def test_kmeans_equals_scikit_learn(width, k):
    data = make_data(width=width, groups=k)
    centers = kmeans_plusplus(data, k, generator=torch.Generator().manual_seed(1))
    theirs = KMeans(k, init=centers.double().numpy(), n_init=1, tol=1e-4, max_iter=300).fit(
        data.double().numpy()
    )
    ours = kmeans(data, k, init=centers, tol=1e-4)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-6)
    assert (ours.labels.numpy() == theirs.labels_).mean() >= 0.9999
    assert ours.iterations == theirs.n_iter_
    np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, atol=1e-3)


def test_seeding_is_as_good_as_scikit_learn_s():
    """Mean distance to the nearest of 20 seeds over ten draws, against theirs."""
    from sklearn.cluster import kmeans_plusplus as their_seeding

    data = make_data(n=2000, groups=20)
    points = data.double()

    def cost(centers):
        return torch.cdist(points, torch.as_tensor(centers).double()).min(1).values.square().mean()

    ours = [
        cost(kmeans_plusplus(data, 20, generator=torch.Generator().manual_seed(seed))) for seed in range(10)
    ]
    theirs = [cost(their_seeding(points.numpy(), 20, random_state=seed)[0]) for seed in range(10)]
    assert torch.stack(ours).mean() < 1.05 * torch.stack(theirs).mean()
