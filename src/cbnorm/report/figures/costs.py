"""What accuracy costs: seconds of training, and time of the layer alone."""

from typing import TYPE_CHECKING

from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.costs import conditions, read_ratios
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.material import Made, Material, slug
from cbnorm.report.figures.style import mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What the timings call the layer that rows use; BN is what they are relative to.
_TIMED = {
    "bn": "bn",
    "mn": "mn, with EM",
    "scb": "scb",
    "scb_base": "scb_base",
    "ucb": "ucb per_channel",
    "cluster_bn": "cluster_bn",
    "conditional_bn": "conditional_bn",
    "mode": "mode",
}
#: The tensor of the timings that is that of the third layer of the shallow CNN.
_SHAPE = "256x128x8x8"


def cost_against_accuracy(material: Material) -> Made:
    """A figure per block of Table V: every run by its seconds, every row by the time of its layer."""
    made = [drawing for block in material.blocks("table5") if (drawing := _figure(block, material))]
    return made or "no run of Table V has both an accuracy and its seconds"


def _figure(block: Block, material: Material) -> Drawing | None:
    ratios = _ratios(material)
    lines = [line for row in block.rows if not row.control for line in _lines(row, material, ratios)]
    if len({line["row"] for line in lines}) < 2:
        # A single row has nothing to be compared with.
        return None
    return Drawing(
        slug("cost", block.dataset, block.budget, block.protocol),
        f"Cost against accuracy, {block.place}",
        "A mark is a run; hollow at the larger learning rate. Left: seconds of training as recorded beside "
        f"other work, which {_spread(lines)}compare no layers. Right: time of the layer alone, forward and "
        "backward, relative to batch normalization in one of the measurements of results/bench "
        f"({_SHAPE.replace('x', ' × ')}, K = 3, {_conditions(material)}own kernels).",
        f"Test accuracy against cost for {len(lines)} runs. The layer alone takes, relative to BN: "
        + ", ".join(f"{name} {ratios[layer][1]:.2f}" for name, layer in _TIMED.items() if layer in ratios)
        + ".",
        lines,
        lambda figure: _paint(figure, lines),
        (PAGE, 2.6),
    )


def _conditions(material: Material) -> str:
    try:
        return f"{conditions(material.bench / 'norms.csv', _SHAPE)}, "
    except CbnormError:
        return ""


def _spread(lines: list[Line]) -> str:
    """How much seconds differ within a row, where the same was computed."""
    times: dict[str, list[float]] = {}
    for line in lines:
        if line["training_seconds"]:
            times.setdefault(line["row"], []).append(line["training_seconds"])
    most = max((max(own) / min(own) for own in times.values()), default=1.0)
    return f"differ by up to {most:.1f} times within a row and " if most > 1.05 else ""


def _ratios(material: Material) -> dict[str, tuple[float, float, float]]:
    try:
        return read_ratios(material.bench / "norms.csv", _SHAPE)
    except CbnormError:
        return {}


def _lines(row: TableRow, material: Material, ratios: dict[str, tuple[float, float, float]]) -> list[Line]:
    cell, norm = row.main[-1], row.config.norm.name
    layer = ratios.get(_TIMED.get(norm, ""))
    return [
        {
            "row": row.label,
            "norm": norm,
            "learning_rate": row.config.optimizer.lr,
            "seed": seed,
            "run": run,
            "accuracy": value,
            "training_seconds": material.records[run].get("seconds", {}).get("training"),
            "layer_time": layer[1] if layer else None,
        }
        for seed, run, value in zip(cell.seeds, cell.runs, cell.values, strict=True)
    ]


def _paint(figure: "Figure", lines: list[Line]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    _scatter(left, lines, "training_seconds")
    _scatter(right, lines, "layer_time")
    left.set_xlabel("seconds of training per run")
    right.set_xlabel("time of the layer / time of BN")
    left.set_ylabel("test accuracy (%)")
    right.axvline(1, color=mark("bn").color, linewidth=0.6)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _scatter(axis: "Axes", lines: list[Line], key: str) -> None:
    from matplotlib.ticker import LogLocator

    slow = min(line["learning_rate"] for line in lines)
    for norm in dict.fromkeys(line["norm"] for line in lines):
        look = mark(norm)
        axis.plot([], [], look.marker, color=look.color, label=look.title)
        for line in (line for line in lines if line["norm"] == norm and line[key] is not None):
            face = look.color if line["learning_rate"] == slow else "none"
            axis.plot(line[key], line["accuracy"], look.marker, color=look.color, markerfacecolor=face)
    times = [line[key] for line in lines if line[key]]
    if times:  # a logarithmic axis without data can't be drawn
        axis.set(xscale="log", xlim=(min(times) / 1.4, max(times) * 1.4))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
