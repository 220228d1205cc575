"""Collected blocks as files: the paper's layout, a long form, and what is written for people."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from cbnorm.report.blocks import Block, Cell, Collection
from cbnorm.report.spread import read_contrasts
from cbnorm.report.spread_part import as_csv
from cbnorm.report.words import digits_of, further_cells, markdown, mean_of, number
from cbnorm.runs.files import write_bytes

_LONG = [
    "experiment",
    "dataset",
    "training_images",
    "protocol",
    "budget",
    "row",
    "kind",
    "norm",
    "learning_rate",
    "percent",
    "epoch",
    "reading",
    "condition",
    "metric",
    "mean",
    "sd",
    "n",
    "paper",
    "difference",
    "runs",
]

_PAPER = ("data set", "budget", "protocol", "model", "learning rate", "epochs")


def write_tables(found: Collection, folder: Path) -> list[Path]:
    """Write ``NAME.csv``, ``NAME-long.csv`` and ``NAME.md``; the same records give the same bytes.

    ``NAME-contrasts.csv`` comes with them where the experiment has contrasts.
    """
    name = found.experiment
    contents = {
        f"{name}.csv": paper_layout(found.blocks),
        f"{name}-long.csv": long_form(found.blocks),
        f"{name}.md": markdown(found),
    }
    if read_contrasts(name):
        contents[f"{name}-contrasts.csv"] = as_csv(found.blocks)
    paths = []
    for file, text in contents.items():
        write_bytes(folder / file, text.encode())
        paths.append(folder / file)
    return paths


def paper_layout(blocks: Sequence[Block]) -> str:
    """One line per row: means over seeds of what the table is about; empty cells are empty."""
    percents = sorted({cell.percent for block in blocks for row in block.rows for cell in row.cells})
    further = list(dict.fromkeys(metric for block in blocks for metric in block.endpoint.further))
    metrics = {block.endpoint.metric for block in blocks}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = ["metric"] if len(metrics) > 1 else []
    writer.writerow([*_PAPER, *several, *(f"{percent} %" for percent in percents), *further])
    for block in blocks:
        for row in block.rows:
            cells = {cell.percent: cell for cell in row.main}
            epochs = "/".join(str(cell.epoch) for cell in cells.values())
            lead = [block.title, block.budget_title, block.protocol, row.title]
            values = [row.endpoint.metric] if several else []
            values += [mean_of(cells[percent]) if percent in cells else "" for percent in percents]
            values += [mean_of(cell) if cell else "" for cell in further_cells(row, further)]
            writer.writerow([*lead, f"{row.config.optimizer.lr:g}", epochs, *values])
    return text.getvalue()


def long_form(blocks: Iterable[Block]) -> str:
    """One line per cell and reading, with the paper's value for full-budget runs and the ids of the runs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_LONG)
    for block in blocks:
        for row in block.rows:
            config = row.config
            dataset = row.dataset or block.dataset
            lead = [block.experiment, dataset, block.images, block.protocol, block.budget_title]
            lead += [
                row.label,
                ", ".join(["control" if row.control else "row", *row.marks]),
                config.norm.name,
                f"{config.optimizer.lr:g}",
            ]
            writer.writerows([*lead, *_long_cell(cell)] for cell in row.cells)
    return text.getvalue()


def _long_cell(cell: Cell) -> list[object]:
    digits = digits_of(cell.metric, cell.mean if cell.values else cell.paper)
    difference = None if cell.mean is None or cell.paper is None else cell.mean - cell.paper
    numbers = [
        mean_of(cell),
        number(cell.sd, digits + 1),
        len(cell.values),
        number(cell.paper, digits_of(cell.metric, cell.paper)),
        number(difference, digits),
    ]
    place = [cell.percent, cell.epoch, cell.reading, cell.condition, cell.metric]
    return [*place, *numbers, " ".join(cell.runs)]
