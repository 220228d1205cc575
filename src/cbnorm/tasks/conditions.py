"""Other ways to read a classifier: told other groups or none, or normalizing by other moments.

Where groups follow from the label, telling them at test time tells part of the answer; where a layer takes
the moments of the test batch, other test images have a say. A condition turns the images of a batch into
logits in another way; labels, metrics and weights stay the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cbnorm.norms.ucb import EvalStats, UCBNorm


class Condition(Protocol):
    """How logits come about."""

    def __call__(self, task: Any, images: Tensor, place: slice) -> Tensor:
        """Logits (B, C) in float32.

        Args:
            task: ``task(images, clusters)`` gives logits.
            images: (B, …).
            place: Where these images stand in the test set.
        """
        ...


@dataclass(frozen=True)
class Told:
    """Every image is read with the id that stands here.

    Attributes:
        ids: int64 (N,), 0 to K-1, or -1 for unknown.
    """

    ids: Tensor

    def __call__(self, task: Any, images: Tensor, place: slice) -> Tensor:
        """Logits under these ids."""
        logits: Tensor = task(images, self.ids[place].to(images.device))
        return logits


@dataclass(frozen=True)
class Averaged:
    """Logits under every id, averaged with weights: what the network says when it is not told but guesses.

    Attributes:
        weights: (N, K), each row summing to 1.
    """

    weights: Tensor

    def __call__(self, task: Any, images: Tensor, place: slice) -> Tensor:
        """Sum over k of weight k times the logits under id k."""
        weights = self.weights[place].to(images.device)
        ids = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        total = 0 * weights[:, :1]
        for k, share in enumerate(weights.unbind(1)):
            total = total + share[:, None] * task(images, ids + k)
        return total


@dataclass(frozen=True)
class Masked:
    """Logits of the classes of all other groups are struck out: what knowing the group is worth by itself.

    Attributes:
        groups: int64 (C,), the group of every class.
        ids: int64 (N,), the group of every image.
    """

    groups: Tensor
    ids: Tensor

    def __call__(self, task: Any, images: Tensor, place: slice) -> Tensor:
        """Logits, -inf for the classes of other groups; the network itself is told nothing."""
        own, groups = (part.to(images.device) for part in (self.ids[place], self.groups))
        logits: Tensor = task(images, None)
        return logits.masked_fill(groups[None] != own[:, None], -torch.inf)


@dataclass(frozen=True)
class ByMoments:
    """Layers of UCB-Norm and UAN evaluate by other moments than their own while a batch is read.

    Attributes:
        source: ``running`` averages, with which every image is read on its own, or those of the test
            ``batch``: transductive, since the logits of an image then depend on the images beside it.
        most: Images that are read together; None for the whole batch.
    """

    source: EvalStats
    most: int | None = None

    def __call__(self, task: Any, images: Tensor, place: slice) -> Tensor:
        """Logits by these moments."""
        with evaluated_by(task, self.source):
            return torch.cat([task(part, None) for part in images.split(self.most or len(images))])


@contextmanager
def evaluated_by(network: nn.Module, source: EvalStats) -> Iterator[None]:
    """A network whose layers of UCB-Norm and UAN evaluate by other moments for a while."""
    own = {module: module.eval_stats for module in network.modules() if isinstance(module, UCBNorm)}
    try:
        for layer in own:
            layer.eval_stats = source
        yield
    finally:
        for layer, before in own.items():
            layer.eval_stats = before


def groups_of_classes(labels: Tensor, ids: Tensor, num_classes: int) -> Tensor:
    """The group of every class, from images.

    Args:
        labels: int64 (N,).
        ids: int64 (N,), the group of every image.
        num_classes: Number of classes C.

    Returns:
        int64 (C,).

    Raises:
        ValueError: Images of one class are of several groups, or a class has no image.

    >>> groups_of_classes(torch.tensor([0, 2, 1, 0]), torch.tensor([1, 0, 0, 1]), 3)
    tensor([1, 0, 0])
    """
    groups = torch.full((num_classes,), -1, dtype=torch.int64)
    groups[labels] = ids
    if bool((groups[labels] != ids).any()) or bool((groups < 0).any()):
        raise ValueError("the groups don't follow from the classes: there is nothing to mask by")
    return groups


def permuted(ids: Tensor, generator: torch.Generator) -> Tensor:
    """The same ids, given to other images: as many of each, (N,)."""
    return ids[torch.randperm(len(ids), generator=generator)]
