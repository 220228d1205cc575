"""Figure 2: distributions of channels after the replaced layer, from looks."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cbnorm.report.blocks import Block
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.looks import Look, Sight, each, name_of, nothing, remarks
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.style import FOREGROUND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def distributions(material: Material) -> Made:
    """Figure 2: values of seven channels after the replaced layer, with what was fitted to them."""
    return [*each(material, "table5", _distributions)] or nothing(material)


def _distributions(block: Block, kind: str, seen: list[Sight]) -> list[Drawing]:
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
        for row, run, look, _ in seen
        for index, channel in enumerate(look["channels"])
    ]
    medians = "; ".join(
        f"{row.label} {np.nanmedian(np.abs(look['skewness'])):.2f}, {np.nanmedian(look['kurtosis']):.2f}, "
        f"{np.median(look['distance']):.3f}"
        for row, _, look, _ in seen
    )
    drawing = Drawing(
        name_of("2", block, kind),
        f"Fig. 2: distributions after the replaced layer, {block.place}, {kind}",
        "Values of seven channels for a batch of 256 test images in evaluation mode: histogram, mixture "
        "of three components fitted to each channel (solid) and its components (dashed), from the 0.5th "
        "to the 99.5th percentile. g: skewness, k: excess kurtosis, D: Kolmogorov-Smirnov distance to "
        "the normal distribution of the same mean and deviation; all are 0 for a normal distribution. "
        f"Medians over all channels of |g|, k and D: {medians}.{remarks(seen)}",
        f"Histograms of channels. Medians over channels of skewness, kurtosis and distance: {medians}.",
        lines,
        lambda figure: _paint_distributions(figure, seen),
        (PAGE, 0.35 + 1.15 * len(seen)),
    )
    return [drawing]


def _paint_distributions(figure: "Figure", seen: list[Sight]) -> None:
    axes = figure.subplots(len(seen), max(len(look["channels"]) for _, _, look, _ in seen), squeeze=False)
    for row_axes, (row, _, look, _) in zip(axes, seen, strict=True):
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
