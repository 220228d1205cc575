"""Whole data sets in memory: training, validation and test images of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from cbnorm.data import catalog, cifar, digits, domains, idx, opensets, pixels, room, sources, svhn
from cbnorm.data.entry import DataSet
from cbnorm.data.extend import read as read_plugged
from cbnorm.data.splits import Split, divide, fold_positions
from cbnorm.errors import CbnormError

READERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {
    "cifar10": cifar.read,
    "cifar100": cifar.read_cifar100,
    "digits": digits.read,
    "digits_negatives": domains.read_negatives,
    "fashion_mnist": idx.read,
    "mnist": idx.read,
    "svhn": svhn.read,
    "usps": idx.read,
}

#: Moments per channel that may be given instead of those of the images trained on.
IMAGENET_MOMENTS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MOMENTS = {"imagenet": IMAGENET_MOMENTS, "none": ((0.0,) * 3, (1.0,) * 3)}


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


def load(  # noqa: PLR0913  (the options of `dataset`, by keyword)
    key: str,
    *,
    val_images: int,
    folder: str | None = None,
    image_size: int = 32,
    train_images: int | None = None,
    test_images: int | None = None,
    split: str = "stratified",
    split_seed: int = 0,
    statistics: str = "train",
    folds: int | None = None,
    fold: int = 0,
    download: bool = True,
) -> ImageData:
    """Load a data set and split it.

    Validation images are a stratified sample of the official training images, or the last of
    them; ``train_images`` of the others, always stratified, are trained on. Both samples are
    drawn from ``split_seed`` alone, and a smaller ``train_images`` is contained in a larger one.

    Args:
        key: The data set's key in :data:`cbnorm.data.catalog.DATA_SETS`.
        val_images: Validation images, taken from the official training images.
        folder: The user's folder of images, for ``imagefolder``; other sets have none.
        image_size: Height and width, see :func:`cbnorm.data.pixels.resize`.
        train_images: How many to train on; None: all that validation leaves.
        test_images: How many to test on, stratified, the same for every seed; None: all.
        split: ``stratified``, or ``last``: the last images of the official order validate.
        split_seed: Decides which images validate and which train.
        statistics: ``train``: the moments are those of the images trained on; ``imagenet``: the
            customary ones of ImageNet; ``none``: 0 and 1, so that values are divided by 255 and no more.
        folds: Of a set without an official split: into how many parts its images are divided, stratified
            and the same for every seed.
        fold: Which of them tests.
        download: Fetch what is missing; otherwise a missing file is an error.

    Returns:
        The images in three channels, uint8, each split in the official order.

    Raises:
        CbnormError: No such data set, impossible numbers of images, or files that are missing,
            corrupt or can't be fetched.
    """
    numbers = (val_images, train_images, test_images, image_size)
    known = catalog.fold_counts(catalog.find(key), folds, fold)
    catalog.check_folder(known, folder)
    catalog.check_numbers(known, *numbers)
    if known.open:
        entry, pool, test, checksums = _read_open(key, folder, image_size, download)
    else:
        entry, checksums = known, dict(known.content)
        pool, test = _read(key, download, image_size)
    catalog.check_numbers(catalog.fold_counts(entry, folds, fold), *numbers)
    places, tested = torch.arange(len(pool)), torch.arange(len(test))
    strata, test_strata = (domains.strata(part) if entry.domains else part.labels for part in (pool, test))
    if folds is not None:
        places, tested = fold_positions(pool.labels, folds, fold)
        test, test_strata = pool, strata
    val_positions, rest = _divide(strata[places], val_images, split, split_seed)
    if split == "last":
        _refuse_lost_classes(entry, pool.labels[places], pool.labels[places[rest]])
    if train_images is not None:
        chosen, _ = divide(strata[places[rest]], train_images, split_seed, "subset")
        rest = rest[chosen]
    if test_images is not None:
        tested = tested[divide(test_strata[tested], test_images, 0, "test-subset")[0]]
    train = _prepare(pool, places[rest], image_size)
    val = _prepare(pool, places[val_positions], image_size)
    mean, std = _moments(train, statistics, entry.name)
    return ImageData(
        name=entry.name,
        train=train,
        val=val,
        test=_prepare(test, tested, image_size),
        mean=mean,
        std=std,
        num_classes=entry.num_classes,
        class_names=entry.class_names,
        checksums=checksums,
    )


def _refuse_lost_classes(entry: DataSet, pool: torch.Tensor, rest: torch.Tensor) -> None:
    """Files in the order of their classes lose whole classes with their last images."""
    if lost := sorted(set(pool.tolist()) - set(rest.tolist())):
        raise CbnormError(
            f"dataset.split=last leaves {len(lost)} of {entry.num_classes} classes of {entry.name} without "
            f"training images, {entry.class_names[lost[0]]} among them: choose dataset.split=stratified"
        )


def _moments(train: Split, statistics: str, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel by which images are scaled."""
    if statistics != "train":
        return _MOMENTS[statistics]
    mean, std = pixels.channel_moments(train.images)
    if min(std) <= 0:
        raise CbnormError(
            f"the training images of {name} have a colour that never varies, which can't be scaled to "
            "deviation 1: choose dataset.statistics=imagenet or none"
        )
    return mean, std


