"""Sets of two domains as one set, whose attribute ``domain`` tells the images apart: 0 source, 1 target."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cbnorm.data import digits, pixels
from cbnorm.data.splits import Split

_FAINT = 0.6


def join(splits: Sequence[Split], size: int) -> Split:
    """One split of several sets, in their order, in three channels.

    Args:
        splits: One per domain.
        size: Height and width to which all images are brought, since they differ.

    Returns:
        uint8 (N, 3, size, size) with the attribute ``domain``; other attributes are dropped.
    """
    images = [pixels.three_channels(pixels.resize(split.images, size)) for split in splits]
    domain = [torch.full_like(split.labels, number) for number, split in enumerate(splits)]
    return Split(
        torch.cat(images),
        torch.cat([split.labels for split in splits]),
        attributes={"domain": torch.cat(domain)},
    )


def read_negatives(folder: Path | None = None) -> tuple[Split, Split]:
    """scikit-learn's digits as the source, faint negatives of the same digits as the target.

    Returns:
        Training and test images, uint8 (N, 3, 8, 8) with the attribute ``domain``.
    """
    train, test = (
        join([part, Split(negative(part.images), part.labels)], part.images.shape[-1])
        for part in digits.read(folder)
    )
    return train, test


def negative(images: torch.Tensor) -> torch.Tensor:
    """Dark on light grey, with 60 % of the contrast.

    >>> negative(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    [204, 51]
    """
    return (127.5 - (images.float() - 127.5) * _FAINT).round().to(torch.uint8)


def strata(split: Split) -> torch.Tensor:
    """What a sample should keep the shares of: classes within each domain, int64 (N,)."""
    return split.labels + split.attributes["domain"] * (int(split.labels.max()) + 1)
