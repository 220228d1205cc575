"""Figure 14: what the last layer of the ViT sees, along its principal components."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.histories import runs_of, seed_of
from cbnorm.report.figures.material import Made, Material, slug
from cbnorm.report.figures.style import FOREGROUND
from cbnorm.runs.files import read_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN, _BINS = 5, 30


def principal_components(material: Material) -> Made:
    """A figure per row of Table VII whose runs keep components; one for all readings of a run."""
    made = [
        drawing
        for block in material.blocks("table7")
        for row in {runs_of(row): row for row in reversed(block.rows)}.values()
        if (drawing := _figure(block, row, material))
    ][::-1]
    return made or "no run of table7 keeps principal components: make reproduce-table7"


def _figure(block: Block, row: TableRow, material: Material) -> Drawing | None:
    runs = runs_of(row)
    found = _components(material, runs[0], row.main[-1].epoch) if runs and row.main else None
    if found is None:
        return None
    values, explained, labels = found
    told = _clusters(material, runs[0], len(values))
    others = (_clusters(material, run, len(values)) for other in block.rows for run in runs_of(other)[:1])
    groups = told if told is not None else next((ids for ids in others if ids is not None), labels)
    lines: list[Line] = [
        {
            "component": number + 1,
            "explained": float(explained[number]),
            "mean": float(column.mean()),
            "sd": float(column.std()),
            "skewness": skewness(column),
            "excess_kurtosis": kurtosis(column),
            "between_groups": _between(column, groups),
        }
        for number, column in enumerate(values.T)
    ]
    shares = ", ".join(f"{line['between_groups']:.0%}" for line in lines)
    words = "class" if groups is labels else "superclass"
    hint = (
        "which the network was told: groups of colour are its input, not its merit."
        if told is not None
        else "which the network was not told."
    )
    return Drawing(
        slug("fig14", row.label, block.dataset, block.budget, block.protocol),
        f"Fig. 14: principal components, {row.label}, {block.place}",
        f"Features that the last linear layer sees of the test images, seed {seed_of(row)}. Diagonal: "
        "histogram, and the normal density of the same mean and deviation. Elsewhere: pairs, coloured by the "
        f"{words}, {hint} Share of each component's variance that lies between them: {shares}.",
        f"A grid of {len(lines)} by {len(lines)} panels of principal components.",
        lines,
        lambda figure: _paint(figure, values, groups),
        (PAGE, PAGE),
    )


def _components(
    material: Material, run: str, epoch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]] | None:
    """Components (n, 5), their shares of the variance (5,), and classes (n,); None if they weren't kept."""
    folder = material.evidence.folder(run)
    names = (f"components_best_epoch{epoch}", f"explained_best_epoch{epoch}", "labels")
    found = read_arrays(folder / "predictions.npz", *names) if folder else None
    if found is None:
        return None
    values, explained, labels = (found[name] for name in names)
    return values[:, :_SHOWN].astype(float), explained[:_SHOWN].astype(float), labels.astype(int)


def _clusters(material: Material, run: str, count: int) -> NDArray[np.int64] | None:
    """Ids of so many test images that a run was told, if it was."""
    folder = material.evidence.folder(run)
    found = read_arrays(folder / "clusters.npz", "test") if folder else None
    return found["test"].astype(int) if found and len(found["test"]) == count else None


def skewness(values: NDArray[np.float64]) -> float:
    """Third standardised moment.

    >>> skewness(np.array([-1.0, 0.0, 1.0]))
    0.0
    """
    centred = values - values.mean()
    return float((centred**3).mean() / max((centred**2).mean(), 1e-30) ** 1.5)


def kurtosis(values: NDArray[np.float64]) -> float:
    """Fourth standardised moment less 3, which is 0 for a normal distribution.

    >>> kurtosis(np.array([-1.0, 1.0]))
    -2.0
    """
    centred = values - values.mean()
    return float((centred**4).mean() / max((centred**2).mean(), 1e-30) ** 2 - 3)


def _between(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    means = np.array([values[groups == group].mean() for group in groups])
    return float(means.var() / max(values.var(), 1e-30))


def _paint(figure: "Figure", values: NDArray[np.float64], groups: NDArray[np.int64]) -> None:
    count = values.shape[1]
    axes = figure.subplots(count, count, squeeze=False)
    for i in range(count):
        for j in range(count):
            axis = axes[i][j]
            axis.grid(visible=False)
            axis.tick_params(labelleft=False, labelbottom=False, length=0)
            if i == j:
                _histogram(axis, values[:, i])
            else:
                looks = {"c": groups % 20, "cmap": "tab20", "s": max(0.4, 800 / len(groups))}
                axis.scatter(values[:, j], values[:, i], linewidths=0, rasterized=True, **looks)
            if i == count - 1:
                axis.set_xlabel(f"component {j + 1}")
            if j == 0:
                axis.set_ylabel(f"component {i + 1}")


def _histogram(axis: "Axes", column: NDArray[np.float64]) -> None:
    mean, sd = column.mean(), max(column.std(), 1e-12)
    axis.hist(column, bins=_BINS, density=True, color="#9aa0a6")
    at = np.linspace(column.min(), column.max(), 200)
    density = np.exp(-(((at - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))
    axis.plot(at, density, color=FOREGROUND, linewidth=0.9)
