"""The 1,797 handwritten 8x8 digits that scikit-learn brings along."""

import hashlib
from pathlib import Path

import torch

from cbnorm.data import catalog
from cbnorm.data.splits import Split, divide
from cbnorm.errors import CbnormError

# Fixed: the set has no official test images, and those of a run must not depend on its seed.
_TEST_SPLIT_SEED = 0


def groups(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Stand-ins for groups of classes, so that Tables VII and VIII can be tried: five pairs, even and odd.

    >>> groups(torch.tensor([0, 1, 9]))
    {'superclass': tensor([0, 0, 4]), 'species': tensor([0, 1, 1])}
    """
    return {"superclass": labels // 2, "species": labels % 2}


def read(_folder: Path | None = None) -> tuple[Split, Split]:
    """Read the digits.

    The original has no such split: 360 test images are drawn once and for all, stratified,
    with a seed of their own. Intensities 0..16 become 0..255.

    Returns:
        The training pool (1,437 images) and the test images (360), uint8 (N, 1, 8, 8).

    Raises:
        CbnormError: scikit-learn brings other digits than those that are known.

    >>> train, test = read()
    >>> len(train), len(test)
    (1437, 360)
    """
    from sklearn.datasets import load_digits

    entry = catalog.find("digits")
    values, labels = load_digits(return_X_y=True)
    raw = values.astype("uint8").tobytes() + labels.astype("uint8").tobytes()
    digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    if f"sha1:{digest}" != entry.content["digits"]:
        raise CbnormError("scikit-learn's digits are not the known 1,797 images: install another release")
    pixels = (torch.from_numpy(values).long() * 255 + 8) // 16
    everything = Split(pixels.to(torch.uint8).view(-1, 1, 8, 8), torch.from_numpy(labels).long())
    test, train = divide(everything.labels, entry.counts["test"], _TEST_SPLIT_SEED, "digits-test")
    parts = (everything.take(train), everything.take(test))
    # These two are the official splits: images are numbered within each.
    train_split, test_split = (
        Split(part.images, part.labels, attributes=groups(part.labels)) for part in parts
    )
    return train_split, test_split
