"""Curves over epochs, from the histories of runs with the same row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.blocks import TableRow
from cbnorm.report.evidence import Evidence


class Curve(NamedTuple):
    """A quantity by epoch over seeds: mean, least and largest value, and how many runs have it to the end."""

    epochs: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: int


def runs_of(row: TableRow) -> tuple[str, ...]:
    """The runs of a row, by seed."""
    return max((cell.runs for cell in row.cells), key=len, default=())


def curve(evidence: Evidence, runs: Sequence[str], *keys: str) -> Curve | None:
    """A quantity of the history over the epochs that all runs have; None if no run has it.

    Args:
        evidence: Where histories lie.
        runs: Ids of runs.
        keys: Names of the quantity, the first that a line has counts; ``-NAME`` is 100 less the value.
    """
    found = [series for run in runs if len(series := _series(evidence.history(run), keys))]
    if not found:
        return None
    length = min(len(series) for series in found)
    values = np.array([series[:length] for series in found])
    epochs = np.arange(1, length + 1)
    return Curve(epochs, values.mean(0), values.min(0), values.max(0), len(found))


def _series(history: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[float]:
    """Values by epoch, up to the first epoch without one."""
    values: list[float] = []
    for line in history:
        value = next((v for key in keys if (v := _value(line, key)) is not None), None)
        if value is None:
            break
        values.append(value)
    return values


def _value(line: dict[str, Any], key: str) -> float | None:
    value = line.get(key.removeprefix("-"))
    if value is None:
        return None
    return 100 - float(value) if key.startswith("-") else float(value)
