"""Collected blocks as files: the paper's layout, a long form, and Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from cbnorm.report.blocks import MARKS, Block, Cell, Collection, TableRow
from cbnorm.report.endpoints import PER_CENT, PRIMARY_METRIC
from cbnorm.report.spread import as_csv, markdown_part, read_contrasts
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
            values += [_mean(cells[percent]) if percent in cells else "" for percent in percents]
            values += [_mean(cell) if cell else "" for cell in _further(row, further)]
            writer.writerow([*lead, f"{row.config.optimizer.lr:g}", epochs, *values])
    return text.getvalue()


def _further(row: TableRow, metrics: Sequence[str] | None = None) -> list[Cell | None]:
    """The further metrics of a row, its own or others, at its last moment."""
    wanted = row.endpoint.further if metrics is None else metrics
    cells = [row.at(row.endpoint.weights, metric) for metric in wanted]
    return [found[-1] if found else None for found in cells]


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
    difference = None if cell.mean is None or cell.paper is None else cell.mean - cell.paper
    numbers = [
        _mean(cell),
        _number(cell.sd, 3),
        len(cell.values),
        _number(cell.paper),
        _number(difference),
    ]
    place = [cell.percent, cell.epoch, cell.reading, cell.condition, cell.metric]
    return [*place, *numbers, " ".join(cell.runs)]


def markdown(found: Collection) -> str:
    """The table for people: mean and standard deviation over seeds, what is missing and what was left out."""
    lines = [f"# {found.experiment}", ""]
    for block in found.blocks:
        lines += _markdown_block(block)
    if not found.blocks:
        lines += ["No record fills a cell yet.", ""]
    if found.left_out:
        lines += ["Records that fill no cell, or not all of theirs:", ""]
        lines += [f"- `{run}` {reason}" for run, reason in found.left_out] + [""]
    return "\n".join(lines)


def _markdown_block(block: Block) -> list[str]:
    heads = [*heads_of(block), "validation", "n"]
    lines = [
        f"## {block.title}, budget {block.budget_title}, protocol {block.protocol}",
        "",
        f"{unit(block)} (mean ± standard deviation over n seeds).",
        "",
        "| model | learning rate | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    rows = [row for row in block.rows if not row.control]
    controls = [row for row in block.rows if row.control]
    lines += [_markdown_row(row) for row in rows]
    total = sum(len(row.main) for row in rows)
    lines += ["", f"{block.empty} of {total} cells are empty.", ""]
    if controls:
        head = lines[4:6]
        lines += ["Controls, none of them the paper's:", "", *head, *map(_markdown_row, controls), ""]
    if chosen := block.chosen():
        lines += ["Chosen by validation accuracy, for each choice among the rows that have runs:", ""]
        lines += ["| choice | chosen | runs of | validation | test | n |", "|---|---|---|---|---|---|"]
        lines += [_markdown_choice(row, block) for row in chosen] + [""]
    lines += markdown_part(block)
    for sentence in explained(block):
        lines += [sentence, ""]
    if block.budget != "full":
        lines += [
            f"Budget {block.budget} is not the paper's: not comparable with the published numbers.",
            "",
        ]
    return lines


def heads_of(block: Block) -> list[str]:
    """The columns of a block that show cells, as people read them."""
    endpoint = block.endpoint
    heads = [f"{cell.percent} % (epoch {cell.epoch})" for cell in block.rows[0].main]
    return [*heads, *endpoint.further, *(["last epoch"] if endpoint.weights == "best" else [])]


def shown_cells(row: TableRow) -> list[Cell | None]:
    """The cells of a row in the order of :func:`heads_of`."""
    shown: list[Cell | None] = [*row.main, *_further(row)]
    return [*shown, row.at("last")[-1]] if row.endpoint.weights == "best" else shown


def explained(block: Block) -> list[str]:
    """What the marks on a block's rows mean."""
    used = {mark for row in block.rows for mark in row.marks}
    return [f"{mark.capitalize()}: {meaning}." for mark, meaning in MARKS.items() if mark in used]


def unit(block: Block) -> str:
    """The metric of a block with its unit and the weights that it is of."""
    endpoint = block.endpoint
    measure = " in per cent" if endpoint.metric == PRIMARY_METRIC else ""
    chosen = {"accuracy": "best validation accuracy", "loss": "smallest validation loss"}
    best = " or the ".join(chosen[word] for word in sorted({row.config.task.select for row in block.rows}))
    weights = f"the weights with the {best} so far" if endpoint.weights == "best" else "the last weights"
    return f"Test {endpoint.metric.removeprefix('test_')}{measure} of {weights}"


def _markdown_choice(row: TableRow, block: Block) -> str:
    rivals = [other for other in block.rows if other.choice == row.choice]
    tried = f"{sum(bool(other.validation) for other in rivals)} of {len(rivals)} rows"
    values = [_number(row.mean_validation), mean_sd(row.main[-1])]
    return f"| {row.choice} | {row.label} | {tried} | " + " | ".join(values) + f" | {len(row.validation)} |"


def _markdown_row(row: TableRow) -> str:
    values = [mean_sd(cell) if cell else "" for cell in shown_cells(row)]
    values += [_number(row.mean_validation)]
    mark = " (diverged)" if row.diverged else ""
    seeds = max(len(cell.values) for cell in row.main)
    return f"| {row.title}{mark} | {row.config.optimizer.lr:g} | " + " | ".join(values) + f" | {seeds} |"


def mean_sd(cell: Cell) -> str:
    """Mean and standard deviation over seeds as text; empty for an empty cell."""
    digits = digits_of(cell.metric, cell.mean)
    spread = "" if cell.sd is None else f" ± {_number(cell.sd, digits)}"
    return "" if cell.mean is None else _mean(cell) + spread


def _mean(cell: Cell) -> str:
    return _number(cell.mean, digits_of(cell.metric, cell.mean))


def digits_of(metric: str, value: float | None) -> int:
    """Decimals: two of per cent and large numbers, four of others."""
    return 2 if value is None or abs(value) >= 10 or metric in PER_CENT else 4


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
