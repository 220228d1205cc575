"""A run is known by its content: what can change its numbers decides its id."""

import hashlib
import json
from typing import Any

from cbnorm.config.canonical import canonical
from cbnorm.config.schema import RunConfig
from cbnorm.data.catalog import fingerprint

#: Raised by hand whenever the code gives other numbers for the same config (a golden-loss test guards it).
NUMERICS_VERSION = 1

# Made once: thousands of ids are computed at a time.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(config: RunConfig, data: str | None = None) -> dict[str, Any]:
    """What a run's id is made from: canonical values, the data's fingerprint, the version of the numbers.

    Args:
        config: The run's config.
        data: The fingerprint; None means that of the data that are here.
    """
    return {
        "config": canonical(config),
        "data": fingerprint(config.dataset.name, config.dataset.folder) if data is None else data,
        "numerics_version": NUMERICS_VERSION,
    }


def digest(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of plain data, whatever the order of its keys.

    >>> digest({"a": 1, "b": 2.0}) == digest({"b": 2.0, "a": 1})
    True
    """
    return hashlib.sha256(_ENCODER.encode(content).encode()).hexdigest()[:12]


def run_id(config: RunConfig) -> str:
    """Id of a run: equal for configs that must give the same numbers."""
    return digest(identity(config))


def row_of(content: dict[str, Any]) -> str:
    """Id of the row that a run belongs to: all runs that differ only in the seed."""
    values = {key: value for key, value in content["config"].items() if key != "seed"}
    return digest(content | {"config": values})
