"""A user's own images: a folder per class, with or without a part for testing."""

import hashlib
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from cbnorm.data.layout import Layout
from cbnorm.data.manifest import Manifest
from cbnorm.errors import CbnormError

#: Of each class, this share becomes the test set when the folder has no part for testing.
HELD_OUT = 0.2
_FEWEST = 5

Items = list[tuple[str, int]]


def layout(folder: Path) -> Layout:
    """Tell what a folder of images holds.

    Either a folder per class, or ``train/`` with a folder per class beside ``test/`` (or else
    ``val/``) with the same. Labels count the classes in alphabetical order. Files that by their
    ending are no images, and hidden ones, are passed over.

    Raises:
        CbnormError: No such folder, fewer than two classes, a class without enough images, or
            one that is tested but not trained.
    """
    if not folder.is_dir():
        raise CbnormError(f"dataset.folder={folder} is no folder")
    try:
        if (folder / "train").is_dir():
            return _divided(folder)
        classes = _classes(folder)
        train = _images(folder, "", classes)
    except OSError as error:
        raise CbnormError(f"{folder} can't be read ({error})") from error
    _check_counts(folder, classes, train, _FEWEST, "with a part for testing in test/, one is enough")
    name = f"{folder.name} ({HELD_OUT:.0%} of each class held out for testing)"
    return Layout(name, tuple(classes), tuple(train), (), held_out=HELD_OUT)


def hold_out(whole: Layout, known: Manifest) -> Layout:
    """Move a share of each class to the test set, chosen by what the images hold.

    The choice depends on neither names nor their order: images are ranked by a checksum of their
    content, so that copies of one image stay together, but for the two at the border.

    Args:
        whole: A layout whose images all train.
        known: What the files hold.

    Returns:
        A layout with both parts, in the order of ``whole``; ``whole`` if nothing is to be held out.
    """
    if not whole.held_out:
        return whole
    checksums, by_class = known.checksums, defaultdict(list)
    for name, label in whole.train:
        rank = hashlib.sha256(f"test {checksums[name]}".encode()).hexdigest()
        by_class[label].append((rank, name))
    tested = {
        name
        for images in by_class.values()
        for _, name in sorted(images)[: max(1, round(whole.held_out * len(images)))]
    }
    train, test = (
        tuple(item for item in whole.train if (item[0] in tested) == chosen) for chosen in (False, True)
    )
    return replace(whole, train=train, test=test, held_out=0.0)


def _divided(folder: Path) -> Layout:
    part = next((part for part in ("test", "val") if (folder / part).is_dir()), None)
    if part is None:
        raise CbnormError(f"{folder} has train/, but neither test/ nor val/ beside it")
    classes = _classes(folder / "train")
    train = _images(folder, "train/", classes)
    _check_counts(folder / "train", classes, train, 1, "add some, or remove its folder")
    if strange := sorted(set(_classes(folder / part, fewest=0)) - set(classes)):
        raise CbnormError(f"{folder / part / strange[0]} is a class without training images")
    test = _images(folder, f"{part}/", classes)
    if not test:
        raise CbnormError(f"{folder / part} holds no images in folders of classes")
    return Layout(folder.name, tuple(classes), tuple(train), tuple(test))


def _classes(folder: Path, fewest: int = 2) -> list[str]:
    names = sorted(one.name for one in os.scandir(folder) if one.is_dir() and not one.name.startswith("."))
    if len(names) < fewest:
        raise CbnormError(f"{folder} holds {len(names)} folders of images: two classes are the least")
    return names


def _images(folder: Path, part: str, classes: list[str]) -> Items:
    from PIL import Image

    endings, found = tuple(Image.registered_extensions()), []
    for label, name in enumerate(classes):
        root = folder / part / name
        for place, inner, files in os.walk(root):
            inner[:] = [one for one in inner if not one.startswith(".")]
            images = (one for one in files if one.lower().endswith(endings) and not one.startswith("."))
            found += [((Path(place) / one).relative_to(folder).as_posix(), label) for one in images]
    return sorted(found, key=lambda item: (item[1], item[0]))


def _check_counts(folder: Path, classes: list[str], items: Items, fewest: int, cure: str) -> None:
    counts = [0] * len(classes)
    for _, label in items:
        counts[label] += 1
    for name, count in zip(classes, counts, strict=True):
        if count < fewest:
            raise CbnormError(
                f"{folder / name} holds {count} images, {fewest} or more are needed per class; {cure}"
            )
