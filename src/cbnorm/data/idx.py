"""The files of MNIST and its kin: a header of big-endian numbers, then bytes."""

import struct
from pathlib import Path

import numpy as np
import torch

from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError

_UNSIGNED_BYTES = 8


def read_array(path: Path, dimensions: int) -> torch.Tensor:
    """Read a file of unsigned bytes.

    Args:
        path: The file, not compressed.
        dimensions: How many it must have.

    Returns:
        uint8 of the shape that the header tells.

    Raises:
        CbnormError: The file can't be read, has another type or number of dimensions, or more or
            fewer bytes than its header tells.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CbnormError(f"{path} can't be read ({error.strerror})") from error
    start = 4 + 4 * dimensions
    if len(raw) < start or raw[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]):
        raise CbnormError(f"{path} is no idx file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", raw[4:start])
    if (expected := start + int(np.prod(shape, dtype=object))) != len(raw):
        raise CbnormError(f"{path} has {len(raw)} bytes, but its header tells of {expected}")
    # A copy, since the bytes can't be written and torch wants memory that can.
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)[start:].view(shape)


def read(folder: Path) -> tuple[Split, Split]:
    """Read the four files of MNIST or Fashion-MNIST.

    Returns:
        Training and test images, uint8 (N, 1, 28, 28).

    Raises:
        CbnormError: A file is broken, or has more images than labels or fewer.
    """
    train, test = (_part(folder, name) for name in ("train", "t10k"))
    return train, test


def _part(folder: Path, name: str) -> Split:
    images = read_array(folder / f"{name}-images-idx3-ubyte", 3)
    labels = read_array(folder / f"{name}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise CbnormError(f"{folder} has {len(images)} {name} images, but {len(labels)} labels")
    return Split(images[:, None], labels.long())
