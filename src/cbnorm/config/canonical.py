"""The values of a run that can change its numbers, and nothing else."""

from typing import Any

from cbnorm.config.choices import needs_clusters, options_read, qualified
from cbnorm.config.options import LATER_OPTIONS
from cbnorm.config.schema import RunConfig
from cbnorm.partitions.choices import counted

#: Names of bundles, destinations, places of execution and what is kept: they can't change a number.
_IGNORED = {"logger", "presets", "store", "protocol", "budget", "experiment"}
#: Options of the trainer that change no number.
PLACE_OF_EXECUTION = {"accelerator", "device", "engine", "keep"}


def canonical(config: RunConfig) -> dict[str, Any]:
    """Config values that can change a run's numbers, as plain data in a fixed form.

    Two configs with equal canonical values are the same run: options that the chosen norm, model,
    optimizer and task ignore, the partition when the norm takes no clusters, names of presets, the logger,
    the place of execution and of the data are left out, and so are later options at the value that
    changes nothing (:data:`cbnorm.config.options.LATER_OPTIONS`). What another package brings along
    is called by its package and name.
    """
    values = config.model_dump(exclude=_IGNORED)
    for group, options in options_read(config).items():
        values[group] = {key: values[group][key] for key in ("name", *options)}
    values["partition"] = _partition(values["partition"], needed=needs_clusters(config.norm.name))
    for kind in ("norm", "model", "dataset"):
        values[kind]["name"] = qualified(kind, values[kind]["name"])
    values["model"]["placement"] = sorted(set(values["model"]["placement"]))
    trainer = values["trainer"]
    trainer["moments"] = sorted(set(trainer["moments"]))
    for key in PLACE_OF_EXECUTION:
        del trainer[key]
    if "readings" in values["task"]:
        values["task"]["readings"] = sorted(set(values["task"]["readings"]))
    # What lies in the folder counts, and is part of the identity as the data's fingerprint.
    del values["dataset"]["folder"]
    for option, before in LATER_OPTIONS.items():
        *groups, key = option.split(".")
        place = values
        for group in groups:
            place = place[group]
        if key in place and place[key] == before:
            del place[key]
    return values


def _partition(values: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    if not needed or values["name"] == "none":
        return {"name": "none"}
    return counted(values)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one level with dotted keys.

    >>> flatten({"optimizer": {"lr": 0.1}, "seed": 0})
    {'optimizer.lr': 0.1, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two nested dictionaries, with both values.

    >>> differences({"optimizer": {"lr": 0.1}}, {"optimizer": {"lr": 0.2}})
    {'optimizer.lr': (0.1, 0.2)}
    """
    left, right = flatten(a), flatten(b)
    keys = sorted(left.keys() | right.keys())
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}
