"""Collected blocks for people: Markdown, and the words that tables, the report and the README share."""

from collections.abc import Sequence

from cbnorm.report.blocks import MARKS, Block, Cell, Choice, Collection, TableRow
from cbnorm.report.endpoints import PER_CENT, PRIMARY_METRIC
from cbnorm.report.spread_part import markdown_part

#: What tables of this package are about. Others go by their names.
_TITLES = {
    "cost": "Cost of the layers",
    "dcgan": "DCGAN",
    "densenet": "DenseNet",
    "k_sweep": "Numbers of clusters",
    "spread": "Spread over seeds",
    "table5": "Table V, shallow CNN",
    "table5_rates": "Table V, rates tuned for each method",
    "table6": "Table VI, MNIST to SVHN",
    "table6_usps": "Table VI's rows on MNIST to USPS",
    "table7": "Table VII, ViT",
    "table8": "Table VIII, OxfordCNN",
    "table8_sample": "Table VIII's rows on a sample of the pets",
    "uan": "DenseNets of the UAN paper",
    "ucb_forms": "Forms of UCB-Norm",
}
_METRICS = {
    "fid": "FID",
    "frechet_mobilenet_v2": "Fréchet distance of MobileNetV2's features",
    "frechet_pixels": "Fréchet distance of means of pixels",
}


def titled(experiment: str) -> str:
    """The title of a table, and the name that commands know it by.

    >>> titled("table7"), titled("mine")
    ('Table VII, ViT (table7)', 'mine')
    """
    title = _TITLES.get(experiment, "")
    return f"{title} ({experiment})" if title else experiment


def markdown(found: Collection) -> str:
    """The table for people: mean and standard deviation over seeds, what is missing and what was left out."""
    lines = [f"# {titled(found.experiment)}", ""]
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
        lines += [
            "Chosen by validation accuracy, among the rows that have runs, on the seeds that two share:",
            "",
        ]
        lines += ["| choice | chosen | runs of | validation | leads by least | test | n |", "|---" * 7 + "|"]
        lines += [*map(_markdown_choice, chosen), ""]
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
    shown: list[Cell | None] = [*row.main, *further_cells(row)]
    return [*shown, row.at("last")[-1]] if row.endpoint.weights == "best" else shown


def further_cells(row: TableRow, metrics: Sequence[str] | None = None) -> list[Cell | None]:
    """The further metrics of a row, its own or others, at its last moment."""
    wanted = row.endpoint.further if metrics is None else metrics
    cells = [row.at(row.endpoint.weights, metric) for metric in wanted]
    return [found[-1] if found else None for found in cells]


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
    metric = _METRICS.get(endpoint.metric, f"Test {endpoint.metric.removeprefix('test_')}")
    return f"{metric}{measure} of {weights}"


def _markdown_choice(choice: Choice) -> str:
    row, nearest = choice.row, choice.nearest
    lead = ""
    if nearest is not None:
        shared = len(row.validation.keys() & nearest.validation.keys())
        lead = f"{number(choice.lead)} over {nearest.label} ({shared} seed{'s' * (shared > 1)})"
    cells = [choice.name, row.label, f"{choice.tried} of {choice.rows} rows", number(row.mean_validation)]
    return f"| {' | '.join([*cells, lead, mean_sd(row.main[-1]), str(len(row.validation))])} |"


def _markdown_row(row: TableRow) -> str:
    values = [mean_sd(cell) if cell else "" for cell in shown_cells(row)]
    values += [number(row.mean_validation)]
    mark = " (diverged)" if row.diverged else ""
    seeds = max(len(cell.values) for cell in row.main)
    return f"| {row.title}{mark} | {row.config.optimizer.lr:g} | " + " | ".join(values) + f" | {seeds} |"


def mean_sd(cell: Cell) -> str:
    """Mean and standard deviation over seeds as text; empty for an empty cell."""
    digits = digits_of(cell.metric, cell.mean)
    spread = "" if cell.sd is None else f" ± {number(cell.sd, digits)}"
    return "" if cell.mean is None else mean_of(cell) + spread


def mean_of(cell: Cell) -> str:
    """Mean over seeds as text; empty for an empty cell."""
    return number(cell.mean, digits_of(cell.metric, cell.mean))


def digits_of(metric: str, value: float | None) -> int:
    """Decimals: two of per cent and large numbers, four of others."""
    return 2 if value is None or abs(value) >= 10 or metric in PER_CENT else 4


def number(value: float | None, digits: int = 2) -> str:
    """A value as text; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"
