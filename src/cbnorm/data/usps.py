"""The digits of USPS in the two forms in which they are passed around, rewritten as idx files.

The files that are read are recognised by checksum, whichever form they come from. Imports no torch.
"""

import bz2
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from cbnorm.data.failure import SourceError
from cbnorm.data.known_domains import USPS_COUNTS

_SIDE = 16
_PIXELS = _SIDE * _SIDE
#: Values are written with three decimals, from -1 to 1.
_STEPS = 1000
#: Bytes that one file may hold, whatever its compressed size.
_LIMIT = 64 * 2**20
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError)


def convert(folder: Path, target: Path) -> None:
    """Write the four idx files from ``usps.npz``, or else from libsvm's ``usps.bz2`` and ``usps.t.bz2``.

    Args:
        folder: Where one of the forms is.
        target: Where the idx files go.

    Raises:
        SourceError: Neither form is there, or it is broken or holds other numbers of images.
    """
    read = read_npz if (folder / "usps.npz").exists() else read_libsvm
    for part, (images, labels) in zip(("train", "t10k"), read(folder), strict=True):
        _write_idx(target / f"{part}-images-idx3-ubyte", images)
        _write_idx(target / f"{part}-labels-idx1-ubyte", labels)


Part = tuple[np.ndarray, np.ndarray]


def read_npz(folder: Path) -> list[Part]:
    """Read ``usps.npz``: ``train_images``, ``train_labels``, ``test_images``, ``test_labels``, all uint8.

    Returns:
        Images, uint8 (N, 16, 16), and digits, uint8 (N,), for training and for testing.

    Raises:
        SourceError: The file is broken, or its arrays have other types or shapes. Objects are not unpickled.
    """
    path = folder / "usps.npz"
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _array(archive, name) for name in _names()}
    except _BROKEN as error:
        raise SourceError(f"{path.name} can't be read ({error})") from error
    return [_checked(path, arrays[f"{part}_images"], arrays[f"{part}_labels"], part) for part in USPS_COUNTS]


def _names() -> list[str]:
    return [f"{part}_{what}" for part in USPS_COUNTS for what in ("images", "labels")]


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > _LIMIT:
        raise ValueError(f"{name} takes {info.file_size} bytes")
    return np.asarray(np.lib.format.read_array(io.BytesIO(archive.read(info)), allow_pickle=False))


def read_libsvm(folder: Path) -> list[Part]:
    """Read libsvm's files: a line per image with the digit plus one, then 256 pairs ``place:value``.

    Values lie in [-1, 1] and have three decimals, hence ``v`` becomes ``127.5 (v + 1)``, computed with
    integers and rounded to the nearest, ties to even, which is how the arrays of ``usps.npz`` were made.

    Returns:
        As :func:`read_npz`.

    Raises:
        SourceError: A file is missing, broken, or has lines of another form.
    """
    parts = []
    for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        path = folder / name
        try:
            with bz2.open(path) as file:
                text = file.read(_LIMIT + 1)
            if len(text) > _LIMIT:
                raise ValueError("it holds too much")
            rows = [_row(line) for line in text.decode("ascii").splitlines() if line.strip()]
        except _BROKEN as error:
            raise SourceError(f"{name} can't be read ({error})") from error
        images = np.array([values for _, values in rows], dtype=np.uint8).reshape(-1, _SIDE, _SIDE)
        parts.append(_checked(path, images, np.array([digit for digit, _ in rows], dtype=np.uint8), part))
    return parts


def _row(line: str) -> tuple[int, np.ndarray]:
    first, *pairs = line.split()
    digit = round(float(first)) - 1
    places, values = zip(*(pair.split(":") for pair in pairs), strict=True)
    if [int(place) for place in places] != list(range(1, _PIXELS + 1)) or not 0 <= digit <= 9:
        raise ValueError(f"a line begins with {line[:40]!r}")
    return digit, grey(np.array(values, dtype=np.float64))


def grey(values: np.ndarray) -> np.ndarray:
    """Bring values from [-1, 1] with three decimals to 0..255, rounded to the nearest, ties to even.

    Raises:
        ValueError: A value outside [-1, 1].

    >>> grey(np.array([-1, -0.631, -0.4, 0.4, 1])).tolist()
    [0, 47, 76, 178, 255]
    """
    thousandths = np.rint(values * _STEPS).astype(np.int64) + _STEPS
    if thousandths.min() < 0 or thousandths.max() > 2 * _STEPS:
        raise ValueError("a value lies outside [-1, 1]")
    whole, rest = np.divmod(thousandths * 255, 2 * _STEPS)
    up = (rest > _STEPS) | ((rest == _STEPS) & (whole % 2 == 1))
    return (whole + up).astype(np.uint8)


def _checked(path: Path, images: np.ndarray, labels: np.ndarray, part: str) -> Part:
    count = USPS_COUNTS[part]
    for array, shape in ((images, (count, _SIDE, _SIDE)), (labels, (count,))):
        if array.dtype != np.uint8 or array.shape != shape:
            raise SourceError(
                f"{path.name} holds {array.dtype} {array.shape} for {part}ing, not uint8 {shape}"
            )
    return images, labels


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())
