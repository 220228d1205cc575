"""Ids that are given instead of fitted: the class, an attribute of the images, a file."""

import csv
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError

Ids = dict[str, Tensor]
#: Which official split the images of each part of a run come from.
OFFICIAL = {"train": "train", "val": "train", "test": "test"}
_COLUMNS = ("split", "index", "cluster")


def attribute_ids(name: str, splits: Mapping[str, Split], option: str = "partition") -> Ids:
    """Ids of the images of every split by an attribute; ``label`` is the class.

    Args:
        name: The attribute.
        splits: Images by part of the run.
        option: What named it, for the refusal.

    Raises:
        CbnormError: The data set has no such attribute, or images without a value of it.
    """
    if name == "label":
        return {key: split.labels for key, split in splits.items()}
    known = sorted(next(iter(splits.values())).attributes)
    if name not in known:
        offered = f"choose from {', '.join(known)}" if known else "choose another partition"
        raise CbnormError(
            f"{option}={name}: the images of this data set have no attribute '{name}'; {offered}"
        )
    found = {key: split.attributes[name].long() for key, split in splits.items()}
    for key, ids in found.items():
        if len(ids) and int(ids.min()) < 0:
            raise CbnormError(f"{option}={name}: {int((ids < 0).sum())} {key} images have no {name}")
    return found


def file_ids(path: Path, splits: Mapping[str, Split], clusters: int, official: Mapping[str, int]) -> Ids:
    """Ids of the images of every split from a CSV file.

    The columns are ``split`` (``train`` or ``test``), ``index`` (the image's place in that official
    split, from 0) and ``cluster`` (0 to K-1). Validation images come from the official training images.

    Args:
        path: The file.
        splits: Images by part of the run: ``train``, ``val``, ``test``.
        clusters: Number of clusters K.
        official: Number of images in the official splits.

    Raises:
        CbnormError: The file can't be read, holds ids out of range, an image twice or one that the
            data set does not have, or lacks images of the run.
    """
    table = {name: torch.full((count,), -1, dtype=torch.int64) for name, count in official.items()}
    try:
        with path.expanduser().open(encoding="utf8", newline="") as file:
            rows = csv.reader(file, strict=True)
            order = _order(next(rows, []), path)
            for row in rows:
                if row:
                    _enter(table, [row[i] if i < len(row) else "" for i in order], clusters)
    except (OSError, RuntimeError, UnicodeDecodeError, csv.Error) as error:
        raise CbnormError(f"{path} can't be read as CSV ({error}): name a file of ids") from error
    except ValueError as error:
        raise CbnormError(f"{path}, line {rows.line_num}: {error}") from error
    found = {key: table[OFFICIAL[key]][split.indices] for key, split in splits.items()}
    for key, ids in found.items():
        if missing := int((ids < 0).sum()):
            first = int(splits[key].indices[ids < 0][0])
            raise CbnormError(
                f"{path} has no cluster for {missing} of {len(ids)} {key} images: "
                f"the first is {OFFICIAL[key]} image {first}"
            )
    return found


def _order(header: list[str], path: Path) -> list[int]:
    """Places of the columns in a row."""
    if sorted(header) != sorted(_COLUMNS):
        raise CbnormError(
            f"{path} must have the columns {', '.join(_COLUMNS)} in its first line, not {', '.join(header)}"
        )
    return [header.index(name) for name in _COLUMNS]


def _enter(table: dict[str, Tensor], values: list[str], clusters: int) -> None:
    """Note one line of a file.

    Raises:
        ValueError: What is wrong with it.
    """
    split, index, cluster = values
    if split not in table:
        raise ValueError(f"split must be {' or '.join(table)}, not '{split}'")
    if not index.isdecimal() or int(index) >= len(table[split]):
        raise ValueError(f"index must lie between 0 and {len(table[split]) - 1}, not '{index}'")
    if not cluster.isdecimal() or int(cluster) >= clusters:
        raise ValueError(
            f"cluster must lie between 0 and {clusters - 1}, not '{cluster}' (partition.clusters={clusters})"
        )
    if int(table[split][int(index)]) >= 0:
        raise ValueError(f"{split} image {index} is there twice")
    table[split][int(index)] = int(cluster)


def write_ids(path: Path, ids: Mapping[str, Tensor], splits: Mapping[str, Split]) -> None:
    """Write the ids of a run's images in the form that :func:`file_ids` reads, sorted.

    Raises:
        CbnormError: The file can't be written.
    """
    rows = sorted(
        (OFFICIAL[key], index, cluster)
        for key, split in splits.items()
        for index, cluster in zip(split.indices.tolist(), ids[key].tolist(), strict=True)
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(rows)
    except OSError as error:
        raise CbnormError(f"cannot write {path}: {error.strerror or error}; choose another out=") from error


def follows_from(ids: Tensor, labels: Tensor) -> bool:
    """Whether ids tell apart groups of classes: one id per class, and more than one in all.

    >>> follows_from(torch.tensor([0, 0, 1]), torch.tensor([5, 5, 7]))
    True
    >>> follows_from(torch.tensor([0, 1, 1]), torch.tensor([5, 5, 7]))
    False
    """
    pairs = torch.stack([labels, ids], dim=1).unique(dim=0)
    return len(pairs) == len(labels.unique()) and len(ids.unique()) > 1
