"""Figures 10 and 11: distances of generated images over training, and samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.histories import runs_of, seed_of
from cbnorm.report.figures.material import Made, Material, slug
from cbnorm.report.figures.style import legend, mark
from cbnorm.report.ledger import PaperCell, read_paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {
    "fid": "FID",
    "frechet_mobilenet_v2": "Fréchet distance, MobileNetV2",
    "frechet_pixels": "Fréchet distance, pixels",
}
_FLOOR: dict[str, Any] = {"color": "#7a7f87", "linestyle": ":"}
_HOLLOW: dict[str, Any] = {"color": "#7a7f87", "marker": "o", "markerfacecolor": "none"}


def distances(material: Material) -> Made:
    """Figure 10: every distance that was measured, at the moments."""
    made = [drawing for block in material.blocks("dcgan") if (drawing := _distances(block))]
    return made or "dcgan has no runs: make reproduce-dcgan"


def _distances(block: Block) -> Drawing | None:
    metrics = [metric for metric in _TITLES if any(_measured(row, metric) for row in block.rows)]
    rows = [row for row in block.rows if runs_of(row) and row.config.norm.name in {"bn", "mn", "ucb"}]
    lines: list[Line] = [
        {
            "metric": metric,
            "row": row.label,
            "condition": cell.condition or "evaluation mode",
            "epoch": cell.epoch,
            "mean": cell.mean,
            "low": min(cell.values),
            "high": max(cell.values),
            "runs": len(cell.values),
        }
        for metric in metrics
        for row in rows
        for cell in row.at("last", metric)
        if cell.values and row.config.norm.affine
    ]
    if not lines:
        return None
    published = read_paper("dcgan") if block.budget == "full" else []
    read_off = " Thin grey lines: published FID, read within 1.5 off a plot in another repository of theirs."
    beside = read_off if published else ""
    return Drawing(
        slug("fig10", block.dataset, block.budget, block.protocol),
        f"Fig. 10: distance of generated images, {block.place}",
        "Lower is better. Filled marks: samples made in evaluation mode; hollow: by the statistics of "
        "their own batch. The dotted line, where there is one, is what as many held-out real images get. "
        "Each distance is named after its features; only FID can be set beside the paper's. "
        f"{_sizes(block, rows)}{beside}",
        "Distances by epoch: "
        + " ".join(f"{one['row']} {one['metric']} {one['epoch']}: {one['mean']:.4g}." for one in lines[-12:]),
        lines,
        lambda figure: _paint(figure, rows, metrics, published),
        (PAGE, 2.5),
    )


def _sizes(block: Block, rows: list[TableRow]) -> str:
    """How many images the distances are of, which decides how small they can be."""
    tasks = [row.config.task for row in rows]
    counts = dict.fromkeys((task.samples, task.references or block.images) for task in tasks)
    told = " or ".join(f"{samples:,} images against {references:,}" for samples, references in counts)
    return f"Every distance is of {told} training images; of fewer it would be larger."


def _measured(row: TableRow, metric: str) -> bool:
    return any(cell.values for cell in row.at("last", metric))


def _paint(figure: "Figure", rows: list[TableRow], metrics: list[str], published: list[PaperCell]) -> None:
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for row in rows:
            _curve(axis, row, metric)
        if metric == "fid":
            for label in dict.fromkeys(cell.row for cell in published):
                own = [cell for cell in published if cell.row == label]
                epochs = [int(cell.moment) for cell in own]
                axis.plot(epochs, [cell.value for cell in own], color="#9aa0a6", linewidth=0.5)
        axis.set_title(_TITLES[metric])
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylim(bottom=0)
    batch = any(cell.condition == "batch" for row in rows for cell in row.cells)
    floor = any(cell.condition == "floor" for row in rows for cell in row.cells)
    others = {"by the batch's statistics": _HOLLOW} if batch else {}
    others |= {"held-out real images": _FLOOR} if floor else {}
    legend(figure, axes[0], [row.config.norm.name for row in rows], others)


def _curve(axis: "Axes", row: TableRow, metric: str) -> None:
    cells = [cell for cell in row.at("last", metric) if cell.values]
    if not cells or not row.config.norm.affine:
        return
    look, condition = mark(row.config.norm.name), cells[0].condition
    epochs, means = [cell.epoch for cell in cells], [cell.mean or 0.0 for cell in cells]
    if condition == "floor":
        axis.plot(epochs, means, **_FLOOR)
        return
    face = "none" if condition else look.color
    axis.plot(epochs, means, **look.line, markerfacecolor=face)
    axis.vlines(epochs, [min(c.values) for c in cells], [max(c.values) for c in cells], color=look.color)


def samples(material: Material) -> Made:
    """Figure 11: the last samples of the first seed, row by row."""
    made = [drawing for block in material.blocks("dcgan") if (drawing := _samples(block, material))]
    return made or "dcgan has no grids of samples: make reproduce-dcgan"


def _samples(block: Block, material: Material) -> Drawing | None:
    shown: list[tuple[str, str, Path]] = []
    seeds: set[int] = set()
    for row in block.rows:
        runs = runs_of(row)
        folder = material.evidence.folder(runs[0]) if runs and not row.control else None
        grids = sorted(folder.glob("last_epoch*_samples.png"), key=_epoch) if folder else []
        own = [path for path in grids if "_batch_" not in path.name]
        if own:
            shown.append((row.label, runs[0], own[-1]))
            seeds.add(seed_of(row))
    if not shown:
        return None
    lines = [{"row": label, "run": run, "file": path.name} for label, run, path in shown]
    return Drawing(
        slug("fig11", block.dataset, block.budget, block.protocol),
        f"Fig. 11: samples, {block.place}",
        "Samples of the last weights in evaluation mode, from the same latent vectors for all rows of a seed "
        f"({', '.join(map(str, sorted(seeds)))}); the first 64, none chosen.",
        f"Grids of generated images of {', '.join(label for label, _, _ in shown)}.",
        lines,
        lambda figure: _grids(figure, shown),
        (PAGE, 2.65),
    )


def _epoch(path: Path) -> int:
    return int(path.name.removeprefix("last_epoch").partition("_")[0])


def _grids(figure: "Figure", shown: list[tuple[str, str, Path]]) -> None:
    from PIL import Image

    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (label, _, path) in zip(axes, shown, strict=True):
        with Image.open(path) as image:
            axis.imshow(image.convert("RGB"), interpolation="nearest")
        axis.set_title(label, pad=3)
        axis.set_axis_off()
