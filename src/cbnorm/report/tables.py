"""Collected blocks as files: the paper's layout, a long form, and Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from cbnorm.report.blocks import Block, Cell, Collection, TableRow
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
    "mean",
    "sd",
    "n",
    "paper",
    "difference",
    "runs",
]

_PAPER = ("data set", "budget", "protocol", "model", "learning rate", "epochs")
_READING = "Test accuracy in per cent of the weights with the best validation accuracy so far"


def write_tables(found: Collection, folder: Path) -> list[Path]:
    """Write ``NAME.csv``, ``NAME-long.csv`` and ``NAME.md``; the same records give the same bytes."""
    name = found.experiment
    contents = {
        f"{name}.csv": paper_layout(found.blocks),
        f"{name}-long.csv": long_form(found.blocks),
        f"{name}.md": markdown(found),
    }
    paths = []
    for file, text in contents.items():
        write_bytes(folder / file, text.encode())
        paths.append(folder / file)
    return paths


def paper_layout(blocks: Sequence[Block]) -> str:
    """One line per row: mean test accuracy in per cent, primary reading; empty cells are empty."""
    percents = sorted({cell.percent for block in blocks for row in block.rows for cell in row.cells})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_PAPER, *(f"{percent} %" for percent in percents)])
    for block in blocks:
        for row in block.rows:
            cells = {cell.percent: cell for cell in row.at("best")}
            epochs = "/".join(str(cell.epoch) for cell in cells.values())
            lead = [block.title, block.budget_title, block.protocol, row.label]
            values = [_number(cells[percent].mean) if percent in cells else "" for percent in percents]
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
            lead = [block.experiment, block.dataset, block.images, block.protocol, block.budget_title]
            lead += [
                row.label,
                "control" if row.control else "row",
                config.norm.name,
                f"{config.optimizer.lr:g}",
            ]
            writer.writerows([*lead, *_long_cell(cell)] for cell in row.cells)
    return text.getvalue()


def _long_cell(cell: Cell) -> list[object]:
    difference = None if cell.mean is None or cell.paper is None else cell.mean - cell.paper
    numbers = [
        _number(cell.mean),
        _number(cell.sd, 3),
        len(cell.values),
        _number(cell.paper),
        _number(difference),
    ]
    return [cell.percent, cell.epoch, cell.reading, *numbers, " ".join(cell.runs)]


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
    cells = block.rows[0].at("best")
    heads = [f"{cell.percent} % (epoch {cell.epoch})" for cell in cells]
    lines = [
        f"## {block.title}, budget {block.budget_title}, protocol {block.protocol}",
        "",
        f"{_READING} (mean ± standard deviation over n seeds).",
        "",
        "| model | learning rate | " + " | ".join(heads) + " | last epoch | validation | n |",
        "|---|---|" + "---|" * (len(heads) + 3),
    ]
    rows = [row for row in block.rows if not row.control]
    controls = [row for row in block.rows if row.control]
    lines += [_markdown_row(row) for row in rows]
    total = sum(len(row.at("best")) for row in rows)
    lines += ["", f"{block.empty} of {total} cells are empty.", ""]
    if controls:
        head = lines[4:6]
        lines += ["Controls, none of them the paper's:", "", *head, *map(_markdown_row, controls), ""]
    if chosen := block.chosen():
        lines += ["Chosen by validation accuracy, for each choice among the rows that have runs:", ""]
        lines += ["| choice | chosen | runs of | validation | test | n |", "|---|---|---|---|---|---|"]
        lines += [_markdown_choice(row, block) for row in chosen] + [""]
    if block.budget != "full":
        lines += [
            f"Budget {block.budget} is not the paper's: not comparable with the published numbers.",
            "",
        ]
    return lines


def _markdown_choice(row: TableRow, block: Block) -> str:
    rivals = [other for other in block.rows if other.choice == row.choice]
    tried = f"{sum(bool(other.validation) for other in rivals)} of {len(rivals)} rows"
    values = [_number(row.mean_validation), _mean_sd(row.at("best")[-1])]
    return f"| {row.choice} | {row.label} | {tried} | " + " | ".join(values) + f" | {len(row.validation)} |"


def _markdown_row(row: TableRow) -> str:
    best, last = row.at("best"), row.at("last")[-1]
    values = [_mean_sd(cell) for cell in (*best, last)]
    values += [_number(row.mean_validation)]
    mark = " (diverged)" if row.diverged else ""
    seeds = max(len(cell.values) for cell in best)
    return f"| {row.label}{mark} | {row.config.optimizer.lr:g} | " + " | ".join(values) + f" | {seeds} |"


def _mean_sd(cell: Cell) -> str:
    if cell.mean is None:
        return ""
    return f"{cell.mean:.2f}" + (f" ± {cell.sd:.2f}" if cell.sd is not None else "")


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
