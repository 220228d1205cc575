"""From a config to the ids of a run's images, fits remembered beside the data."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.data.images import ImageData
from cbnorm.data.sources import data_dir
from cbnorm.data.splits import Split
from cbnorm.errors import CbnormError
from cbnorm.partitions import Assignment, Cache, assign
from cbnorm.partitions.choices import counted
from cbnorm.runs.trained import activations


def splits_of(data: ImageData) -> Mapping[str, Split]:
    """The images of a run by what they are for."""
    return {"train": data.train, "val": data.val, "test": data.test}


def cache() -> Cache:
    """Where fits are remembered: ``$CBNORM_FITS_DIR``, else the folder ``partitions`` in the data folder."""
    chosen = os.environ.get("CBNORM_FITS_DIR")
    try:
        return Cache(Path(chosen).expanduser() if chosen else data_dir() / "partitions")
    except RuntimeError as error:
        raise CbnormError(f"no folder for fits ({error}): set CBNORM_FITS_DIR to a folder") from error


def partition_of(
    config: RunConfig,
    data: ImageData,
    device: torch.device,
    make_network: Callable[[RunConfig], nn.Module],
) -> Assignment | None:
    """The ids that the norm needs; None when it needs none."""
    if not needs_clusters(config.norm.name):
        return None
    found = assigned(config, data, device, make_network)
    if found.oracle:
        print(
            f"cbnorm: partition={config.partition.name} is an oracle: ids follow from the labels, "
            "those of test images too",
            file=sys.stderr,
            flush=True,
        )
    return found


def assigned(
    config: RunConfig,
    data: ImageData,
    device: torch.device,
    make_network: Callable[[RunConfig], nn.Module],
) -> Assignment:
    """The ids of a config's partition, whatever its norm.

    Args:
        config: The run.
        data: Its images.
        device: Where a trained network computes activations; all else is fitted on the CPU.
        make_network: Makes the untrained network of a config, for these images.

    Raises:
        CbnormError: Options that don't fit together, or ids that are not to be had.
    """
    options = config.partition.model_dump()
    counts = counted(options)
    network = activations(config, device, make_network) if "run" in counts else None
    try:
        return assign(
            options,
            splits_of(data),
            seed=config.seed,
            num_classes=data.num_classes,
            official=catalog.find(config.dataset.name).places,
            network=network,
            cache=cache(),
        )
    except ValueError as error:
        raise CbnormError(f"partition={config.partition.name}: {error}") from error
