"""How varied samples are: their classes, their spread, and whether they are one image over and over."""

from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.metrics.neighbours import check_shapes, nearest_distances, squared_distances

_CHUNK = 1024
#: Below this share of the variance, or of the distance to the nearest neighbour, of real images, samples have
#: collapsed. Fixed before any generator was trained; real images have 1 and 1.
COLLAPSE = 0.1


class Spread(NamedTuple):
    """How varied samples are, as shares of what as many real images are.

    Attributes:
        variance: Total variance of the features (the trace of their covariance).
        nearest: Median squared distance to the nearest other sample.
    """

    variance: float
    nearest: float

    @property
    def collapsed(self) -> bool:
        """Whether all samples are much alike (variance) or most have a near copy (nearest)."""
        return min(self) < COLLAPSE


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


def spread(real: Tensor, samples: Tensor) -> Spread:
    """Compare how varied two sets of features are; neither labels nor likeness to real images count.

    Args:
        real: Features of real images, (N, D), not all equal.
        samples: Features of as many samples, (N, D).

    Raises:
        ValueError: Features of other shapes, or sets of different sizes, which distances depend on.

    >>> line = torch.arange(4.0)[:, None]
    >>> spread(line, 0.5 * line)
    Spread(variance=0.25, nearest=0.25)
    """
    check_shapes(real, samples)
    if len(real) != len(samples):
        raise ValueError(f"{len(real)} real images can't be compared with {len(samples)} samples")
    (wide, apart), (theirs_wide, theirs_apart) = (
        (values.var(0).sum().item(), nearest_distances(values, 1).median().item())
        for values in (real.double(), samples.double())
    )
    return Spread(theirs_wide / wide, theirs_apart / apart)
