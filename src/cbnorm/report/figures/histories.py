"""Curves over epochs, from the histories of runs with the same row."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.blocks import TableRow
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.drawing import Line


class Curve(NamedTuple):
    """A quantity by epoch over the runs that have it: mean, least and largest value, and their number."""

    epochs: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: NDArray[np.int64]


def runs_of(row: TableRow) -> tuple[str, ...]:
    """The runs of a row, by seed."""
    return max((cell.runs for cell in row.cells), key=len, default=())


def seed_of(row: TableRow) -> int:
    """The seed of the first of these runs."""
    return max(row.cells, key=lambda cell: len(cell.runs)).seeds[0]


def curve(evidence: Evidence, runs: Sequence[str], *keys: str) -> Curve | None:
    """A quantity of the history by epoch, over the runs that have it; None if no run has it.

    Runs that diverge end early, and must not hide how the others go on: see :func:`ended_early`.

    Args:
        evidence: Where histories lie.
        runs: Ids of runs.
        keys: Names of the quantity, the first that a line has counts; ``-NAME`` is 100 less the value.
    """
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for epoch, line in enumerate(evidence.history(run), start=1):
            value = next((v for key in keys if (v := _value(line, key)) is not None), None)
            if value is not None:
                by_epoch[epoch].append(value)
    if not by_epoch:
        return None
    values = [np.array(by_epoch[epoch]) for epoch in sorted(by_epoch)]
    mean, low, high = (np.array([pick(v) for v in values]) for pick in (np.mean, np.min, np.max))
    return Curve(np.array(sorted(by_epoch)), mean, low, high, np.array([len(v) for v in values]))


def ended_early(lines: Iterable[Line]) -> str:
    """A sentence for the caption about curves that go on with fewer runs; empty where all runs go on.

    Args:
        lines: Numbers of curves, with ``row`` and ``runs``, and ``panel`` where there are several.
    """
    counts: dict[tuple[Any, Any], set[Any]] = defaultdict(set)
    for line in lines:
        counts[line.get("panel"), line["row"]].add(line["runs"])
    rows = dict.fromkeys(str(row) for (_, row), runs in counts.items() if len(runs) > 1)
    told = f" Some runs of {', '.join(rows)} have no number at some epochs, or ended early as diverged:"
    return f"{told} the mean is then that of the others." if rows else ""


def _value(line: dict[str, Any], key: str) -> float | None:
    value = line.get(key.removeprefix("-"))
    if value is None:
        return None
    return 100 - float(value) if key.startswith("-") else float(value)
