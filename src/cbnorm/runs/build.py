"""From a config to the parts of a run: data, partition, network, task, batches."""

from dataclasses import dataclass

import torch
from torch import nn

from cbnorm.config.schema import CLUSTERED_NORMS, NORM_OPTIONS, RunConfig
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches, EpochSampler
from cbnorm.data.images import ImageData, load
from cbnorm.data.splits import Split
from cbnorm.data.streams import derived_seed
from cbnorm.models import MODELS
from cbnorm.norms import create_norm
from cbnorm.partitions import Partition, fit_partition
from cbnorm.tasks.classification import Classification


class ResumedSampler(EpochSampler):
    """Counts epochs from the one at which a run goes on, while Lightning counts from zero."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = self.epoch = first

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, counted from where the run goes on."""
        self.epoch = self.first + epoch


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    data: ImageData
    partition: Partition | None
    task: Classification
    train: Batches
    val: Batches
    test: Batches


def load_data(config: RunConfig) -> ImageData:
    """The images that a config names, fetched when missing."""
    d = config.dataset
    return load(
        d.name,
        image_size=d.image_size,
        train_images=d.train_images,
        val_images=d.val_images,
        test_images=d.test_images,
        split_seed=d.split_seed,
    )


def fit(config: RunConfig, data: ImageData) -> Partition | None:
    """The partition that the norm needs, fitted on the training images only; None when it needs none."""
    if config.norm.name not in CLUSTERED_NORMS:
        return None
    return fit_partition(
        config.partition.name,
        data.train.images,
        clusters=config.partition.clusters,
        seed=config.seed,
        features=config.partition.features,
    )


def norm_layer(config: RunConfig, num_features: int) -> nn.Module:
    """The layer that a config puts in place."""
    norm = config.norm
    options = {key: getattr(norm, key) for key in NORM_OPTIONS[norm.name]}
    if "components" in options:
        options["num_components"] = options.pop("components")
    if norm.name in CLUSTERED_NORMS:
        options["num_clusters"] = config.partition.clusters
    return create_norm(norm.name, num_features, **options)


def build_task(config: RunConfig, num_classes: int) -> Classification:
    """The network in its initial state, which depends on the seed alone, wrapped in its task."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "init"))
        model = MODELS[config.model.name](
            num_classes, lambda features: norm_layer(config, features), config.model.placement
        )
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Classification(model, config.optimizer, bf16=config.trainer.precision == "bf16")


def build(config: RunConfig, device: torch.device, first_epoch: int = 0) -> Parts:
    """Build all parts of a run, with training starting at an epoch (0 is the first)."""
    data = load_data(config)
    partition = fit(config, data)
    task = build_task(config, data.num_classes)

    def batches(name: str, split: Split, augmentation: Augmentation | None = None) -> Batches:
        return Batches(
            split,
            None if partition is None else partition.predict(split.images, split=name),
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
    train = batches("train", data.train, Augmentation(a.flip, a.rotation, a.zoom))
    train.sampler = ResumedSampler(first_epoch)
    return Parts(data, partition, task, train, batches("val", data.val), batches("test", data.test))
