"""How many seeds it takes to find a difference, and what spread the runs have."""

from typing import TYPE_CHECKING

import numpy as np

from cbnorm.report.endpoints import PRIMARY_METRIC
from cbnorm.report.figures.drawing import COLUMN, Drawing, Line
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.style import FOREGROUND
from cbnorm.report.ledger import read_claims
from cbnorm.report.policy import ALPHA, ASSUMED_SD, LEAST_SEEDS, POWER
from cbnorm.report.statistics import seeds_needed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Tables of Table V's network. Rows of all their data sets and budgets count.
_TABLES = ("table5", "ucb_forms", "k_sweep", "spread")
_GAPS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)
_SDS = ((0.25, (0, (1, 1))), (0.5, "-"), (1.0, (0, (5, 2))))


def seeds(material: Material) -> Made:
    """Seeds per row against the true difference, for the family of Table V's claims at its first look."""
    family = [claim for claim in read_claims("table5") if claim.family == "table5"]
    if not family or material.entry("table5") is None:
        return "there is no Table V"
    level = ALPHA / 2 / len(family)
    measured, count = _measured(material)
    sds = [*(sd for sd, _ in _SDS), *([measured] if measured else [])]
    lines: list[Line] = [
        {"difference": gap, "sd": sd, "seeds": seeds_needed(gap, sd * 2**0.5, level, wanted=POWER, most=2000)}
        for sd in sds
        for gap in _GAPS
    ]
    gaps = sorted({claim.gap for claim in family if claim.gap})
    rows = "the row that has" if count == 1 else f"the {count} rows that have"
    spread = (
        f"Crosses: the spread of the runs here, {measured:.2f}, the root of the mean variance of {rows} "
        f"{LEAST_SEEDS} seeds or more. "
        if measured
        else f"No row has {LEAST_SEEDS} seeds yet, so that the spread is assumed. "
    )
    return [
        Drawing(
            "seeds",
            "Seeds needed",
            f"Seeds per row that find a true difference between two rows with {POWER:.0%} chance, among the "
            f"{len(family)} claims of Table V's family at the first look, by the standard deviation over "
            f"seeds. {spread}Ticks above: the published differences. {ASSUMED_SD:g} was assumed when numbers "
            "of seeds were fixed.",
            "Seeds needed fall from hundreds for differences of 0.2 points to a handful for several points.",
            lines,
            lambda figure: _paint(figure, lines, measured, gaps),
            (COLUMN, 2.6),
        )
    ]


def _measured(material: Material) -> tuple[float | None, int]:
    """Root of the mean variance over rows of Table V's network with enough seeds, and their number."""
    blocks = [block for name in _TABLES for block in material.blocks(name)]
    # A run stands in several of these tables.
    cells = {row.main[-1].runs: row.main[-1] for block in blocks for row in block.rows if row.main}
    variances = [
        float(np.var(cell.values, ddof=1))
        for cell in cells.values()
        if len(cell.values) >= LEAST_SEEDS and cell.metric == PRIMARY_METRIC
    ]
    return (float(np.sqrt(np.mean(variances))) if variances else None), len(variances)


def _paint(figure: "Figure", lines: list[Line], measured: float | None, gaps: list[float]) -> None:
    axis = figure.subplots()
    for sd, dashes in _SDS:
        own = [line for line in lines if line["sd"] == sd and line["seeds"]]
        label = f"standard deviation {sd:g}"
        axis.plot(*_xy(own), linestyle=dashes, color=FOREGROUND, label=label)
    if measured:
        own = [line for line in lines if line["sd"] == measured and line["seeds"]]
        axis.plot(*_xy(own), "x", color="#c0392b", label=f"measured: {measured:.2f}")
    axis.plot(gaps, [0.97] * len(gaps), "|", color="#7a7f87", transform=axis.get_xaxis_transform())
    axis.axhline(5, color="#7a7f87", linewidth=0.6)
    axis.set(xscale="log", yscale="log", xlabel="true difference (points)", ylabel="seeds per row")
    axis.set(xlim=(0.18, 5), ylim=(2.5, 2000))
    axis.set_xticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"])
    axis.set_yticks([3, 5, 10, 30, 100, 300, 1000], ["3", "5", "10", "30", "100", "300", "1000"])
    axis.minorticks_off()
    axis.legend(loc="upper right", bbox_to_anchor=(1, 0.95))


def _xy(lines: list[Line]) -> tuple[list[float], list[int]]:
    return [line["difference"] for line in lines], [line["seeds"] for line in lines]
