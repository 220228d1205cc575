"""What a partition knows about classes, how well its clusters are apart, and how two partitions agree."""

import numpy as np
import torch
from torch import Tensor

from cbnorm.data.splits import Split
from cbnorm.data.streams import generator
from cbnorm.partitions.features import Features, fit_features
from cbnorm.partitions.partition import Partition

#: Images of the sample that a silhouette is computed on: all pairs of them are looked at.
SAMPLE = 2000


def knowledge(ids: Tensor, labels: Tensor) -> dict[str, float]:
    """What ids (N,) tell about labels (N,): both by scikit-learn.

    Returns:
        ``nmi``: mutual information divided by the mean of both entropies, 0 to 1.
        ``bits``: mutual information in bits: what an id tells about the label at best.

    >>> knowledge(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3]))
    {'nmi': 0.66..., 'bits': 1.0}
    """
    from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

    truth, found = labels.numpy(), ids.numpy()
    return {
        "nmi": round(float(normalized_mutual_info_score(truth, found)), 12),
        "bits": round(float(mutual_info_score(truth, found)) / float(np.log(2)), 12),
    }


def silhouette(points: Tensor, ids: Tensor, *, seed: int = 0) -> float | None:
    """Mean silhouette of a seeded sample of at most 2,000 points.

    Args:
        points: (N, d), what was clustered.
        ids: Their clusters, (N,).
        seed: Decides the sample.

    Returns:
        -1 to 1, or None when the sample lies in one cluster, or has one for each point.
    """
    from sklearn.metrics import silhouette_score

    chosen = sample(len(points), SAMPLE, seed)
    found = ids[chosen].numpy()
    if not 1 < len(np.unique(found)) < len(found):
        return None
    return float(silhouette_score(points[chosen].double().numpy(), found))


def sample(count: int, size: int, seed: int) -> Tensor:
    """Positions of a seeded sample, in increasing order: int64 (min(size, count),)."""
    return torch.randperm(count, generator=generator(seed, "sample of images"))[:size].sort().values


def clustered_points(fit: Partition | None, train: Split, positions: Tensor) -> Tensor:
    """Vectors of some training images that their clusters were fitted to, (n, d).

    Given ids have none: the 64 principal components of the standardised pixels stand in.
    """
    features = fit.features if fit is not None else fit_features("pca64", train.images)
    images = train.images[positions]
    return torch.cat([features(chunk) for chunk in images.split(512)])


def features_name(fit: Partition | None) -> str:
    """Name of the features that :func:`clustered_points` gives."""
    if fit is None:
        return "pca64"
    return fit.features.name if isinstance(fit.features, Features) else "activations"


def adjusted_rand(a: Tensor, b: Tensor) -> float:
    """Adjusted Rand index of two partitions of the same images: 1 if equal, about 0 by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(a.numpy(), b.numpy()))


def contingency(a: Tensor, b: Tensor) -> Tensor:
    """How many images have each pair of clusters, int64 (K of a, K of b).

    >>> contingency(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]))
    tensor([[0, 2],
            [1, 0]])
    """
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    return torch.bincount(a * columns + b, minlength=rows * columns).view(rows, columns)
