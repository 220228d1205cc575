"""How well classes part in the features of a network, and features in a plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbnorm.errors import CbnormError

_NEIGHBOURS = 10


def plane(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """t-SNE of features (n, D) into the plane (n, 2), from their principal components, seed 0."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    made = TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(features)
    return np.asarray(made, dtype=np.float64)


def separation(
    features: NDArray[np.float64], labels: NDArray[Any], predicted: NDArray[Any]
) -> Mapping[str, float]:
    """How well classes part in the features (n, D) themselves, not in the plane.

    Returns:
        The mean silhouette by true and by predicted class, in [-1, 1], and the share in per cent of images
        whose class most of their ten nearest others have.

    Raises:
        CbnormError: Features that are no numbers.
    """
    if not np.isfinite(features).all():
        raise CbnormError("what the last layer sees is no number: this network diverged")
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(features).kneighbors(features)[1][:, 1:]
    votes = np.array([np.bincount(labels[row]).argmax() for row in near])
    found = {"neighbours": 100 * float((votes == labels).mean())}
    for name, classes in (("true", labels), ("predicted", predicted)):
        several = 1 < len(np.unique(classes)) < len(classes)
        found[f"silhouette_{name}"] = float(silhouette_score(features, classes)) if several else 0.0
    return found
