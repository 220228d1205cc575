"""Forest plot: how much better than batch normalization, over all tables."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cbnorm.report.blocks import Block
from cbnorm.report.endpoints import PRIMARY_METRIC
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.style import FOREGROUND, mark
from cbnorm.report.ledger import decimals
from cbnorm.report.verdicts import Verdict
from cbnorm.report.words import titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Norms of the rows that the others are compared with: AdaMatch and OxfordCNN have none at that place.
_REFERENCES = {"bn", "none"}


def forest(material: Material) -> Made:
    """Every claimed difference between one row and its reference, with its 95 % interval."""
    lines: list[Line] = [
        {"experiment": entry.found.experiment} | line
        for entry in material.entries
        for line in _lines(entry.found.blocks, entry.verdicts)
    ]
    if not lines:
        return "no claim about a reference row has runs of both sides"
    # A panel for each metric of each experiment: what is told the superclass gains ten times more.
    panels = sorted(dict.fromkeys(map(_panel_of, lines)), key=lambda panel: panel[0] != PRIMARY_METRIC)
    blocks = list(dict.fromkeys(line["block"] for line in lines))
    lines.sort(key=lambda line: (panels.index(_panel_of(line)), blocks.index(line["block"])))
    groups = [list(group) for _, group in groupby(lines, key=lambda line: (*_panel_of(line), line["block"]))]
    height = 0.5 + 0.155 * len(lines) + 0.36 * len(groups) + 0.34 * len(panels)
    single = sum(line["seeds"] < 3 for line in lines)
    alone = (
        f" {single} of {len(lines)} differences rest on one or two seeds, which give a point and no interval."
        if single
        else ""
    )
    return [
        Drawing(
            "forest",
            "Differences to batch normalization",
            "Difference of the means over seeds, positive where the paper's claim holds, with its 95 % "
            f"interval, which is not corrected for other claims.{alone} Upright bars are the published "
            "differences, single runs at the paper's full budget: not comparable with smaller budgets.",
            "Forest plot. " + " ".join(_told(line) for line in lines),
            lines,
            lambda figure: _paint(figure, groups),
            (PAGE, height),
        )
    ]


def _panel_of(line: dict[str, Any]) -> tuple[str, str]:
    return line["metric"], line["experiment"]


def _lines(blocks: list[Block], verdicts: list[Verdict]) -> Iterator[Line]:
    for told in verdicts:
        claim, difference = told.claim, told.difference
        weights = claim.weights
        if claim.kind != "difference" or len(weights) != 2 or claim.at_least or difference is None:
            continue
        block = next(
            b
            for b in blocks
            if claim.dataset in b.datasets and (b.budget, b.protocol) == (told.budget, told.protocol)
        )
        own, other = (block.row(label, claim.dataset) for label in (claim.a, claim.b))
        if own is None or other is None or other.config.norm.name not in _REFERENCES:
            continue
        yield {
            "block": f"{titled(block.experiment)}: {claim.dataset} ({block.images:,} training images), "
            f"budget {told.budget}, protocol {told.protocol}",
            "claim": claim.id,
            "row": claim.a + "".join(f" ({mark})" for mark in own.marks),
            "reference": claim.b,
            "norm": own.config.norm.name,
            "metric": claim.metric,
            "moment": claim.moment,
            "seeds": told.used or told.seeds,
            "difference": difference,
            "low": told.low,
            "high": told.high,
            "published": claim.gap,
            "margin": claim.margin,
            "verdict": told.told,
        }


def _told(line: Line) -> str:
    digits = decimals(line["margin"])
    bounds = ""
    if line["low"] is not None:
        bounds = f", interval {line['low']:+.{digits}f} to {line['high']:+.{digits}f}"
    difference = f"{line['difference']:+.{digits}f}"
    return f"{line['row']} less {line['reference']}: {difference}{bounds}, n = {line['seeds']}."


def _paint(figure: "Figure", groups: list[list[Line]]) -> None:
    panels = list(dict.fromkeys(_panel_of(group[0]) for group in groups))
    shown = [[group for group in groups if _panel_of(group[0]) == panel] for panel in panels]
    counts = [sum(map(_rows, own)) for own in shown]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axis, own, (metric, _) in zip(axes, shown, panels, strict=True):
        _panel(axis, own)
        unit = "points of accuracy" if metric == PRIMARY_METRIC else metric.replace("_", " ")
        axis.set_xlabel(f"difference in {unit}; positive: as the paper claims")


def _rows(group: list[Line]) -> float:
    return len(group) + 2.2


def _panel(axis: "Axes", groups: list[list[Line]]) -> None:
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for group in groups:
        title = axis.annotate(
            group[0]["block"], (0.01, y + 0.3), xycoords=("figure fraction", "data"), weight="bold"
        )
        # It begins above the labels, and needs no room beside them.
        title.set_in_layout(False)
        y += 1.2
        axis.plot([0, 0], [y - 0.6, y + len(group) - 0.4], color=FOREGROUND, linewidth=0.7)
        for line in group:
            # Tables that are read at several epochs make the same claim of each.
            several = len({other["moment"] for other in group}) > 1
            when = f", epoch {line['moment']}" if several else ""
            ticks.append((y, f"{line['row']} − {line['reference']}{when}  (n = {line['seeds']})"))
            _point(axis, line, y)
            y += 1
        y += 0.5
    axis.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
    axis.set_ylim(y - 0.3, -0.5)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.02 * (high - low))


def _point(axis: "Axes", line: dict[str, Any], y: float) -> None:
    look = mark(line["norm"])
    if line["low"] is not None:
        axis.plot([line["low"], line["high"]], [y, y], color=look.color, linewidth=1.6, solid_capstyle="butt")
    filled = look.color if line["seeds"] > 1 else "none"
    axis.plot(line["difference"], y, look.marker, color=look.color, markerfacecolor=filled, markersize=4.5)
    if line["published"] is not None:
        axis.plot(line["published"], y, "|", color="#7a7f87", markersize=7, markeredgewidth=1.2)
