"""Batches of two domains, every image in a weak and a strong view, made on the device."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.data import augment, randaugment
from cbnorm.data.augment import Augmentation
from cbnorm.data.randaugment import RandAugment
from cbnorm.data.splits import Split
from cbnorm.data.streams import generator
from cbnorm.errors import CbnormError


class Views(NamedTuple):
    """A batch: images of the source (N, C, H, W) and of the target (M, C, H, W), float32 from 0 to 255.

    Attributes:
        source_weak: Weak views of the source's images.
        source_strong: Strong views of the same images.
        source_labels: int64 (N,).
        target_weak: Weak views of the target's images.
        target_strong: Strong views of the same images.
    """

    source_weak: Tensor
    source_strong: Tensor
    source_labels: Tensor
    target_weak: Tensor
    target_strong: Tensor


class ViewBatches:
    """Training batches for domain adaptation; an epoch ends with the shorter of the two streams.

    Both splits stay on the device as uint8. Batch b of epoch e is a pure function of the seed, e and b, as in
    :class:`cbnorm.data.batches.Batches`: orders, weak and strong views come from streams of their own, keyed
    by the domain and the epoch. Labels of the target are not kept.

    Args:
        source: The labelled images.
        target: The unlabelled images.
        batch_size: Source images per batch.
        ratio: Target images per source image.
        seed: The run's seed.
        weak: How weak views are made.
        strong: How strong views are made, from the original images.
        device: Where everything lives.
        memory_format: Of the images that are yielded.

    Raises:
        CbnormError: A domain without images, or an impossible batch.
    """

    def __init__(
        self,
        source: Split,
        target: Split,
        *,
        batch_size: int,
        ratio: int,
        seed: int,
        weak: Augmentation,
        strong: RandAugment,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if min(batch_size, ratio) < 1 or not min(len(source), len(target)):
            raise CbnormError(
                f"batch_size={batch_size} with {ratio} target images for each is impossible for"
                f" {len(source)} source and {len(target)} target images"
            )
        self.seed, self.weak, self.strong = seed, weak, strong
        self.device, self.memory_format = torch.device(device), memory_format
        self.sizes = {"source": batch_size, "target": batch_size * ratio}
        self._images = {"source": source.images.to(device), "target": target.images.to(device)}
        self._labels = source.labels.to(device)

    def __len__(self) -> int:
        """Number of batches in an epoch; the last one may hold fewer images of the shorter stream."""
        return min(-(-len(self._images[name]) // size) for name, size in self.sizes.items())

    @property
    def images(self) -> int:
        """Number of images of both domains that an epoch shows."""
        return sum(min(len(self._images[name]), len(self) * size) for name, size in self.sizes.items())

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Views]:
        """Yield the batches of an epoch from batch ``start`` on."""
        streams = {name: self._draws(name, epoch) for name in self.sizes}
        for number in range(start, len(self)):
            chosen, source_weak, source_strong = self._views("source", number, streams["source"])
            _, target_weak, target_strong = self._views("target", number, streams["target"])
            labels = self._labels.index_select(0, chosen)
            yield Views(source_weak, source_strong, labels, target_weak, target_strong)

    def _draws(self, name: str, epoch: int) -> tuple[Tensor, augment.Parameters, randaugment.Draws]:
        """Return the order of a domain's images, and what is drawn for each place of it."""
        count = len(self._images[name])
        used = min(count, len(self) * self.sizes[name])
        order, weak, strong = (
            generator(self.seed, f"{stream}-{name}", epoch) for stream in ("order", "weak", "strong")
        )
        return (
            torch.randperm(count, generator=order).to(self.device),
            augment.draw(used, weak, self.weak),
            randaugment.draw(used, strong, self.strong),
        )

    def _views(
        self, name: str, number: int, drawn: tuple[Tensor, augment.Parameters, randaugment.Draws]
    ) -> tuple[Tensor, Tensor, Tensor]:
        order, weak, strong = drawn
        first = number * self.sizes[name]
        last = min(first + self.sizes[name], len(order))
        chosen = order[first:last]
        images = self._images[name].index_select(0, chosen)
        params = weak.part(first, last).to(self.device)
        views = (
            augment.apply(images.float(), params, self.weak.fill),
            randaugment.apply(images, strong.part(first, last), self.strong.strength).float(),
        )
        weak_view, strong_view = (view.contiguous(memory_format=self.memory_format) for view in views)
        return chosen, weak_view, strong_view
