"""Figures 3 to 5: errors of the shallow CNN over training, by data set and learning rate."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.histories import curve, ended_early, runs_of
from cbnorm.report.figures.material import Made, Material, slug
from cbnorm.report.figures.style import legend, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Data sets of the paper's Fig. 3 (rate 0.001) and 4 (rate 0.005), which share the caption of Fig. 5.
_PUBLISHED = {"CIFAR-10", "CIFAR-100", "Tiny ImageNet"}


def test_errors(material: Material) -> Made:
    """A figure per block of Table V."""
    blocks = [(block, _shown(block)) for block in material.blocks("table5")]
    made = [_figure(block, rows, material.evidence) for block, rows in blocks if rows]
    return made or "Table V has no runs of the paper's rows"


def _shown(block: Block) -> list[TableRow]:
    """The paper's rows that have runs; a block may have runs of controls alone."""
    return [row for row in block.rows if not row.control and any(cell.values for cell in row.cells)]


def _figure(block: Block, rows: list[TableRow], evidence: Evidence) -> Drawing:
    rates = sorted({row.config.optimizer.lr for row in rows})
    panels = [(rate, [row for row in rows if row.config.optimizer.lr == rate]) for rate in rates]
    lines = [line for rate, own in panels for row in own for line in _lines(rate, row, evidence)]
    numbered = block.dataset in _PUBLISHED
    early = ended_early(line for line in lines if line["images"] == "validation")
    published = " Crosses are the published errors." if block.budget == "full" else ""
    seeds = sorted({len(cell.values) for row in rows for cell in row.main})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return Drawing(
        slug("fig3-5" if numbered else "errors", block.dataset, block.budget, block.protocol),
        ("Fig. 3 to 5: errors" if numbered else "Errors") + f" over training, {block.place}",
        "Lines: error on the validation images after every epoch, mean over seeds, with the range shaded. "
        "Marks: error on the test images of the weights with the best validation accuracy so far, read at "
        f"four moments only, side by side; n = {count} per row. The first epochs may lie above the axis."
        f"{published} The paper draws one line of test error and says nothing of seeds.{early}",
        f"Errors by epoch for {len(rows)} rows of Table V at learning rates "
        f"{', '.join(f'{rate:g}' for rate in rates)}.",
        lines,
        lambda figure: _paint(figure, panels, evidence),
        (PAGE, 2.7),
    )


def _lines(rate: float, row: TableRow, evidence: Evidence) -> Iterator[Line]:
    lead = {"learning_rate": rate, "row": row.label}
    found = curve(evidence, runs_of(row), "-val_accuracy")
    if found is not None:
        for epoch, mean, low, high, runs in zip(*found, strict=True):
            numbers = {"error": float(mean), "low": float(low), "high": float(high)}
            yield lead | {"epoch": int(epoch), "images": "validation"} | numbers | _rest(int(runs), None)
    for cell in row.main:
        if cell.values:
            errors = [100 - value for value in cell.values]
            numbers = {"error": float(np.mean(errors)), "low": min(errors), "high": max(errors)}
            paper = None if cell.paper is None else 100 - cell.paper
            yield lead | {"epoch": cell.epoch, "images": "test"} | numbers | _rest(len(errors), paper)


def _rest(runs: int, paper: float | None) -> Line:
    return {"runs": runs, "published": paper}


def _paint(figure: "Figure", panels: list[tuple[float, list[TableRow]]], evidence: Evidence) -> None:
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (rate, rows) in zip(axes, panels, strict=True):
        for index, row in enumerate(rows):
            # Marks of one moment stand side by side.
            shift = (index - (len(rows) - 1) / 2) * 0.013 * row.config.trainer.max_epochs
            _row(axis, row, evidence, shift)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(f"learning rate {rate:g}")
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("error (%)")
    tops = [line["error"] for rate, rows in panels for row in rows for line in _lines(rate, row, evidence)]
    # The first epochs would leave no room for the differences.
    axes[0].set_ylim(max(0.0, min(tops) - 2), float(np.quantile(tops, 0.97)) + 2)
    legend(figure, axes[0], [row.config.norm.name for _, rows in panels for row in rows])


def _row(axis: "Axes", row: TableRow, evidence: Evidence, shift: float) -> None:
    look = mark(row.config.norm.name)
    found = curve(evidence, runs_of(row), "-val_accuracy")
    if found is not None:
        axis.plot(found.epochs, found.mean, color=look.color, linestyle=look.dashes, linewidth=0.8)
        if found.runs.max() > 1:
            axis.fill_between(found.epochs, found.low, found.high, color=look.color, alpha=0.15, linewidth=0)
    cells = [cell for cell in row.main if cell.mean is not None]
    errors = [100 - (cell.mean or 0) for cell in cells]
    axis.plot([cell.epoch + shift for cell in cells], errors, look.marker, color=look.color)
    published = [(cell.epoch + shift, 100 - cell.paper) for cell in cells if cell.paper is not None]
    if published:
        axis.plot(*zip(*published, strict=True), "x", color=look.color, markersize=3)
