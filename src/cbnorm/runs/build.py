"""From a config to the parts of a run: data, partition, network, task, batches."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches
from cbnorm.data.images import ImageData, load
from cbnorm.data.streams import derived_seed
from cbnorm.partitions import Assignment
from cbnorm.runs.arguments import make_norm, model_arguments, model_factory, norm_arguments
from cbnorm.runs.partitioning import partition_of, splits_of
from cbnorm.tasks.classification import Classification


@dataclass(frozen=True)
class Parts:
    """What a run is made of; `clusters` holds the ids of every split when there is a partition."""

    data: ImageData
    partition: Assignment | None
    clusters: dict[str, Tensor]
    task: Classification
    train: Batches
    val: Batches
    test: Batches


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
    )


def norm_layer(config: RunConfig, num_features: int, num_clusters: int | None = None) -> nn.Module:
    """The layer that a config puts in place; `num_clusters` is for those that take clusters."""
    norm = config.norm
    options = norm_arguments(norm)
    if needs_clusters(norm.name):
        options["num_clusters"] = num_clusters
    return make_norm(norm.name, num_features, options)


def build_task(config: RunConfig, num_classes: int, num_clusters: int | None = None) -> Classification:
    """The network in its initial state, which depends on the seed alone, wrapped in its task."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "init"))
        model = model_factory(config.model)(
            num_classes,
            lambda features: norm_layer(config, features, num_clusters),
            config.model.placement,
            **model_arguments(config.model),
            image_size=config.dataset.image_size,
        )
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Classification(model, config.optimizer, bf16=config.trainer.precision == "bf16")


def build(config: RunConfig, device: torch.device) -> Parts:
    """Build all parts of a run."""
    data = load_data(config)
    splits = splits_of(data)
    partition = partition_of(config, data, device, lambda other: build_task(other, data.num_classes).model)
    clusters = {} if partition is None else dict(partition.ids)
    task = build_task(config, data.num_classes, None if partition is None else partition.num_clusters)

    def batches(name: str, augmentation: Augmentation | None = None) -> Batches:
        return Batches(
            splits[name],
            clusters.get(name),
            batch_size=config.trainer.batch_size,
            mean=data.mean,
            std=data.std,
            seed=config.seed,
            augmentation=augmentation,
            shuffle=name == "train",
            device=device,
            memory_format=torch.channels_last if config.trainer.channels_last else torch.contiguous_format,
        )

    a = config.dataset.augmentation
    train = batches("train", Augmentation(a.flip, a.rotation, a.zoom))
    return Parts(data, partition, clusters, task, train, batches("val"), batches("test"))
