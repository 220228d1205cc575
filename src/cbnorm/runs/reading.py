"""How the classifier of a run is read: what its labels are, and under which further conditions."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cbnorm.config.readings import needs_guesses, reads_by_batch
from cbnorm.config.schema import RunConfig
from cbnorm.data.batches import Batches
from cbnorm.data.images import ImageData
from cbnorm.data.splits import Split
from cbnorm.data.streams import generator
from cbnorm.errors import CbnormError
from cbnorm.partitions.given import attribute_ids
from cbnorm.runs.guesses import probabilities
from cbnorm.runs.partitioning import splits_of
from cbnorm.tasks.classification import ClassificationReader
from cbnorm.tasks.conditions import (
    Averaged,
    ByMoments,
    Condition,
    Masked,
    Told,
    groups_of_classes,
    permuted,
)

#: Of the neighbours that can be of one class, the share from which on images lie class by class.
_CLASS_BY_CLASS = 0.9


def learned(config: RunConfig, data: ImageData) -> ImageData:
    """The images with the labels that are learned: the class, or an attribute such as the superclass.

    Raises:
        CbnormError: The images have no such attribute.
    """
    if config.task.labels == "class":
        return data
    ids = attribute_ids(config.task.labels, splits_of(data), "task.labels")
    splits = {
        name: Split(split.images, ids[name], split.indices, split.attributes)
        for name, split in splits_of(data).items()
    }
    count = 1 + max(int(part.max()) for part in ids.values() if len(part))
    names = tuple(f"{config.task.labels} {k}" for k in range(count))
    train, val, test = (splits[name] for name in ("train", "val", "test"))
    return replace(data, train=train, val=val, test=test, num_classes=count, class_names=names)


def mixed(config: RunConfig, data: ImageData) -> tuple[ImageData, Tensor | None]:
    """Where images are read by the batch, those that lie class by class in another order, always the same.

    A batch of one class has other moments than any that the network was trained on.

    Returns:
        The images; and of test images in another order, where each was before in it, int64 (N,), else None.
    """
    if not reads_by_batch(config):
        return data, None
    val, test = (_order(split.labels, name) for name, split in (("val", data.val), ("test", data.test)))
    if val is not None:
        data = replace(data, val=data.val.take(val))
    if test is not None:
        data = replace(data, test=data.test.take(test))
    return data, None if test is None else test.argsort()


def _order(labels: Tensor, name: str) -> Tensor | None:
    """A random order of images that lie class by class; None for any others."""
    most = len(labels) - len(labels.unique())
    alike = int((labels[1:] == labels[:-1]).sum())
    if not most or alike < _CLASS_BY_CLASS * most:
        return None
    return torch.randperm(len(labels), generator=generator(0, f"order of {name}"))


def reader_of(
    config: RunConfig,
    data: ImageData,
    clusters: Mapping[str, Tensor],
    val: Batches,
    test: Batches,
    places: Tensor | None = None,
) -> ClassificationReader:
    """What reads a run's validation and test images.

    Args:
        config: The run.
        data: Its images.
        clusters: The ids of every split.
        val: Batches of the validation images.
        test: Batches of the test images.
        places: What :func:`mixed` says of these.

    Raises:
        CbnormError: A reading needs what isn't there.
    """
    task = config.task
    return ClassificationReader(
        data.num_classes,
        val,
        test,
        conditions(config, data, clusters),
        test_curve=task.test_curve,
        confident=task.confident,
        select=task.select,
        probabilities=task.labels != "class",
        components=task.components,
        places=places,
    )


def conditions(config: RunConfig, data: ImageData, clusters: Mapping[str, Tensor]) -> dict[str, Condition]:
    """The further readings of a run by name, see docs/table7.md and, by moments, docs/densenet.md.

    Raises:
        CbnormError: The run of the classifier of groups is missing, or groups don't follow from classes.
    """
    guesses = torch.empty(0)
    if needs_guesses(config):
        guesses, _ = probabilities(config)
        if len(guesses) != len(data.test):
            raise CbnormError(f"{len(guesses)} images have guessed ids, {len(data.test)} are tested")
    make: dict[str, Callable[[], Condition]] = {
        "unknown": lambda: Told(torch.full_like(data.test.labels, -1)),
        "predicted": lambda: Told(guesses.argmax(1)),
        "averaged": lambda: Averaged(guesses),
        "permuted": lambda: Told(permuted(clusters["test"], generator(config.seed, "permuted ids"))),
        "masked": lambda: _masked(config, data),
        "running": lambda: ByMoments("running"),
        "batch": lambda: ByMoments("batch"),
        "batch16": lambda: ByMoments("batch", most=16),
    }
    return {name: make[name]() for name in sorted(set(config.task.readings))}


def _masked(config: RunConfig, data: ImageData) -> Masked:
    ids = attribute_ids(str(config.task.group), splits_of(data), "task.group")
    labels = torch.cat([split.labels for split in splits_of(data).values()])
    try:
        groups = groups_of_classes(labels, torch.cat(list(ids.values())), data.num_classes)
    except ValueError as error:
        raise CbnormError(f"task.readings=masked: {error} (task.group={config.task.group})") from error
    return Masked(groups, ids["test"])
