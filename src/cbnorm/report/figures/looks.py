"""Figures 1, 2 and 9: features of test images in a plane, and distributions of channels, from looks."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cbnorm.data.superclasses import CIFAR100
from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.histories import runs_of
from cbnorm.report.figures.material import Made, Material, place, slug
from cbnorm.report.figures.style import FOREGROUND, MARKS
from cbnorm.runs.files import read_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Look = dict[str, NDArray[Any]]
Seen = list[tuple[TableRow, str, Look]]
#: Colours of a plane; images of a small panel, of which many fit on a page.
_COLOURS, _FEW = 20, 500
_WANTED = ("bn", "mn", "scb_base", "scb", "ucb")


def planes_of_cnn(material: Material) -> Made:
    """Figure 1: t-SNE of what the last linear layer of the shallow CNN sees."""
    return [*_each(material, "table5", partial(_planes, "1"))] or _none(material)


def planes_of_densenet(material: Material) -> Made:
    """Figure 9: t-SNE of what the last linear layer of a DenseNet sees."""
    return [*_each(material, "densenet", partial(_planes, "9"))] or _none(material)


def distributions(material: Material) -> Made:
    """Figure 2: values of seven channels after the replaced layer, with what was fitted to them."""
    return [*_each(material, "table5", _distributions)] or _none(material)


def _none(material: Material) -> str:
    others = sum(path.stem not in material.records for path in material.looks.glob("*.npz"))
    if others:
        return f"{others} looks in {material.looks} are of other runs: store=runs names those of make look"
    return "no network of these rows was looked at: make look"


def _each(
    material: Material, experiment: str, draw: Callable[[Block, str, Seen], list[Drawing]]
) -> Iterator[Drawing]:
    """Figures of every block, depth and learning rate."""
    for block in material.blocks(experiment):
        rows = [row for row in block.rows if not row.control]
        for kind in sorted({_kind(row) for row in rows}):
            own = [row for row in rows if _kind(row) == kind]
            if seen := list(_seen(own, material)):
                depth, rate = kind
                title = f"depth {depth}, learning rate {rate:g}" if depth else f"learning rate {rate:g}"
                yield from draw(block, title, seen)


def _kind(row: TableRow) -> tuple[int, float]:
    """Rows side by side have one depth (0 for networks that have but one) and one rate."""
    model = row.config.model
    return model.depth if model.name == "densenet" else 0, row.config.optimizer.lr


def _name(number: str, block: Block, kind: str) -> str:
    short = kind.replace("learning rate ", "").replace(",", "")
    return slug(f"fig{number}", block.dataset, block.budget, block.protocol, short)


def _seen(rows: list[TableRow], material: Material) -> Iterator[tuple[TableRow, str, Look]]:
    for row in rows:
        for run in runs_of(row):
            if look := read_arrays(material.looks / f"{run}.npz"):
                yield row, run, look
                break


def _missing(seen: Seen) -> str:
    there = {row.config.norm.name for row, _, _ in seen}
    lacking = [MARKS[norm].title for norm in _WANTED if norm not in there]
    return f" Not looked at yet: {', '.join(lacking)}." if lacking else ""


def _planes(number: str, block: Block, kind: str, seen: Seen) -> list[Drawing]:
    """At the end, and where networks were kept at several moments, over training."""
    lines = [line for row, run, look in seen for line in _scores(row, run, look)]
    final = [line for line in lines if line["percent"] == 100]
    name = _name(number, block, kind)
    title = f"Fig. {number}: what the last layer sees, {place(block)}, {kind}"
    basis = _basis(seen, final[0]["images"])
    drawings = [
        Drawing(
            name,
            title,
            f"{basis} Weights with the best validation accuracy. Above coloured by the true class, "
            "below by the predicted one, as in the paper: colours of predictions always look tidier."
            + _missing(seen),
            _spoken(final),
            final,
            lambda figure: _paint_planes(figure, seen),
            (PAGE, 3.3),
        )
    ]
    several = [entry for entry in seen if len(entry[2]["percents"]) > 1]
    if several:
        drawings.append(
            Drawing(
                f"{name}-moments",
                f"{title}, over training",
                f"{basis} Weights with the best validation accuracy until each moment, coloured by "
                f"the true class, the first {_FEW} images; every panel has a plane of its "
                f"own.{_missing(several)}",
                _spoken(lines),
                lines,
                lambda figure: _paint_moments(figure, several),
                (PAGE, 0.2 + 1.85 * len(several)),
            )
        )
    return drawings


def _basis(seen: Seen, images: int) -> str:
    classes = max(int(look["labels"].max()) + 1 for _, _, look in seen)
    several = f"{classes} classes, each for several"
    if _grouped(seen[0][0]):
        several = "the superclasses of classes, scores are by the classes themselves"
    colours = f" {_COLOURS} colours stand for {several}."
    return (
        f"t-SNE of the features of {images:,} test images. Scores are of the features "
        "themselves, not of the plane: s, the mean silhouette, and kNN, per cent of images whose ten "
        f"nearest others vote for their class.{colours * (classes > _COLOURS)}"
    )


def _scores(row: TableRow, run: str, look: Look) -> list[Line]:
    return [
        {
            "row": row.label,
            "run": run,
            "percent": int(look["percents"][at]),
            "epoch": int(look["epochs"][at]),
            "images": len(look["labels"]),
            "silhouette_true": float(look["score_silhouette_true"][at]),
            "silhouette_predicted": float(look["score_silhouette_predicted"][at]),
            "neighbours": float(look["score_neighbours"][at]),
        }
        for at in range(len(look["percents"]))
    ]


def _grouped(row: TableRow) -> bool:
    """Whether classes have the colour of their superclass, of which there are as many as colours."""
    return row.config.dataset.name == "cifar100"


def _spoken(lines: list[Line]) -> str:
    told = (f"{one['row']} at {one['percent']} %: silhouette {one['silhouette_true']:.3f}." for one in lines)
    return f"Scores: {' '.join(told)}"


def _paint_planes(figure: "Figure", seen: Seen) -> None:
    # Panels keep their size when there are few.
    axes = figure.subplots(2, max(len(seen), 4), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (row, run, look) in zip(axes.T, seen, strict=False):
        end = _scores(row, run, look)[-1]
        _scatter(column[0], look["plane"][-1], look["labels"], grouped=_grouped(row))
        _scatter(column[1], look["plane"][-1], look["predicted"][-1], grouped=_grouped(row))
        true, knn = end["silhouette_true"], end["neighbours"]
        # A name with its depth is wider than a panel.
        label = row.label.replace(" ", "\n", 1)
        column[0].set_title(f"{label}\ntrue: s {true:.2f}, kNN {knn:.0f}")
        column[1].set_title(f"predicted: s {end['silhouette_predicted']:.2f}")


def _paint_moments(figure: "Figure", seen: Seen) -> None:
    columns = max(len(look["percents"]) for _, _, look in seen)
    axes = figure.subplots(len(seen), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row_axes, (row, run, look) in zip(axes, seen, strict=True):
        for at, line in enumerate(_scores(row, run, look)):
            points, labels = look["plane"][at][:_FEW], look["labels"][:_FEW]
            _scatter(row_axes[at], points, labels, size=2.2, grouped=_grouped(row))
            scores = f"s {line['silhouette_true']:.2f}, kNN {line['neighbours']:.0f}"
            when = f"{line['percent']} % (epoch {line['epoch']})"
            row_axes[at].set_title(f"{row.label}\n{when}: {scores}", fontsize=6.5)


def _scatter(
    axis: "Axes", points: NDArray[Any], classes: NDArray[Any], *, size: float = 1.2, grouped: bool
) -> None:
    colours = "tab10" if classes.max() < 10 else "tab20"
    shown = np.array(CIFAR100)[classes] if grouped else classes % _COLOURS
    x, y = points.astype(float).T
    axis.scatter(x, y, c=shown, cmap=colours, s=size, linewidths=0, rasterized=True, alpha=0.8)


def _distributions(block: Block, kind: str, seen: Seen) -> list[Drawing]:
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
    drawing = Drawing(
        _name("2", block, kind),
        f"Fig. 2: distributions after the replaced layer, {place(block)}, {kind}",
        "Values of seven channels for a batch of 256 test images in evaluation mode: histogram, mixture "
        "of three components fitted to each channel (solid) and its components (dashed), from the 0.5th "
        "to the 99.5th percentile. g: skewness, k: excess kurtosis, D: Kolmogorov-Smirnov distance to "
        "the normal distribution of the same mean and deviation; all are 0 for a normal distribution. "
        f"Medians over all channels of |g|, k and D: {medians}.{_missing(seen)}",
        f"Histograms of channels. Medians over channels of skewness, kurtosis and distance: {medians}.",
        lines,
        lambda figure: _paint_distributions(figure, seen),
        (PAGE, 0.35 + 1.15 * len(seen)),
    )
    return [drawing]


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
