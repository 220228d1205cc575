"""From a config to the parts of a run: data, partition, network, task, batches, reader."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches
from cbnorm.data.images import ImageData, load
from cbnorm.data.streams import derived_seed
from cbnorm.errors import CbnormError
from cbnorm.partitions import Assignment
from cbnorm.runs.arguments import make_norm, model_arguments, model_factory, norm_arguments
from cbnorm.runs.partitioning import partition_of, splits_of
from cbnorm.runs.reading import learned, mixed, reader_of
from cbnorm.runs.resume import Training
from cbnorm.tasks.base import Reader, Task
from cbnorm.tasks.classification import Classification


@dataclass(frozen=True)
class Parts:
    """What a run is made of; `clusters` holds the ids of every split when there is a partition."""

    data: ImageData
    partition: Assignment | None
    clusters: dict[str, Tensor]
    task: Task
    train: Training
    reader: Reader


def load_data(config: RunConfig) -> ImageData:
    """The images that a config names, fetched when missing."""
    d = config.dataset
    return load(
        d.name,
        folder=d.folder,
        image_size=d.image_size,
        train_images=d.train_images,
        val_images=d.val_images,
        test_images=d.test_images,
        split=d.split,
        split_seed=d.split_seed,
        statistics=d.statistics,
        folds=d.folds,
        fold=config.fold,
    )


def norm_layer(config: RunConfig, num_features: int, num_clusters: int | None = None) -> nn.Module:
    """The layer that a config puts in place; `num_clusters` is for those that take clusters."""
    norm = config.norm
    options = norm_arguments(norm)
    if needs_clusters(norm.name):
        options["num_clusters"] = num_clusters
    return make_norm(norm.name, num_features, options)


def build_network(config: RunConfig, num_classes: int, num_clusters: int | None = None) -> nn.Module:
    """A classifier in its initial state, which depends on the seed alone.

    Raises:
        CbnormError: The network has no place where the norm is to be put, or can't take images of this size.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "init"))
            model = model_factory(config.model)(
                num_classes,
                lambda features: norm_layer(config, features, num_clusters),
                config.model.placement,
                **model_arguments(config.model),
                image_size=config.dataset.image_size,
            )
    except ValueError as error:
        raise CbnormError(f"model={config.model.name}: {error}") from error
    return in_layout(model, config)


def in_layout(model: nn.Module, config: RunConfig) -> nn.Module:
    """A network in the memory layout of a config."""
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def batches_of(
    config: RunConfig,
    data: ImageData,
    name: str,
    clusters: Tensor | None,
    device: torch.device,
    augmentation: Augmentation | None = None,
) -> Batches:
    """Batches of a split: ``train`` in a new order every epoch, ``val`` and ``test`` as they are.

    A last batch of one image is left out in training: normalization has no variance to divide by there.
    """
    split, size = splits_of(data)[name], config.trainer.batch_size
    return Batches(
        split,
        clusters,
        batch_size=size,
        mean=data.mean,
        std=data.std,
        seed=config.seed,
        augmentation=augmentation,
        shuffle=name == "train",
        drop_last=name == "train" and len(split) > size and len(split) % size == 1,
        device=device,
        memory_format=torch.channels_last if config.trainer.channels_last else torch.contiguous_format,
    )


def build(config: RunConfig, device: torch.device) -> Parts:
    """Build all parts of a run."""
    return BUILDERS[config.task.name](config, device)


def build_classification(config: RunConfig, device: torch.device) -> Parts:
    """The parts of a run that learns to classify."""
    data, places = mixed(config, learned(config, load_data(config)))
    partition = partition_of(config, data, device, lambda other: build_network(other, data.num_classes))
    clusters = {} if partition is None else dict(partition.ids)
    model = build_network(config, data.num_classes, None if partition is None else partition.num_clusters)
    augmentation = Augmentation(**config.dataset.augmentation.model_dump())
    train = batches_of(config, data, "train", clusters.get("train"), device, augmentation)
    task = Classification(
        model,
        config.optimizer,
        steps=len(train) * config.trainer.max_epochs,
        bf16=config.trainer.precision == "bf16",
    )
    val, test = (batches_of(config, data, name, clusters.get(name), device) for name in ("val", "test"))
    reader = reader_of(config, data, clusters, val, test, places)
    return Parts(data, partition, clusters, task, train, reader)


def _gan(config: RunConfig, device: torch.device) -> Parts:
    from cbnorm.runs.build_gan import build_gan

    return build_gan(config, device)


def _adamatch(config: RunConfig, device: torch.device) -> Parts:
    from cbnorm.runs.build_adamatch import build_adamatch

    return build_adamatch(config, device)


#: What makes the parts of a run, by the name of its task.
BUILDERS: dict[str, Callable[[RunConfig, torch.device], Parts]] = {
    "classification": build_classification,
    "gan": _gan,
    "adamatch": _adamatch,
}
