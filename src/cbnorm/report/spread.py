"""What seeds and settings do on validation images, before anything is compared on test images.

An experiment with ``contrasts.csv`` gets a part of its own under its table: the spread of every row over
seeds, how rows that share seeds correlate, and for each contrast the difference with its interval and
whether it is shown to lie within a margin. No test image has a say in any of it.
"""

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
        if len(self.seeds) < LEAST:
            return "too few seeds"
        if self.p is None or self.bounds is None:
            return "no value varies: nothing to test"
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
    if not found.error:
        return Difference(contrast, seeds, points)
    low, high = interval(found)
    p = max(float(p_above(found, -contrast.margin)), float(p_below(found, contrast.margin)))
    return Difference(contrast, seeds, points, (float(low), float(high)), p)


def _validation(block: Block, label: str) -> dict[int, float]:
    row = block.row(label)
    return row.validation if row else {}
