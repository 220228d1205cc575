"""What seeds and settings do on validation images, before anything is compared on test images.

An experiment with ``contrasts.csv`` gets a part of its own under its table: the spread of every row over
seeds, how rows that share seeds correlate, and for each contrast the difference with its interval and
whether it is shown to lie within a margin. No test image has a say in any of it.
"""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cbnorm.config.choices import experiment_dir
from cbnorm.report.blocks import Block
from cbnorm.report.statistics import estimate, interval, p_above, p_below
from cbnorm.runs.files import read_table

#: Seeds that two rows must share before their correlation or difference is told with an interval.
LEAST = 3
ALPHA = 0.05
_CSV = (
    "data set",
    "budget",
    "protocol",
    "a",
    "b",
    "n",
    "difference",
    "low",
    "high",
    "p",
    "margin",
    "answer",
    "runs",
)


@dataclass(frozen=True)
class Contrast:
    """Row `a` against row `b`: a difference of less than `margin` points would not matter."""

    a: str
    b: str
    margin: float
    question: str


def read_contrasts(experiment: str) -> list[Contrast]:
    """The contrasts of an experiment; none for one without ``contrasts.csv``.

    Raises:
        CbnormError: The file is damaged; names the line.
    """
    path = experiment_dir(experiment) / "contrasts.csv"
    if not path.exists():
        return []
    return read_table(
        path, lambda line: Contrast(line["a"], line["b"], float(line["margin"]), line["question"])
    )


def sd_interval(sd: float, seeds: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the standard deviation of normal values, from that of a sample.

    >>> [round(bound, 2) for bound in sd_interval(1.0, 8)]
    [0.66, 2.04]
    """
    tail = (1 - level) / 2
    low, high = stats.chi2.ppf([1 - tail, tail], seeds - 1)
    return float(sd * np.sqrt((seeds - 1) / low)), float(sd * np.sqrt((seeds - 1) / high))


def correlation_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Pearson's correlation with its 95 % interval (Fisher's transformation; four values at least)."""
    found = stats.pearsonr(first, second)
    low, high = found.confidence_interval(0.95)
    return float(found.statistic), float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """A contrast as measured: points, 95 % interval, and the p-value of "outside of the margin"."""

    contrast: Contrast
    seeds: tuple[int, ...]
    points: float | None = None
    bounds: tuple[float, float] | None = None
    p: float | None = None

    @property
    def answer(self) -> str:
        """What can be said.

        >>> Difference(Contrast("a", "b", 0.5, ""), (0, 1, 2), 0.1, (-0.2, 0.4), 0.01).answer
        'equivalent'
        """
        if self.p is None or self.bounds is None:
            return "too few seeds"
        if self.p <= ALPHA:
            return "equivalent"
        low, high = self.bounds
        return "different" if low > 0 or high < 0 else "can't be told"


def measure(contrast: Contrast, block: Block) -> Difference:
    """Compare best validation accuracies over the seeds that both rows have.

    Seeds are compared in pairs where the other rows say that it pays, see :func:`~.statistics.estimate`. A
    row that the block doesn't show has no seeds.
    """
    first, second = (_validation(block, label) for label in (contrast.a, contrast.b))
    seeds = tuple(sorted(first.keys() & second.keys()))
    if not seeds:
        return Difference(contrast, seeds)
    values = np.array([[own[seed] for seed in seeds] for own in (first, second)])
    points = float(values[0].mean() - values[1].mean())
    if len(seeds) < LEAST:
        return Difference(contrast, seeds, points)
    others = [row.validation for row in block.rows if row.label not in {contrast.a, contrast.b}]
    bystanders = [[own[seed] for seed in seeds] for own in others if set(seeds) <= own.keys()]
    found = estimate(values, [1.0, -1.0], np.array(bystanders).reshape(-1, len(seeds)))[0]
    low, high = interval(found)
    p = max(float(p_above(found, -contrast.margin)), float(p_below(found, contrast.margin)))
    return Difference(contrast, seeds, points, (float(low), float(high)), p)


def _validation(block: Block, label: str) -> dict[int, float]:
    row = block.row(label)
    return row.validation if row else {}


def markdown_part(block: Block) -> list[str]:
    """The part of a block's page; empty for an experiment without contrasts."""
    contrasts = read_contrasts(block.experiment)
    if not contrasts:
        return []
    lines = [
        "Best validation accuracy over seeds:",
        "",
        "| row | n | mean | sd (95 % interval) |",
        "|---|---|---|---|",
    ]
    for row in block.rows:
        values = list(row.validation.values())
        mean = "" if row.mean_validation is None else f"{row.mean_validation:.2f}"
        lines.append(f"| {row.label} | {len(values)} | {mean} | {_spread(values)} |")
    lines += ["", *_correlations(block), *_differences([measure(one, block) for one in contrasts])]
    return [*lines, ""]


def _spread(values: Sequence[float]) -> str:
    if len(values) < LEAST:
        return ""
    sd = float(np.std(values, ddof=1))
    low, high = sd_interval(sd, len(values))
    return f"{sd:.2f} ({low:.2f} to {high:.2f})"


def _correlations(block: Block) -> list[str]:
    """One line for every two rows that share more than :data:`LEAST` seeds."""
    found = []
    for one, other in itertools.combinations(block.rows, 2):
        seeds = sorted(one.validation.keys() & other.validation.keys())
        if len(seeds) <= LEAST:
            continue
        values = [[row.validation[seed] for seed in seeds] for row in (one, other)]
        if min(map(np.ptp, values)) == 0:
            continue
        r, low, high = correlation_interval(*values)
        found.append(f"| {one.label}, {other.label} | {len(seeds)} | {r:.2f} ({low:.2f} to {high:.2f}) |")
    head = [
        "Correlation over the seeds that two rows share:",
        "",
        "| rows | n | r (95 % interval) |",
        "|---|---|---|",
    ]
    return [*head, *found, ""] if found else []


def _differences(found: Sequence[Difference]) -> list[str]:
    lines = [
        "Differences of the best validation accuracy; equivalent: shown to be smaller than the margin by two",
        "one-sided tests at 5 % each, not corrected for the number of lines.",
        "",
        "| what | rows | n | difference (95 % interval) | margin | p | |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        bounds = f" ({one.bounds[0]:+.2f} to {one.bounds[1]:+.2f})" if one.bounds else ""
        points = "" if one.points is None else f"{one.points:+.2f}{bounds}"
        contrast, p = one.contrast, "" if one.p is None else f"{one.p:.3f}"
        lines.append(
            f"| {contrast.question} | {contrast.a} − {contrast.b} | {len(one.seeds)} | {points} "
            f"| {contrast.margin:g} | {p} | {one.answer} |"
        )
    return lines


def as_csv(blocks: Sequence[Block]) -> str:
    """The contrasts of all blocks, a line each, with the ids of the runs; empty without contrasts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for block in blocks:
        for contrast in read_contrasts(block.experiment):
            one = measure(contrast, block)
            low, high = one.bounds or (None, None)
            numbers = [_number(value) for value in (one.points, low, high, one.p)]
            runs = [run for label in (contrast.a, contrast.b) for run in _runs(block, label, one.seeds)]
            place = [block.dataset, block.budget_title, block.protocol, contrast.a, contrast.b]
            writer.writerow([*place, len(one.seeds), *numbers, contrast.margin, one.answer, " ".join(runs)])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _runs(block: Block, label: str, seeds: Sequence[int]) -> list[str]:
    row = block.row(label)
    cell = row.main[-1] if row else None
    return [run for run, seed in zip(cell.runs, cell.seeds, strict=True) if seed in seeds] if cell else []
