"""The binary version of CIFAR-10: records of a label and a planar RGB image."""

from pathlib import Path

import numpy as np
import torch

from cbnorm.data import catalog
from cbnorm.data.splits import Split

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
