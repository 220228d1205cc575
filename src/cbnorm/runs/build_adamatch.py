"""From a config to the parts of a run that adapts a classifier to a second domain."""

import torch
from torch import Tensor

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data.augment import Augmentation
from cbnorm.data.batches import Batches
from cbnorm.data.images import ImageData
from cbnorm.data.randaugment import RandAugment
from cbnorm.data.splits import Split
from cbnorm.data.views import ViewBatches
from cbnorm.errors import CbnormError
from cbnorm.runs.build import Parts, build_network, load_data
from cbnorm.runs.partitioning import partition_of
from cbnorm.tasks.adamatch import SOURCE, TARGET, AdaMatch
from cbnorm.tasks.domains import DomainReader


def build_adamatch(config: RunConfig, device: torch.device) -> Parts:
    """The parts of a run with AdaMatch; its data set is of two domains, its clusters are the domains."""
    data = load_data(config)
    partition = partition_of(config, data, device, lambda other: build_network(other, data.num_classes))
    model = build_network(config, data.num_classes, None if partition is None else partition.num_clusters)
    train = _training(config, data, device)
    task = AdaMatch(
        model,
        config.optimizer,
        config.task,
        num_classes=data.num_classes,
        epochs=config.trainer.max_epochs,
        steps=len(train) * config.trainer.max_epochs,
        clustered=partition is not None,
        bf16=config.trainer.precision == "bf16",
    )
    clusters = {} if partition is None else dict(partition.ids)
    return Parts(data, partition, clusters, task, train, _reader(config, data, device))


def domain(split: Split, number: int) -> Split:
    """The images of one domain."""
    return split.take((split.attributes["domain"] == number).nonzero()[:, 0])


def _training(config: RunConfig, data: ImageData, device: torch.device) -> ViewBatches:
    return ViewBatches(
        domain(data.train, SOURCE),
        domain(data.train, TARGET),
        batch_size=config.trainer.batch_size,
        ratio=config.task.target_ratio,
        seed=config.seed,
        weak=Augmentation(**config.dataset.augmentation.model_dump()),
        strong=RandAugment(config.task.operations, config.task.strength),
        device=device,
        memory_format=_layout(config),
    )


def _layout(config: RunConfig) -> torch.memory_format:
    return torch.channels_last if config.trainer.channels_last else torch.contiguous_format


def _reader(config: RunConfig, data: ImageData, device: torch.device) -> DomainReader:
    clustered = needs_clusters(config.norm.name)

    def batches(split: Split, cluster: int) -> Batches:
        ids: Tensor | None = torch.full_like(split.labels, cluster) if clustered else None
        # Values from 0 to 255: the network divides by 255 itself, or not.
        return Batches(
            split,
            ids,
            batch_size=config.trainer.batch_size * (1 + config.task.target_ratio),
            mean=(0.0,) * 3,
            std=(1 / 255,) * 3,
            seed=config.seed,
            shuffle=False,
            device=device,
            memory_format=_layout(config),
        )

    val, test = (_both(split, name) for name, split in (("val", data.val), ("test", data.test)))
    readings = {"": batches(test["target"], SOURCE), "source": batches(test["source"], SOURCE)}
    validation = {"": batches(val["target"], SOURCE), "source": batches(val["source"], SOURCE)}
    adapt = {}
    if clustered:
        readings["own"] = batches(test["target"], TARGET)
        validation["own"] = batches(val["target"], TARGET)
    else:
        readings |= {"adabn": readings[""], "source_adabn": readings["source"]}
        for name, number in (("adabn", TARGET), ("source_adabn", SOURCE)):
            adapt[name] = batches(_first(domain(data.train, number), config.task.adapt_images), number)
    return DomainReader(data.num_classes, validation, readings, adapt)


def _both(split: Split, name: str) -> dict[str, Split]:
    found = {kind: domain(split, number) for kind, number in (("source", SOURCE), ("target", TARGET))}
    for kind, part in found.items():
        if not len(part):
            raise CbnormError(
                f"no {name} image is of the {kind} domain: raise dataset.{name}_images={len(split)}"
            )
    return found


def _first(split: Split, count: int) -> Split:
    return split.take(torch.arange(min(count, len(split))))
