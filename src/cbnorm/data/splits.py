"""Stratified, seeded and nested choices of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from cbnorm.data.streams import generator


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        indices: int64 (N,): the place of each image in the official split it comes from.
        attributes: Further ids of each image by name, int64 (N,): CIFAR-100's ``superclass``,
            ``species`` of pets.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    attributes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.indices.numel() == 0:
            object.__setattr__(self, "indices", torch.arange(len(self.labels)))
        parts = (self.images, self.labels, self.indices, *self.attributes.values())
        lengths = {len(part) for part in parts}
        if len(lengths) != 1:
            raise ValueError(f"images, labels, indices and attributes differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: torch.Tensor) -> "Split":
        """Return the images at ``positions`` (int64), in that order."""
        return Split(
            self.images[positions],
            self.labels[positions],
            self.indices[positions],
            {name: ids[positions] for name, ids in self.attributes.items()},
        )


def stratified_order(labels: torch.Tensor, seed: int, name: str) -> torch.Tensor:
    """Order images so that every beginning of the order is a stratified random sample.

    Each class is shuffled and spread evenly over the order (the r-th of its n images lies at
    (r + 1/2) / n of it), which is Sainte-Laguë's apportionment. Samples of different sizes
    taken from the beginning are therefore nested, and with classes of equal size their counts
    differ by one at most.

    Args:
        labels: int64 (N,), not negative.
        seed: The split's seed.
        name: The random stream's name.

    Returns:
        A permutation of 0..N-1, int64 (N,).

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[stratified_order(labels, 0, "split")[:3]].sort().values.tolist()
    [0, 0, 1]
    """
    stream = generator(seed, name)
    shuffled = torch.randperm(len(labels), generator=stream)
    classes = torch.randperm(int(labels.max()) + 1 if len(labels) else 0, generator=stream)
    # Classes of equal size tie at every rank: a shuffled order of classes keeps that fair.
    ties = torch.empty_like(classes).scatter_(0, classes, torch.arange(len(classes)))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in range(len(classes)):
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / max(len(members), 1)
    by_class = torch.argsort(ties[labels], stable=True)
    return by_class[torch.argsort(place[by_class], stable=True)]


def divide(labels: torch.Tensor, first: int, seed: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide images into a stratified sample of ``first`` images and the others.

    Returns:
        Their positions, each in increasing order: int64 (first,) and (N - first,).
    """
    order = stratified_order(labels, seed, name)
    return order[:first].sort().values, order[first:].sort().values


def fold_positions(labels: torch.Tensor, folds: int, fold: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide images into ``folds`` stratified parts, one of which tests.

    Every image is in one test part, and of a class with n images each part has about n / folds, exactly so
    where that comes out even for all. The division depends on the labels alone.

    Args:
        labels: int64 (N,).
        folds: Number of parts.
        fold: The part that tests, from 0.

    Returns:
        Positions of the other images and of those of the part, each in increasing order, int64.

    >>> [fold_positions(torch.tensor([0, 0, 1, 1]), 2, fold)[1].numel() for fold in (0, 1)]
    [2, 2]
    """
    order = stratified_order(labels, 0, "folds")
    first, last = len(labels) * fold // folds, len(labels) * (fold + 1) // folds
    others = torch.cat([order[:first], order[last:]])
    return others.sort().values, order[first:last].sort().values