def _read(key: str, download: bool, image_size: int) -> tuple[Split, Split]:
    if parts := catalog.find(key).parts:
        read = [_read(part, download, image_size) for part in parts]
        train, test = (domains.join(split, image_size) for split in zip(*read, strict=True))
        return train, test
    folder = sources.ensure(key) if download else sources.require(key)
    return READERS[key](folder) if key in READERS else read_plugged(key, folder)


def _read_open(
    key: str, folder: str | None, image_size: int, download: bool
) -> tuple[DataSet, Split, Split, dict[str, str]]:
    """Return an open set's facts, training pool, test images, and the checksums of what was read."""
    found = opensets.find(key, folder, download=download)
    made = opensets.arrays(found, image_size)
    pool, test = (
        _labelled(torch.from_numpy(images), [label for _, label in items], found.layout.groups)
        for images, items in ((made.train, found.layout.train), (made.test, found.layout.test))
    )
    checksums = {"manifest": f"sha256:{found.known.digest}"}
    return found.entry, pool, test, checksums | {f"decoded {k}": v for k, v in made.checksums.items()}


def _labelled(images: torch.Tensor, labels: list[int], groups: Mapping[str, tuple[int, ...]]) -> Split:
    known = torch.tensor(labels, dtype=torch.int64)
    attributes = {name: torch.tensor(ids)[known] for name, ids in groups.items()}
    return Split(images, known, attributes=attributes)


def _divide(
    labels: torch.Tensor, val_images: int, split: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions of the validation images and of the others."""
    if split == "last":
        positions = torch.arange(len(labels))
        return positions[len(labels) - val_images :], positions[: len(labels) - val_images]
    if split != "stratified":
        raise CbnormError(f"split={split} is unknown: choose stratified or last")
    return divide(labels, val_images, seed, "split")


def _prepare(whole: Split, positions: torch.Tensor, size: int) -> Split:
    """Take images and bring them to the size that the model sees."""
    # Resized piece by piece: a set mapped from a file need not fit into memory at its own size.
    chunks = positions.split(pixels.CHUNK) if len(positions) else ()
    pieces = (pixels.three_channels(pixels.resize(whole.images[chunk], size)) for chunk in chunks)
    images = room.gathered(pieces, (len(positions), 3, size, size), sources.data_dir())
    rest = Split(torch.empty(len(whole), 0), whole.labels, whole.indices, whole.attributes).take(positions)
    return Split(images, rest.labels, rest.indices, rest.attributes)
