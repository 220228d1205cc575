"""Figures 6 to 8, 12 and 13: quantities of the histories, a panel each."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

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


#: Classes and superclasses of the data sets that have both.
_CLASSES = {"cifar100": (100, 20), "digits": (10, 5)}


class Panel(NamedTuple):
    """What one panel shows: a quantity of the history, of some rows.

    Attributes:
        title: Above it, and in the table of numbers.
        keys: Names of the quantity, as :func:`cbnorm.report.figures.histories.curve` takes them.
        rows: Whose.
        unit: At its axis.
        log: Whether the axis is logarithmic.
        spread: Name of a deviation that is drawn as a band instead of the range over seeds.
        levels: Lines drawn in, with their names.
    """

    title: str
    keys: tuple[str, ...]
    rows: Sequence[TableRow]
    unit: str
    log: bool = False
    spread: str = ""
    levels: tuple[tuple[float, str], ...] = ()


def densenet(material: Material) -> Made:
    """Figures 6 to 8: losses and errors of DenseNet, a row of panels per depth."""
    made = [drawing for block in material.blocks("densenet") if (drawing := _densenet(block, material))]
    return made or "densenet has no runs: make reproduce-densenet"


def _densenet(block: Block, material: Material) -> Drawing | None:
    rows = _with_runs(block.rows)
    quantities = {
        "training loss": (("train_loss",), ""),
        "training error": (("-train_accuracy",), "%"),
        "test loss": (("test_loss",), ""),
        "test error": (("-test_accuracy",), "%"),
    }
    panels = [
        Panel(f"depth {depth}, {title}", keys, [r for r in rows if r.config.model.depth == depth], unit)
        for depth in sorted({row.config.model.depth for row in rows})
        for title, (keys, unit) in quantities.items()
    ]
    caption = (
        "All rows have one schedule of the rate. The test images are read "
        "after every epoch for these curves only; nothing is selected by them."
    )
    title = f"Fig. 6 to 8: DenseNet, {block.place}"
    name = slug("fig6-8", block.dataset, block.budget, block.protocol)
    return _drawing(name, title, caption, panels, 4, material.evidence)


def gradients(material: Material) -> Made:
    """Figure 12: variance of the gradients, of summed logits as published, and of the losses."""
    blocks = [block for name in ("table6", "table6_usps") for block in material.blocks(name)]
    made = [drawing for block in blocks for drawing in _gradients(block, material)]
    return made or "table6 has no runs: make reproduce-table6"


def _gradients(block: Block, material: Material) -> list[Drawing]:
    # A run has a row for each domain, and one curve.
    rows = _with_runs([row for row in block.rows if row.dataset != "MNIST"])
    made, rate = [], rows[0].config.optimizer.lr if rows else 0.0
    for of, words in (("logits", "the sum of all logits, as in the authors' notebook"), ("loss", "the loss")):
        panels = [
            Panel(
                f"{domain}, {title}",
                (f"gradients.{of}.{domain}.{key}",),
                rows,
                "variance",
                log=True,
                spread=f"gradients.{of}.{domain}.std" if key == "mean" else "",
            )
            for domain in ("source", "target")
            for key, title in (("max", "largest tensor"), ("mean", "mean over tensors"))
        ]
        caption = (
            f"Variance over the elements of the gradient of {words}, tensor by tensor, for one weakly "
            f"augmented batch per epoch, at rate {rate:g}: the largest tensor, and the mean over tensors "
            "with a band up to one standard deviation over tensors. Bands may leave the axis."
        )
        title = f"Fig. 12: variance of gradients of the {of}, {block.place}"
        name = slug("fig12", of, block.dataset, block.budget, block.protocol)
        made.append(_drawing(name, title, caption, panels, 2, material.evidence))
    return [drawing for drawing in made if drawing]


def vit_losses(material: Material) -> Made:
    """Figure 13: losses of the ViT, with what knowing the superclass alone would give."""
    made = [drawing for block in material.blocks("table7") if (drawing := _vit(block, material))]
    return made or "table7 has no runs: make reproduce-table7"


def _vit(block: Block, material: Material) -> Drawing | None:
    rows = [row for row in _with_runs(block.rows) if row.config.norm.name in {"bn", "scb", "scb_base"}]
    levels = _levels(block)
    panels = [
        Panel("training loss", ("train_loss",), rows, "", levels=levels),
        Panel("validation loss", ("val_loss",), rows, "", levels=levels),
    ]
    caption = (
        "A network that guesses the class has the upper dotted line's loss, "
        "one that knows the superclass and guesses among its classes the lower one's: there the paper's "
        "rows that are told the superclass begin on validation images."
    )
    title = f"Fig. 13: losses of the ViT, {block.place}"
    name = slug("fig13", block.dataset, block.budget, block.protocol)
    return _drawing(name, title, caption, panels, 2, material.evidence)


def _levels(block: Block) -> tuple[tuple[float, str], ...]:
    """Losses of guessing: the class, and the class where the superclass is known."""
    if block.key not in _CLASSES:
        return ()
    classes, groups = _CLASSES[block.key]
    each = classes // groups
    return (
        (math.log(classes), f"ln {classes}: guessing the class"),
        (math.log(each), f"ln {each}: knowing the superclass"),
    )


def _with_runs(given: Sequence[TableRow]) -> list[TableRow]:
    rows = [row for row in given if not row.control and runs_of(row)]
    # Rows that read one run in several ways have one curve.
    return list({runs_of(row): row for row in reversed(rows)}.values())[::-1]


def _drawing(
    name: str, title: str, caption: str, panels: list[Panel], columns: int, evidence: Evidence
) -> Drawing | None:
    """Panels in rows of so many columns; None if no history has any of the quantities."""
    lines = [line for panel in panels for row in panel.rows for line in _lines(panel, row, evidence)]
    if not lines:
        return None
    height = 2.1 * -(-len(panels) // columns) + 0.35
    labels = dict.fromkeys(row.label for panel in panels for row in panel.rows)
    return Drawing(
        name,
        title,
        f"{caption} {_counted(lines)}{ended_early(lines)}",
        f"Curves by epoch of {', '.join(dict.fromkeys(p.title for p in panels))}, for {', '.join(labels)}.",
        lines,
        lambda figure: _paint(figure, panels, columns, evidence),
        (PAGE, height),
    )


def _counted(lines: list[Line]) -> str:
    """Of how many runs the lines are."""
    counts = sorted({line["runs"] for line in lines})
    if counts[-1] == 1:
        return "Lines are single runs."
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"Lines are means over {several} seeds, with the range shaded where no other band is named."


def _lines(panel: Panel, row: TableRow, evidence: Evidence) -> list[Line]:
    found = curve(evidence, runs_of(row), *panel.keys)
    if found is None:
        return []
    return [
        {"panel": panel.title, "row": row.label, "runs": int(runs), "epoch": int(epoch)}
        | {"mean": float(mean), "low": float(low), "high": float(high)}
        for epoch, mean, low, high, runs in zip(*found, strict=True)
    ]


def _paint(figure: "Figure", panels: list[Panel], columns: int, evidence: Evidence) -> None:
    grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True)
    for axis in grid[-1]:
        axis.set_xlabel("epoch")
    for axis, panel in zip(grid.flat, panels, strict=False):
        for row in panel.rows:
            _row(axis, panel, row, evidence)
        for level, title in panel.levels:
            axis.axhline(level, color="#7a7f87", linewidth=0.8, linestyle=(0, (1, 1)))
            where = axis.get_yaxis_transform()
            # At the right end, where losses have left it.
            axis.text(0.99, level, title, transform=where, ha="right", va="bottom", fontsize=6)
        axis.set_title(panel.title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel(panel.unit)
        axis.set_yscale("log" if panel.log else "linear")
    legend(figure, figure.axes[0], [row.config.norm.name for panel in panels for row in panel.rows])


def _row(axis: "Axes", panel: Panel, row: TableRow, evidence: Evidence) -> None:
    found = curve(evidence, runs_of(row), *panel.keys)
    if found is None:
        return
    look = mark(row.config.norm.name)
    low, high = found.low, found.high
    spread = curve(evidence, runs_of(row), panel.spread) if panel.spread else None
    if spread is not None:
        beside = dict(zip(spread.epochs, spread.mean, strict=True))
        high = found.mean + np.array([beside.get(epoch, 0.0) for epoch in found.epochs])
        low = found.mean
    if found.runs.max() > 1 or spread is not None:
        axis.fill_between(found.epochs, low, high, color=look.color, alpha=0.15, linewidth=0)
    every = max(1, len(found.epochs) // 8)
    axis.plot(found.epochs, found.mean, **look.line, linewidth=0.9, markevery=every, markersize=2.8)
