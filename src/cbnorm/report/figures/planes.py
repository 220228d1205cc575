"""Figures 1 and 9: features of test images in a plane, from looks."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cbnorm.data.superclasses import CIFAR100
from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.looks import Look, Sight, each, name_of, nothing, remarks
from cbnorm.report.figures.material import Made, Material

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of a plane; images of a small panel, of which many fit on a page.
_COLOURS, _FEW = 20, 500


def planes_of_cnn(material: Material) -> Made:
    """Figure 1: t-SNE of what the last linear layer of the shallow CNN sees."""
    return [*each(material, "table5", partial(_planes, "1"))] or nothing(material)


def planes_of_densenet(material: Material) -> Made:
    """Figure 9: t-SNE of what the last linear layer of a DenseNet sees."""
    return [*each(material, "densenet", partial(_planes, "9"))] or nothing(material)


def _planes(number: str, block: Block, kind: str, seen: list[Sight]) -> list[Drawing]:
    """At the end, and where networks were kept at several moments, over training."""
    lines = [line for row, run, look, _ in seen for line in _scores(row, run, look)]
    final = [line for line in lines if line["percent"] == 100]
    name = name_of(number, block, kind)
    title = f"Fig. {number}: what the last layer sees, {block.place}, {kind}"
    basis = _basis(seen, final[0]["images"])
    drawings = [
        Drawing(
            name,
            title,
            f"{basis} Weights with the best validation accuracy. Above coloured by the true class, "
            "below by the predicted one, as in the paper: colours of predictions always look tidier."
            + remarks(seen),
            _spoken(final),
            final,
            lambda figure: _paint_planes(figure, seen),
            (PAGE, 3.3),
        )
    ]
    several = [one for one in seen if len(one.look["percents"]) > 1]
    if several:
        drawings.append(
            Drawing(
                f"{name}-moments",
                f"{title}, over training",
                f"{basis} Weights with the best validation accuracy until each moment, coloured by "
                f"the true class, the first {_FEW} images; every panel has a plane of its "
                f"own.{remarks(several)}",
                _spoken(lines),
                lines,
                lambda figure: _paint_moments(figure, several),
                (PAGE, 0.2 + 1.85 * len(several)),
            )
        )
    return drawings


def _basis(seen: list[Sight], images: int) -> str:
    classes = max(int(look["labels"].max()) + 1 for _, _, look, _ in seen)
    several = f"{classes} classes, each for several"
    if _grouped(seen[0].row):
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


def _paint_planes(figure: "Figure", seen: list[Sight]) -> None:
    # Panels keep their size when there are few.
    axes = figure.subplots(2, max(len(seen), 4), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (row, run, look, _) in zip(axes.T, seen, strict=False):
        end = _scores(row, run, look)[-1]
        _scatter(column[0], look["plane"][-1], look["labels"], grouped=_grouped(row))
        _scatter(column[1], look["plane"][-1], look["predicted"][-1], grouped=_grouped(row))
        true, knn = end["silhouette_true"], end["neighbours"]
        # A name with its depth is wider than a panel.
        label = row.label.replace(" ", "\n", 1)
        column[0].set_title(f"{label}\ntrue: s {true:.2f}, kNN {knn:.0f}")
        column[1].set_title(f"predicted: s {end['silhouette_predicted']:.2f}")


def _paint_moments(figure: "Figure", seen: list[Sight]) -> None:
    columns = max(len(look["percents"]) for _, _, look, _ in seen)
    axes = figure.subplots(len(seen), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row_axes, (row, run, look, _) in zip(axes, seen, strict=True):
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
