"""Figures 1, 2 and 9: features of test images in a plane, and distributions of channels, from looks."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.histories import runs_of
from cbnorm.report.figures.material import Made, Material, place, slug
from cbnorm.report.figures.style import FOREGROUND, MARKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = dict[str, NDArray[Any]]
Seen = list[tuple[TableRow, str, Look]]
_WANTED = ("bn", "mn", "scb_base", "scb", "ucb")


def planes(material: Material) -> Made:
    """Figure 1 (shallow CNN) and figure 9 (DenseNet): t-SNE of what the last linear layer sees."""
    made = [*_each(material, "table5", _planes("1")), *_each(material, "densenet", _planes("9"))]
    return made or "no network was looked at: make look"


def distributions(material: Material) -> Made:
    """Figure 2: values of seven channels after the replaced layer, with what was fitted to them."""
    return [*_each(material, "table5", _distributions)] or "no network was looked at: make look"


def _each(
    material: Material, experiment: str, draw: Callable[[Block, float, Seen], Drawing]
) -> Iterator[Drawing]:
    """A figure per block and learning rate."""
    for block in material.blocks(experiment):
        rows = [row for row in block.rows if not row.control]
        for rate in sorted({row.config.optimizer.lr for row in rows}):
            own = [row for row in rows if row.config.optimizer.lr == rate]
            if seen := list(_seen(own, material)):
                yield draw(block, rate, seen)


def _seen(rows: list[TableRow], material: Material) -> Iterator[tuple[TableRow, str, Look]]:
    for row in rows:
        for run in runs_of(row):
            path = material.looks / f"{run}.npz"
            if path.is_file():
                with np.load(path, allow_pickle=False) as arrays:
                    yield row, run, dict(arrays)
                break


def _missing(seen: Seen) -> str:
    there = {row.config.norm.name for row, _, _ in seen}
    lacking = [MARKS[norm].title for norm in _WANTED if norm not in there]
    return f" Not looked at yet: {', '.join(lacking)}." if lacking else ""


def _planes(number: str) -> Callable[[Block, float, Seen], Drawing]:
    def made(block: Block, rate: float, seen: Seen) -> Drawing:
        lines: list[Line] = [
            {
                "row": row.label,
                "run": run,
                "epoch": int(look["epoch"]),
                "images": len(look["labels"]),
                "silhouette_true": float(look["score_silhouette_true"]),
                "silhouette_predicted": float(look["score_silhouette_predicted"]),
                "neighbours": float(look["score_neighbours"]),
            }
            for row, run, look in seen
        ]
        return Drawing(
            slug(f"fig{number}", block.dataset, block.budget, f"{rate:g}"),
            f"Fig. {number}: what the last layer sees, {place(block)}, learning rate {rate:g}",
            f"t-SNE of the features of {lines[0]['images']:,} test images, by the weights with the best "
            "validation accuracy; those of other moments are not kept. Above coloured by the true class, "
            "below "
            "by the predicted one, as in the paper: colours of predictions always look tidier. Scores are "
            "of the "
            "features themselves, not of the plane: s, the mean silhouette, and kNN, per cent of images "
            "whose "
            f"ten nearest others vote for their class.{_missing(seen)}",
            "Scores: " + " ".join(f"{one['row']}: silhouette {one['silhouette_true']:.3f}." for one in lines),
            lines,
            lambda figure: _paint_planes(figure, seen),
            (PAGE, 3.3),
        )

    return made


def _paint_planes(figure: "Figure", seen: Seen) -> None:
    # Panels keep their size when there are few.
    axes = figure.subplots(2, max(len(seen), 4), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (row, _, look) in zip(axes.T, seen, strict=False):
        for axis, key in zip(column, ("labels", "predicted"), strict=True):
            points, classes = look["plane"].astype(float), look[key]
            colours = "tab10" if classes.max() < 10 else "tab20"
            axis.scatter(
                *points.T, c=classes % 20, cmap=colours, s=1.2, linewidths=0, rasterized=True, alpha=0.8
            )
        true, predicted = look["score_silhouette_true"], look["score_silhouette_predicted"]
        knn = float(look["score_neighbours"])
        column[0].set_title(f"{row.label}\ntrue: s {true:.2f}, kNN {knn:.0f}")
        column[1].set_title(f"predicted: s {predicted:.2f}")


def _distributions(block: Block, rate: float, seen: Seen) -> Drawing:
    lines: list[Line] = [
        {
            "row": row.label,
            "run": run,
            "channel": int(channel),
            "skewness": float(look["skewness"][channel]),
            "excess_kurtosis": float(look["kurtosis"][channel]),
            "distance_to_normal": float(look["distance"][channel]),
            "distance_to_mixture": float(look["fitted_distance"][index]),
        }
        for row, run, look in seen
        for index, channel in enumerate(look["channels"])
    ]
    medians = "; ".join(
        f"{row.label} {np.median(np.abs(look['skewness'])):.2f}, {np.median(look['kurtosis']):.2f}, "
        f"{np.median(look['distance']):.3f}"
        for row, _, look in seen
    )
    return Drawing(
        slug("fig2", block.dataset, block.budget, f"{rate:g}"),
        f"Fig. 2: distributions after the replaced layer, {place(block)}, learning rate {rate:g}",
        "Values of seven channels for a batch of 256 test images in evaluation mode: histogram, mixture of "
        "three "
        "components fitted to each channel (solid) and its components (dashed), from the 0.5th to the 99.5th "
        "percentile. g: skewness, k: excess kurtosis, D: Kolmogorov-Smirnov distance to the normal "
        "distribution "
        "of the same mean and deviation; all are 0 for a normal distribution. Medians over all channels of "
        "|g|, "
        f"k and D: {medians}.{_missing(seen)}",
        f"Histograms of channels. Medians over channels of skewness, kurtosis and distance: {medians}.",
        lines,
        lambda figure: _paint_distributions(figure, seen),
        (PAGE, 0.35 + 1.15 * len(seen)),
    )


def _paint_distributions(figure: "Figure", seen: Seen) -> None:
    axes = figure.subplots(len(seen), max(len(look["channels"]) for _, _, look in seen), squeeze=False)
    for row_axes, (row, _, look) in zip(axes, seen, strict=True):
        for index, channel in enumerate(look["channels"]):
            axis = row_axes[index]
            _channel(axis, look, index)
            numbers = (look["skewness"][channel], look["kurtosis"][channel], look["distance"][channel])
            axis.text(0.97, 0.97, "g {:.1f}\nk {:.1f}\nD {:.2f}".format(*numbers), **_corner(axis))
            if axis in axes[0]:
                axis.set_title(f"channel {channel}")
        row_axes[0].set_ylabel(row.label)


def _corner(axis: "Axes") -> dict[str, Any]:
    return {"transform": axis.transAxes, "ha": "right", "va": "top", "fontsize": 5.5}


def _channel(axis: "Axes", look: Look, index: int) -> None:
    counts, edges = look["counts"][index].astype(float), look["edges"][index].astype(float)
    shares = np.cumsum(counts) / counts.sum()
    low, high = edges[np.searchsorted(shares, 0.005)], edges[np.searchsorted(shares, 0.995) + 1]
    density = counts / counts.sum() / np.diff(edges)
    axis.stairs(density, edges, fill=True, color="#b4b9bf")
    at = np.linspace(low, high, 300)[:, None]
    weights, means, deviations = (look[key][index] for key in ("weights", "means", "deviations"))
    parts = weights * np.exp(-(((at - means) / deviations) ** 2) / 2) / (deviations * np.sqrt(2 * np.pi))
    for part, colour in zip(parts.T, ("#c0392b", "#1f77c4", "#b8860b"), strict=False):
        axis.plot(at, part, color=colour, linestyle="--", linewidth=0.7)
    axis.plot(at, parts.sum(1), color=FOREGROUND, linewidth=0.9)
    axis.set_xlim(low, high)
    within = (edges[1:] >= low) & (edges[:-1] <= high)
    # A narrow component at zero, of inputs that ReLU cut, would hide the others.
    axis.set_ylim(0, 1.5 * max(density[within].max(), 1e-12))
    axis.grid(visible=False)
    axis.tick_params(labelleft=False, left=False, labelsize=5)
