"""What the benchmarks share: how they are started, and how measurements are summed up and written."""

import csv
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cbnorm.machine import cpu_name

RESULTS = Path(__file__).resolve().parent.parent / "results" / "bench"


def start_with(environment: Mapping[str, str]) -> None:
    """Start this process anew unless it has these variables: allocators read them only at the start."""
    if any(os.environ.get(key) != value for key, value in environment.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict(environment))  # noqa: S606


def name_of(device: str) -> str:
    """What the machine calls this device."""
    if device == "cpu":
        return cpu_name()
    import torch

    return torch.cuda.get_device_name()


def quartiles(names: Sequence[str], values: Sequence[float], digits: int = 3) -> dict[str, str]:
    """The median and the quartiles below and above, under these three names."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return {name: f"{value:.{digits}f}" for name, value in zip(names, (middle, low, high), strict=True)}


def of_other_machines(path: Path, *machines: str) -> list[dict[str, str]]:
    """What a file of measurements has of other machines than these; rows that name none are not kept."""
    if not path.is_file():
        return []
    with path.open(encoding="utf8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("device") not in {None, *machines}]


def write_rows(
    rows: Sequence[Mapping[str, object]], path: Path, columns: Iterable[str] | None = None
) -> None:
    """All rows so far, so that an interrupted benchmark leaves what it measured."""
    with path.open("w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, list(columns or rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
