"""Why a record fills no cell, or not all of its row's."""

from collections.abc import Sequence
from typing import Any

from cbnorm.config.canonical import flatten
from cbnorm.config.schema import RunConfig
from cbnorm.report.endpoints import Record
from cbnorm.runs.identity import NUMERICS_VERSION
from cbnorm.runs.moments import moment_epochs


def lacking(record: Record, config: RunConfig) -> str:
    """Which moments a record that fills cells lacks."""
    wanted = moment_epochs(config.trainer.moments, config.trainer.max_epochs)
    read = {entry["percent"] for entry in record["metrics"]["moments"]}
    ended = record["status"] == "diverged"
    missing = [percent for percent in wanted if percent not in read and not ended]
    return f"incomplete: no reading at {', '.join(f'{p} %' for p in missing)}" if missing else ""


def values_of(config: dict[str, Any]) -> dict[str, Any]:
    """Flat values of a config without its seed."""
    return {key: value for key, value in flatten(config).items() if key != "seed"}


def reason(record: Record, expected: Sequence[dict[str, Any]]) -> str:
    """Why a record fills no cell.

    Args:
        record: The record.
        expected: Flat canonical values of every row's config, without the seed.
    """
    if record["status"] == "failed":
        return f"failed: {record.get('error', {}).get('message', 'no message')}"
    version = record["identity"].get("numerics_version")
    if version != NUMERICS_VERSION:
        return f"stale: numbers of version {version}, this is {NUMERICS_VERSION}"
    own = values_of(record["identity"]["config"])
    closest = min((_different(values, own) for values in expected), key=len)
    if not closest:
        return "foreign: computed on other data"
    return "customised: " + ", ".join(f"{key}={own.get(key)} (not {value})" for key, value in closest.items())


def _different(expected: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    keys = sorted(expected.keys() | own.keys())
    return {key: expected.get(key) for key in keys if expected.get(key) != own.get(key)}
