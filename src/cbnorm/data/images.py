"""Whole data sets in memory: training, validation and test images of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cbnorm.data import catalog, cifar, digits, pixels, sources
from cbnorm.data.splits import Split, divide

READERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {"cifar10": cifar.read, "digits": digits.read}


@dataclass(frozen=True)
class ImageData:
    """The images of a run.

    Attributes:
        name: The data set's proper name.
        train: Images to fit on.
        val: Images to choose by: taken from the official training images, never among ``train``.
        test: Images to report on.
        mean: Per channel, of ``train``, in [0, 1].
        std: Per channel, of ``train``, in [0, 1].
        num_classes: Number of classes.
        class_names: One per class.
        checksums: Of all that was read and verified, by name.
    """

    name: str
    train: Split
    val: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    class_names: tuple[str, ...]
    checksums: Mapping[str, str]


def load(
    key: str,
    *,
    val_images: int,
    image_size: int = 32,
    train_images: int | None = None,
    test_images: int | None = None,
    split_seed: int = 0,
    download: bool = True,
) -> ImageData:
    """Load a data set and split it.

    Validation images are a stratified sample of the official training images; ``train_images``
    of the others, stratified again, are trained on. Both are drawn from ``split_seed`` alone,
    and a smaller ``train_images`` is contained in a larger one.

    Args:
        key: The data set's key in :data:`cbnorm.data.catalog.DATA_SETS`.
        val_images: Validation images, taken from the official training images.
        image_size: Height and width, see :func:`cbnorm.data.pixels.resize`.
        train_images: How many to train on; None: all that validation leaves.
        test_images: How many to test on, stratified, the same for every seed; None: all.
        split_seed: Decides which images validate and which train.
        download: Fetch what is missing; otherwise a missing file is an error.

    Returns:
        The images in three channels, uint8, each split in the official order.

    Raises:
        CbnormError: No such data set, impossible numbers of images, or files that are missing,
            corrupt or can't be fetched.
    """
    entry = catalog.find(key)
    catalog.check_numbers(entry, val_images, train_images, test_images, image_size)
    folder = sources.ensure(key) if download else sources.require(key)
    pool, test = READERS[key](folder)
    val_positions, rest = divide(pool.labels, val_images, split_seed, "split")
    if train_images is not None:
        chosen, _ = divide(pool.labels[rest], train_images, split_seed, "subset")
        rest = rest[chosen]
    if test_images is not None:
        test = test.take(divide(test.labels, test_images, 0, "test-subset")[0])
    train, val, test = (
        _prepare(part, image_size) for part in (pool.take(rest), pool.take(val_positions), test)
    )
    mean, std = pixels.channel_moments(train.images)
    return ImageData(
        entry.name, train, val, test, mean, std, entry.num_classes, entry.class_names, dict(entry.content)
    )


def _prepare(split: Split, image_size: int) -> Split:
    images = pixels.three_channels(pixels.resize(split.images, image_size))
    return Split(images, split.labels, split.indices)
