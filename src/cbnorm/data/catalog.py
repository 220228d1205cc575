"""What data sets exist, and how their verified content is recognised. Imports no torch.

A new data set is an entry in :mod:`cbnorm.data.known`, a reader in :mod:`cbnorm.data.images`,
and, when the files are fetched in a form of their own, a converter in
:mod:`cbnorm.data.sources`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cbnorm import plugins
from cbnorm.data import extend
from cbnorm.data.entry import DataSet
from cbnorm.data.known import KNOWN
from cbnorm.data.known_domains import DOMAINS
from cbnorm.errors import CbnormError
from cbnorm.spelling import nearest

DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {entry.key: entry for entry in (*KNOWN[:-1], *DOMAINS, *KNOWN[-1:])}
)


def find(key: str) -> DataSet:
    """Return a data set's entry.

    Raises:
        CbnormError: There is none of that name; the line offers the nearest one.

    >>> find("cifar10").name
    'CIFAR-10'
    """
    if key in DATA_SETS:
        return DATA_SETS[key]
    if key in plugins.names("dataset"):
        return extend.find(key).entry(key)
    known = [*DATA_SETS, *plugins.names("dataset")]
    raise CbnormError(f"there is no data set {key!r}; {nearest(key, known)}")


def fingerprint(key: str, folder: str | None = None) -> str:
    """Return a short checksum of a data set's verified content, without reading it.

    It is part of a run's identity: it changes only if the catalog names other content. An open
    set's comes from the files that are there, which are fetched when they are missing.

    Args:
        key: The data set's key.
        folder: The user's folder of images; only ``imagefolder`` has one.

    Raises:
        CbnormError: No such data set, or an open one that can't be had.

    >>> fingerprint("cifar10") == fingerprint("digits")
    False
    """
    entry = find(key)
    if entry.open:
        check_folder(entry, folder)
        from cbnorm.data import opensets

        return opensets.fingerprint(key, folder)
    lines = sorted(f"{name} {checksum}" for name, checksum in entry.content.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def facts(key: str, folder: str | None = None) -> DataSet:
    """Return a data set's entry, an open one's with the name, classes and counts of what is there.

    Raises:
        CbnormError: No such data set, or an open one that can't be had.

    >>> facts("mnist") == find("mnist")
    True
    """
    entry = find(key)
    if entry.open:
        check_folder(entry, folder)
        from cbnorm.data import opensets

        return opensets.find(key, folder).entry
    return entry


def check_folder(entry: DataSet, folder: str | None) -> None:
    """Refuse a data set without the folder that it needs, or with one that it doesn't read.

    Raises:
        CbnormError: One line that says which.
    """
    own = entry.open and entry.folder is None
    if own and folder is None:
        raise CbnormError(f"dataset={entry.key} needs the folder of the images: dataset.folder=PATH")
    if folder is not None and not own:
        raise CbnormError(f"dataset={entry.key} reads no dataset.folder: use dataset=imagefolder")


def divided(total: int, folds: int = 10, fold: int = 0) -> dict[str, int]:
    """Images per part of a set without an official split: one of ``folds`` parts tests, the others train.

    >>> divided(7390)
    {'train': 6651, 'test': 739}
    """
    test = total * (fold + 1) // folds - total * fold // folds
    return {"train": total - test, "test": test}


def fold_counts(entry: DataSet, folds: int | None, fold: int) -> DataSet:
    """Return an entry with the counts that a choice of folds leaves.

    Raises:
        CbnormError: A set with an official split is to be divided, or one without isn't, or impossible folds.
    """
    if not entry.divided:
        if folds is not None or fold:
            raise CbnormError(f"dataset={entry.key} has an official split: dataset.folds=null dataset.fold=0")
        return entry
    if folds is None:
        raise CbnormError(f"dataset={entry.key} has no official split here: add dataset.folds=10")
    if folds < 2 or not 0 <= fold < folds:
        raise CbnormError(f"dataset.folds={folds} dataset.fold={fold}: fold must lie between 0 and folds - 1")
    return replace(entry, counts=MappingProxyType(divided(sum(entry.counts.values()), folds, fold)))


def check_numbers(entry: DataSet, val: int, train: int | None, test: int | None, image_size: int) -> None:
    """Refuse numbers of images that a data set can't give, before anything is read.

    Raises:
        CbnormError: One line with the numbers that are possible.
    """
    if image_size < 1:
        raise CbnormError(f"image_size={image_size} is impossible: choose a positive number of pixels")
    if not entry.counts:  # of an open set, until its files are there
        return
    pool, tests = entry.counts["train"], entry.counts["test"]
    if not 0 <= val < pool:
        raise CbnormError(
            f"val_images={val} is impossible: {entry.name} has {pool} training images to take them from"
        )
    if train is not None and not 0 < train <= pool - val:
        raise CbnormError(
            f"train_images={train} is impossible: {entry.name} has {pool} training images,"
            f" {val} of them for validation; choose 1 to {pool - val}"
        )
    if test is not None and not 0 < test <= tests:
        raise CbnormError(f"test_images={test} is impossible: {entry.name} has {tests} test images")
