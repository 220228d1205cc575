"""The binary version of CIFAR-10, and the Python version of CIFAR-100 without unpickling it."""

from pathlib import Path

import numpy as np
import torch

from cbnorm.data import catalog
from cbnorm.data.failure import SourceError
from cbnorm.data.pickles import read_pickled
from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError

_PIXELS = 3 * 32 * 32


def read_records(path: Path) -> Split:
    """Read one file of 3,073-byte records: label, then 3x32x32 values.

    Returns:
        The images, uint8 (N, 3, 32, 32), and their labels.
    """
    records = torch.from_numpy(np.fromfile(path, dtype=np.uint8)).view(-1, 1 + _PIXELS)
    return Split(records[:, 1:].unflatten(1, (3, 32, 32)), records[:, 0].long())


def read(folder: Path) -> tuple[Split, Split]:
    """Read CIFAR-10 from the six files of its binary version, in their order.

    Args:
        folder: The verified folder ``cifar-10-batches-bin``.

    Returns:
        50,000 training and 10,000 test images, uint8 (N, 3, 32, 32).
    """
    batches = {file.name: read_records(folder / file.name) for file in catalog.find("cifar10").files}
    test = batches.pop("test_batch.bin")
    images = torch.cat([batch.images for batch in batches.values()])
    labels = torch.cat([batch.labels for batch in batches.values()])
    return Split(images, labels), Split(test.images.contiguous(), test.labels)


def read_pickled_split(path: Path) -> Split:
    """Read one of CIFAR-100's files, a pickle; nothing in it is executed.

    Returns:
        The images, uint8 (N, 3, 32, 32), their fine labels, and the coarse ones as the
        attribute ``superclass``.

    Raises:
        SourceError: The file is no pickle, or its labels and pixels don't fit each other.
    """
    found = read_pickled(path, "fine_labels", "coarse_labels")
    fine, coarse = (torch.tensor(found.numbers[key]).long() for key in ("fine_labels", "coarse_labels"))
    if not len(found.data) == len(fine) * _PIXELS == len(coarse) * _PIXELS > 0:
        raise SourceError(f"{path.name} holds {len(found.data)} pixels, {len(fine)} and {len(coarse)} labels")
    # A copy, since the bytes can't be written and torch wants memory that can.
    images = torch.frombuffer(bytearray(found.data), dtype=torch.uint8).view(-1, 3, 32, 32)
    return Split(images, fine, attributes={"superclass": coarse})


def read_cifar100(folder: Path) -> tuple[Split, Split]:
    """Read CIFAR-100 from the files of its Python version.

    Args:
        folder: The verified folder ``cifar-100-python``.

    Returns:
        50,000 training and 10,000 test images, uint8 (N, 3, 32, 32).

    Raises:
        CbnormError: A file isn't what its authors published.
    """
    try:
        return read_pickled_split(folder / "train"), read_pickled_split(folder / "test")
    except SourceError as error:
        raise CbnormError(f"CIFAR-100 can't be read: {error}") from error
