"""What the paper reports: its cells, as shipped in `experiments/`."""

import csv

from cbnorm.config.locations import experiments_dir

#: (data set, row, per cent of the epochs) -> accuracy in per cent.
Cells = dict[tuple[str, str, int], float]


def read_cells(experiment: str) -> Cells:
    """The published accuracies of a table; the paper trains for 100 epochs, so its epochs are per cent."""
    path = experiments_dir() / experiment / "cells.csv"
    with path.open(encoding="utf8", newline="") as file:
        return {
            (line["dataset"], line["row"], int(line["epoch"])): float(line["accuracy"])
            for line in csv.DictReader(file)
        }
