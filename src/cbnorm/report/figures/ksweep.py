"""How the number of clusters or components matters."""

from statistics import fmean
from typing import TYPE_CHECKING

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import COLUMN, Drawing, Line
from cbnorm.report.figures.material import Made, Material, slug
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
        {"norm": row.config.norm.name, "K": count(row), "seed": seed, "accuracy": value}
        for row in block.rows
        for seed, value in zip(row.main[-1].seeds, row.main[-1].values, strict=True)
    ]
    points = _points(lines)
    shared = [str(seed) for seed in _shared(lines)]
    seeds = f"seed{'s' * (len(shared) > 1)} {', '.join(shared)}, which all have" if shared else "all seeds"
    return Drawing(
        slug("k-sweep", block.dataset, block.budget, block.protocol),
        f"Number of clusters or components, {block.place}",
        "Test accuracy of the weights with the best validation accuracy at learning rate 0.001. Lines and "
        f"large marks: the mean over {seeds}; faint marks: every seed, of which some K have more. "
        "One cluster of SCB-Norm is one learned affine map; one component of UCB-Norm is batch normalization "
        "without gamma and beta.",
        "Accuracy by K. " + " ".join(f"{norm} K={k}: {mean:.2f}." for (norm, k), mean in points.items()),
        lines,
        lambda figure: _paint(figure, lines),
        (COLUMN, 2.4),
    )


def _shared(lines: list[Line]) -> list[int]:
    """The seeds that every norm and K has."""
    seeds: dict[tuple[str, int], set[int]] = {}
    for one in lines:
        seeds.setdefault((one["norm"], one["K"]), set()).add(one["seed"])
    return sorted(set.intersection(*seeds.values()))


def _points(lines: list[Line]) -> dict[tuple[str, int], float]:
    """Means by norm and K over the seeds that all have, without which they can't be compared."""
    shared = _shared(lines)
    values: dict[tuple[str, int], list[float]] = {}
    for one in sorted(lines, key=lambda one: (one["norm"], one["K"])):
        if not shared or one["seed"] in shared:
            values.setdefault((one["norm"], one["K"]), []).append(one["accuracy"])
    return {at: fmean(found) for at, found in values.items()}


def _paint(figure: "Figure", lines: list[Line]) -> None:
    axis = figure.subplots()
    points = _points(lines)
    for norm in dict.fromkeys(line["norm"] for line in lines):
        look = mark(norm)
        own = {k: mean for (name, k), mean in points.items() if name == norm}
        if norm == "bn":
            axis.axhline(own[1], color=look.color, linewidth=0.9, label=look.title)
            continue
        axis.plot(list(own), list(own.values()), **look.line, label=look.title)
        every = [one for one in lines if one["norm"] == norm]
        xs, ys = [one["K"] for one in every], [one["accuracy"] for one in every]
        axis.plot(xs, ys, **look.line | {"linestyle": "none", "markersize": 3, "alpha": 0.35})
    axis.set_xscale("log", base=2)
    ks = sorted({one["K"] for one in lines})
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.set(xlabel="K", ylabel="test accuracy (%)")
    figure.legend(loc="outside lower center", ncols=3)
