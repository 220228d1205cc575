"""What the paper reports: its cells, as shipped in `experiments/`."""

from cbnorm.config.choices import experiment_dir
from cbnorm.runs.files import read_table

#: (data set, row, per cent of the epochs) -> accuracy in per cent.
Cells = dict[tuple[str, str, int], float]


def read_cells(experiment: str) -> Cells:
    """The published accuracies of a table; the paper trains for 100 epochs, so its epochs are per cent.

    An experiment of our own has no ``cells.csv``, and hence no published cells.

    Raises:
        CbnormError: If the file is damaged; names the line.
    """
    path = experiment_dir(experiment) / "cells.csv"
    return dict(read_table(path, _cell)) if path.exists() else {}


def _cell(line: dict[str, str]) -> tuple[tuple[str, str, int], float]:
    accuracy = float(line["accuracy"])
    if not 0 <= accuracy <= 100:
        raise ValueError(f"accuracy {accuracy} is not per cent")
    return (line["dataset"], line["row"], int(line["epoch"])), accuracy
