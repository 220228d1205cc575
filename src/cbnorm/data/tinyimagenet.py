"""The folder layout of Tiny ImageNet, whole or with fewer training images."""

import os
from collections import Counter
from pathlib import Path

from cbnorm.data.layout import Layout, natural
from cbnorm.errors import CbnormError

CLASSES = 200
PER_CLASS = 500


def layout(folder: Path) -> Layout:
    """Tell what a folder ``tiny-imagenet-200`` holds.

    Labels count the 200 WordNet ids in alphabetical order; images are ordered by class and
    number. The official test images have no published labels, so that the official validation
    images are the test set.

    Raises:
        CbnormError: A list is broken, or a class has no training images.
    """
    try:
        return _layout(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise CbnormError(f"Tiny ImageNet can't be read: {error}") from error


def _layout(folder: Path) -> Layout:
    ids = sorted(_read(folder / "wnids.txt").split())
    if len(set(ids)) != CLASSES or len(ids) != CLASSES:
        raise CbnormError(f"{folder / 'wnids.txt'} is broken: it should name {CLASSES} different classes")
    words = dict(line.split("\t", 1) for line in _read(folder / "words.txt").splitlines() if "\t" in line)
    labels = {wnid: label for label, wnid in enumerate(ids)}
    train = [
        (f"train/{wnid}/images/{image}", label)
        for wnid, label in labels.items()
        for image in _images(folder / "train" / wnid / "images")
    ]
    return Layout(
        name=name_of(folder, Counter(label for _, label in train), ids),
        class_names=tuple(f"{words.get(wnid, wnid).split(',')[0]} ({wnid})" for wnid in ids),
        train=tuple(train),
        test=tuple(_test(folder, labels)),
        lists=("wnids.txt", "words.txt", "val/val_annotations.txt"),
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf8")


def _images(folder: Path) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  (names are all that is needed)
    return sorted((name for name in names if name.upper().endswith(".JPEG")), key=natural)


def _test(folder: Path, labels: dict[str, int]) -> list[tuple[str, int]]:
    path = folder / "val" / "val_annotations.txt"
    wnid_of: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        image, wnid, *_ = (*line.split("\t"), "")
        if wnid not in labels:
            raise CbnormError(f"{path}, line {number}, is broken: {line[:60]!r}")
        wnid_of[image] = wnid
    images = _images(folder / "val" / "images")
    if strange := sorted(set(images) - set(wnid_of)):
        raise CbnormError(f"{folder / 'val/images' / strange[0]} has no line in {path}")
    if not images:
        raise CbnormError(f"{folder / 'val/images'} holds no images")
    return [(f"val/images/{image}", labels[wnid_of[image]]) for image in images]


def name_of(folder: Path, counts: Counter[int], ids: list[str]) -> str:
    """What the data set is called: by its own name only when all of its training images are there.

    Args:
        folder: Where it lies.
        counts: Training images of every class, by label.
        ids: Names of the classes.

    Raises:
        CbnormError: A class has no images.
    """
    fewest, most = (choose(counts[label] for label in range(CLASSES)) for choose in (min, max))
    if fewest == 0:
        empty = next(wnid for label, wnid in enumerate(ids) if not counts[label])
        raise CbnormError(f"{folder / 'train' / empty / 'images'} holds no images")
    if fewest == most == PER_CLASS:
        return "Tiny ImageNet"
    held = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"Tiny ImageNet ({held} of {PER_CLASS} images per class)"
