"""The network of a finished run, as a source of activations."""

import json
from collections.abc import Callable
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from cbnorm.config.canonical import canonical, differences
from cbnorm.config.choices import needs_clusters
from cbnorm.config.compose import compose_run
from cbnorm.config.options import LATER_OPTIONS
from cbnorm.config.schema import RunConfig
from cbnorm.data.catalog import fingerprint
from cbnorm.errors import CbnormError
from cbnorm.partitions import Activations
from cbnorm.runs import weights
from cbnorm.runs.records import Record
from cbnorm.runs.store import Store

#: Options of a data set that may differ between a run and the one whose network it looks at: with the
#: others equal, the network saw neither this run's validation images nor its test images.
_FREE = frozenset({"train_images", "test_images", "augmentation", "statistics", "folder"})


def activations(
    config: RunConfig, device: torch.device, make: Callable[[RunConfig], nn.Module]
) -> Activations:
    """What enters the layer ``partition.layer`` of the network that run ``partition.run`` trained.

    Args:
        config: The run that wants them; the other one lives in the same store.
        device: Where to compute.
        make: Makes the untrained network of a config, for these images.

    Raises:
        CbnormError: There is no such run, it isn't done, it saw other images, or has no such layer.
    """
    run, layer = config.partition.run, config.partition.layer
    assert run is not None  # noqa: S101  (else there is no id of this run)
    assert layer is not None  # noqa: S101
    store = Store(config.store)
    record = store.record(run)
    if record is None or record["status"] != "done":
        raise CbnormError(
            f"partition.run={run} is no finished run in {store.root}: see cbnorm runs list store={store.root}"
        )
    theirs = _config(record, run)
    _refuse_other_task(theirs, run)
    _refuse_other_images(theirs, config, run)
    _refuse_other_files(record, config, run)
    state, network = weights.read(store.folder(run), run), make(theirs)
    try:
        network.load_state_dict(state)
        network = network.to(device).eval().requires_grad_(requires_grad=False)
        side, data = config.dataset.image_size, record["data"]
        return Activations(network, layer, (3, side, side), tuple(data["mean"]), tuple(data["std"]), run)
    except RuntimeError as error:
        raise CbnormError(f"the weights of run {run} don't fit its network: train it again") from error
    except ValueError as error:
        raise CbnormError(f"partition.layer={layer}: {error} (run {run})") from error


def config_of(record: Record) -> RunConfig:
    """The config that a record was made with, also when options have come since.

    A later option has the value under which the run is what it was; what the run doesn't read has any.

    Raises:
        CbnormError: The run is of a version whose configs mean something else.
    """
    known = compose_run([]).model_dump()
    for option, before in LATER_OPTIONS.items():
        *groups, key = option.split(".")
        place = known
        for group in groups:
            place = place[group]
        place[key] = before
    # Presets have done their work; their own options come and go.
    own = {key: value for key, value in record["config"].items() if key != "presets"}
    try:
        config = RunConfig.model_validate(_over(known, own) | {"store": ""})
    except ValidationError as error:
        raise _too_early(record) from error
    if json.loads(json.dumps(canonical(config))) != record["identity"]["config"]:
        raise _too_early(record)
    return config


def _over(known: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Nested values with others laid over them."""
    found = dict(known)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _over(found[key], value) if both else value
    return found


def _too_early(record: Record) -> CbnormError:
    return CbnormError(f"run {record['id']} comes from an earlier version: train it again")


def _config(record: Record, run: str) -> RunConfig:
    config = config_of(record)
    if needs_clusters(config.norm.name):
        raise CbnormError(
            f"partition.run={run} takes clusters itself (norm={config.norm.name}): name one of bn"
        )
    return config


def _refuse_other_task(theirs: RunConfig, run: str) -> None:
    if theirs.task.name != "classification":
        raise CbnormError(f"partition.run={run} has task={theirs.task.name}: name a run that classifies")


def _refuse_other_images(theirs: RunConfig, ours: RunConfig, run: str) -> None:
    a, b = (_images(config) for config in (theirs, ours))
    for key, (there, here) in differences(a, b).items():
        raise CbnormError(
            f"partition.run={run} was trained with dataset.{key}={there}, not {here}: "
            "it may have seen images that are held out here"
        )


def _refuse_other_files(record: Record, ours: RunConfig, run: str) -> None:
    there = record["identity"]["data"]
    if there != (here := fingerprint(ours.dataset.name, ours.dataset.folder)):
        raise CbnormError(
            f"partition.run={run} was trained on other files ({there}, not {here}): "
            "it may have seen images that are held out here"
        )


def _images(config: RunConfig) -> dict[str, Any]:
    images = {key: value for key, value in config.dataset.model_dump().items() if key not in _FREE}
    return images | {"fold": config.fold}
