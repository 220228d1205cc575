"""Batches made on the device: shuffled, augmented and normalised without workers or files."""

from collections.abc import Iterator, Sequence

import torch

from cbnorm.data import augment
from cbnorm.data.room import fits
from cbnorm.data.splits import Split
from cbnorm.data.streams import generator
from cbnorm.errors import CbnormError

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class EpochSampler:
    """Holds the epoch; Lightning tells it by :meth:`set_epoch` before each epoch.

    Attributes:
        epoch: The epoch that iteration yields.
    """

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch


class Batches:
    """An iterable of ``(images, labels, clusters)`` over one split, a data loader to Lightning.

    The split stays on the device as uint8, or where it is when it does not fit there (see
    :data:`cbnorm.data.room.SHARE`), mapped from a file perhaps; then each batch is gathered from
    there, with the same values. Batch b of epoch e is a pure function of the seed, e
    and b: the order comes from the stream ``order`` and the augmentation from the stream
    ``augmentation``, both keyed by the epoch alone, so that a resumed run sees what an
    uninterrupted one sees. Nothing is drawn from the global generators.

    Each batch holds images, float32 (B, C, H, W), normalised to mean 0 and standard deviation 1
    by the given moments; labels, int64 (B,); clusters, int64 (B,), -1 where unknown.

    Args:
        split: The images.
        clusters: int64 (N,), or None when no image has a cluster.
        batch_size: Images per batch; the last one may hold fewer.
        mean: Per channel, in [0, 1].
        std: Per channel, in [0, 1].
        seed: The run's seed.
        augmentation: How images are varied; None for evaluation.
        shuffle: Draw a new order for every epoch; otherwise keep the split's.
        device: Where everything lives.
        memory_format: Of the images that are yielded.
        drop_last: Leave out a last batch with fewer images.
        resident: Hold all images on the device in the layout that is asked for; None: if they fit.

    Raises:
        CbnormError: A batch size below 1, or ``drop_last`` leaves nothing.
        ValueError: Clusters or moments of the wrong length.

    >>> split = Split(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5))
    >>> batches = Batches(split, None, batch_size=2, mean=[0.5], std=[0.5], seed=0, shuffle=False)
    >>> [(images.mean().item(), labels.tolist(), clusters.tolist()) for images, labels, clusters in batches]
    [(-1.0, [0, 1], [-1, -1]), (-1.0, [2, 3], [-1, -1]), (-1.0, [4], [-1])]
    """

    def __init__(  # noqa: PLR0913  (what a batch is made of; all but two by keyword)
        self,
        split: Split,
        clusters: torch.Tensor | None,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        shuffle: bool,
        augmentation: augment.Augmentation | None = None,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
        drop_last: bool = False,
        resident: bool | None = None,
    ) -> None:
        if batch_size < 1 or (drop_last and batch_size > len(split)):
            raise CbnormError(f"batch_size={batch_size} is impossible for {len(split)} images")
        if clusters is not None and clusters.shape != split.labels.shape:
            raise ValueError(f"{len(split)} images, but clusters of shape {tuple(clusters.shape)}")
        channels = split.images.shape[1]
        if not len(mean) == len(std) == channels:
            raise ValueError(f"{channels} channels, but {len(mean)} means and {len(std)} standard deviations")
        if min(std) <= 0:
            raise ValueError(f"standard deviations must be positive, not {list(std)}")
        self.batch_size, self.drop_last, self.shuffle = batch_size, drop_last, shuffle
        self._seen = self._resume_at = 0
        self.seed, self.augmentation, self.device = seed, augmentation, torch.device(device)
        self.memory_format = memory_format
        # Lightning looks for both on whatever has a sampler.
        self.sampler, self.batch_sampler = EpochSampler(), None
        self.resident = fits(split.images.nbytes, self.device) if resident is None else resident
        self._images = split.images
        if self.resident:
            # Stored in the layout that is asked for, so that gathering yields it at no cost.
            self._images = split.images.to(self.device).contiguous(memory_format=memory_format)
        self._labels = split.labels.to(self.device)
        self._clusters = torch.full_like(self._labels, -1) if clusters is None else clusters.to(self.device)
        average, deviation = (torch.tensor(moment, dtype=torch.float64) for moment in (mean, std))
        self._scale, self._shift = (
            self._per_pixel(1 / (255 * deviation)),
            self._per_pixel(-average / deviation),
        )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        count, rest = divmod(len(self._labels), self.batch_size)
        return count if self.drop_last or rest == 0 else count + 1

    def __iter__(self) -> Iterator[Batch]:
        # A generator, so that the epoch is read with the first batch: Lightning creates a fit's
        # first iterator before it tells the sampler the epoch that a resumed run is at.
        start, self._resume_at = self._resume_at, 0
        for number, batch in enumerate(self.epoch(self.sampler.epoch, start), start):
            self._seen = (number + 1) % len(self)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of an unfinished epoch were seen; Lightning checkpoints it."""
        return {"batch": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin where another one was when its state was taken."""
        self._resume_at = self._seen = state["batch"]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch ``start`` on."""
        order, params = self.drawn(epoch)
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            last = min(first + self.batch_size, len(self._labels))
            rows = slice(first, last) if order is None else order[first:last]
            yield self.batch(rows, None if params is None else params.part(first, last))

    def drawn(self, epoch: int) -> tuple[torch.Tensor | None, augment.Parameters | None]:
        """Draw what an epoch is made of, on the device.

        Returns:
            The order of the images, int64 (N,), None for the split's own; and how the images in that
            order are varied, None for not at all.
        """
        return self._order(epoch), self._parameters(epoch)

    def batch(self, rows: torch.Tensor | slice, params: augment.Parameters | None) -> Batch:
        """Make a batch.

        Args:
            rows: Which images, int64 (B,) on the device or a slice.
            params: How they are varied.
        """
        images, labels, clusters = self._gather(rows)
        if params is not None:
            fill = self.augmentation.fill if self.augmentation is not None else "reflect"
            images = augment.apply(images, params, fill)
        images = images.contiguous(memory_format=self.memory_format)
        return torch.addcmul(self._shift, images, self._scale), labels, clusters

    def _order(self, epoch: int) -> torch.Tensor | None:
        if not self.shuffle:
            return None
        return torch.randperm(len(self._labels), generator=generator(self.seed, "order", epoch)).to(
            self.device
        )

    def _parameters(self, epoch: int) -> augment.Parameters | None:
        if self.augmentation is None:
            return None
        stream = generator(self.seed, "augmentation", epoch)
        return augment.draw(len(self._labels), stream, self.augmentation).to(self.device)

    def _gather(self, rows: torch.Tensor | slice) -> Batch:
        """Return images as float32 values 0..255, with labels and clusters."""
        by_row = self._images
        if held_last := self.resident and self.memory_format == torch.channels_last:
            by_row = by_row.permute(0, 2, 3, 1)
        images, labels, clusters = (_taken(part, rows) for part in (by_row, self._labels, self._clusters))
        if held_last:
            images = images.permute(0, 3, 1, 2)
        # Of what is not held in this layout on the device, the batch is brought there.
        return images.to(self.device).contiguous(memory_format=self.memory_format).float(), labels, clusters

    def _per_pixel(self, values: torch.Tensor) -> torch.Tensor:
        """Return a value per channel as float32 (1, C, H, W) in the images' layout.

        Written out, because broadcasting over an innermost dimension of three channels is slow.
        """
        shape = (1, *self._images.shape[1:])
        whole = values.float().to(self.device).view(1, -1, 1, 1).expand(shape)
        return whole.contiguous(memory_format=self.memory_format)


def _taken(part: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
    if isinstance(rows, slice):
        return part[rows]
    # Whole rows are copied here: twenty times faster than indexing with brackets.
    return part.index_select(0, rows.to(part.device))
