"""SVHN's cropped digits from their files in MATLAB's format 5, of which only two arrays are read."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError

_SIDE = 32


def read_digits(path: Path) -> Split:
    """Read one file: ``X``, uint8 (32, 32, 3, N) in the order row, column, channel, image; ``y``, 1 to 10.

    Nothing in it is executed: the format holds numbers, and other variables are passed over unread.

    Returns:
        The images, uint8 (N, 3, 32, 32), and their digits: the authors' 10 is the digit 0.

    Raises:
        CbnormError: The file can't be read, or holds something else.
    """
    images, labels = _arrays(path)
    if images.shape != (_SIDE, _SIDE, 3, labels.size) or images.dtype != np.uint8 or not labels.size:
        raise CbnormError(
            f"{path} holds X of {images.dtype} {images.shape} and {labels.size} labels,"
            f" not uint8 ({_SIDE}, {_SIDE}, 3, N) and N labels"
        )
    digits = labels.astype(np.float64).reshape(-1)
    if not np.isin(digits, np.arange(1, 11)).all():
        raise CbnormError(f"{path} holds labels other than 1 to 10")
    ordered = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return Split(torch.from_numpy(ordered), torch.from_numpy(digits.astype(np.int64) % 10))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy import io

    try:
        file = path.open("rb")
    except OSError as error:
        raise CbnormError(f"{path} can't be read ({error.strerror or error})") from error
    with file, warnings.catch_warnings(action="ignore"):
        try:
            found: dict[str, Any] = io.loadmat(file, variable_names=("X", "y"))
        except Exception as error:  # a broken file meets whatever the reader's code runs into
            gist = (str(error).splitlines() or [type(error).__name__])[0][:100]
            raise CbnormError(f"{path} is no MATLAB file of format 5, or broken ({gist})") from error
    if missing := [name for name in ("X", "y") if not isinstance(found.get(name), np.ndarray)]:
        raise CbnormError(f"{path} holds no array {missing[0]}")
    if found["X"].dtype.kind not in "uif" or found["y"].dtype.kind not in "uif":
        raise CbnormError(f"{path} holds X of {found['X'].dtype} and y of {found['y'].dtype}, not numbers")
    return found["X"], found["y"]


def read(folder: Path) -> tuple[Split, Split]:
    """Read the cropped digits.

    Args:
        folder: The verified folder ``SVHN``.

    Returns:
        73,257 training and 26,032 test images, uint8 (N, 3, 32, 32); the extra images are not used.

    Raises:
        CbnormError: A file can't be read.
    """
    return read_digits(folder / "train_32x32.mat"), read_digits(folder / "test_32x32.mat")
