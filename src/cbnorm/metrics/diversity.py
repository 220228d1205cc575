"""Which classes samples resemble, and how evenly."""

import torch
from torch import Tensor

from cbnorm.metrics.neighbours import check_shapes, squared_distances

_CHUNK = 1024


def nearest_labels(real: Tensor, labels: Tensor, samples: Tensor) -> Tensor:
    """The class of each sample by the 1-nearest-neighbour rule (Cover and Hart, 1967).

    Args:
        real: Features of real images, (N, D).
        labels: Their classes, int64 (N,).
        samples: Features of samples, (M, D).

    Returns:
        The class of the nearest real image, the first of several at one distance, int64 (M,).

    Raises:
        ValueError: Features of other shapes.

    >>> nearest_labels(torch.tensor([[0.0], [9.0]]), torch.tensor([3, 5]), torch.tensor([[8.0], [1.0]]))
    tensor([5, 3])
    """
    check_shapes(real, samples)
    real, samples = real.double(), samples.double()
    nearest = [squared_distances(part, real).argmin(1) for part in samples.split(_CHUNK)]
    return labels[torch.cat(nearest)]


def class_entropy(labels: Tensor, num_classes: int) -> float:
    """Entropy in nats of the distribution of classes: ln C when all are equally frequent, 0 with one alone.

    Args:
        labels: Classes, int64 (N,), N from 1 up.
        num_classes: C.

    >>> round(class_entropy(torch.tensor([0, 1, 1, 0]), 3), 6)
    0.693147
    """
    shares = torch.bincount(labels, minlength=num_classes).double() / max(len(labels), 1)
    return -torch.special.xlogy(shares, shares).sum().item() + 0.0
