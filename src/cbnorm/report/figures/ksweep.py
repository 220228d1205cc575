"""How the number of clusters or components matters."""

from typing import TYPE_CHECKING

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import COLUMN, Drawing, Line
from cbnorm.report.figures.material import Made, Material, place, slug
from cbnorm.report.figures.style import mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def k_sweep(material: Material) -> Made:
    """A figure per block of the experiment `k_sweep`."""
    made = [_figure(block) for block in material.blocks("k_sweep")]
    return made or "k_sweep has no runs: cbnorm reproduce k_sweep"


def count(row: TableRow) -> int:
    """K of a row: components of UCB-Norm, clusters of the partition; 1 where there are neither."""
    if row.config.norm.name == "ucb":
        return row.config.norm.components
    return row.config.partition.clusters or 1 if row.config.norm.name != "bn" else 1


def _figure(block: Block) -> Drawing:
    lines: list[Line] = [
        {
            "norm": row.config.norm.name,
            "K": count(row),
            "accuracy": cell.mean,
            "low": min(cell.values),
            "high": max(cell.values),
            "seeds": len(cell.values),
        }
        for row in block.rows
        if (cell := row.main[-1]).values
    ]
    seeds = sorted({line["seeds"] for line in lines})
    return Drawing(
        slug("k-sweep", block.dataset, block.budget, block.protocol),
        f"Number of clusters or components, {place(block)}",
        "Test accuracy of the weights with the best validation accuracy at learning rate 0.001: mean over "
        f"seeds with the range (n = {' or '.join(map(str, seeds))}). One cluster of SCB-Norm is one learned "
        "affine map; one component of UCB-Norm is batch normalization without gamma and beta.",
        "Accuracy by K. " + " ".join(f"{one['norm']} K={one['K']}: {one['accuracy']:.2f}." for one in lines),
        lines,
        lambda figure: _paint(figure, lines),
        (COLUMN, 2.4),
    )


def _paint(figure: "Figure", lines: list[Line]) -> None:
    axis = figure.subplots()
    for norm in dict.fromkeys(line["norm"] for line in lines):
        look = mark(norm)
        own = sorted((one for one in lines if one["norm"] == norm), key=lambda one: one["K"])
        if norm == "bn":
            axis.axhline(own[0]["accuracy"], color=look.color, linewidth=0.9, label=look.title)
            continue
        xs, ys = [one["K"] for one in own], [one["accuracy"] for one in own]
        axis.plot(xs, ys, **look.line, label=look.title)
        axis.vlines(xs, [one["low"] for one in own], [one["high"] for one in own], color=look.color)
    axis.set_xscale("log", base=2)
    ks = sorted({one["K"] for one in lines})
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.set(xlabel="K", ylabel="test accuracy (%)")
    figure.legend(loc="outside lower center", ncols=3)
