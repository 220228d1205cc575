"""What a claim compares, seed by seed: numbers of cells, shapes of channels, or how soon a goal is met."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cbnorm.report.blocks import Cell, TableRow
from cbnorm.report.endpoints import PRIMARY_PERCENT, epochs_to_reach
from cbnorm.report.evidence import Evidence
from cbnorm.report.statistics import Array

#: Twice the seeds of the last look; epochs of further runs are not read.
_MOST_SEEDS = 80
_ROUNDING = 1e-9

#: Values of shape (rows, count) for the first so many seeds.
Take = Callable[[int], Array]


@dataclass(frozen=True)
class Entry:
    """A row of a claim with its cell at the moment in question."""

    row: TableRow
    cell: Cell


def numbers(entries: Sequence[Entry], seeds: Sequence[int]) -> Take:
    """The numbers of the cells themselves."""
    return lambda count: np.array([entry.cell.pick(seeds[:count]) for entry in entries])


def shapes(
    entries: Sequence[Entry], measure: str, seeds: Sequence[int], evidence: Evidence
) -> tuple[list[int], Take]:
    """How channels are distributed, and the seeds whose networks were all looked at."""
    seen = {
        seed: [evidence.shape(entry.cell.pick_runs([seed])[0], measure) for entry in entries]
        for seed in seeds
    }
    complete = [seed for seed in seeds if None not in seen[seed]]
    values = np.array([seen[seed] for seed in complete], dtype=float).T
    return complete, lambda count: values[:, :count]


def epochs(
    entries: Sequence[Entry], goal: Entry, seeds: Sequence[int], evidence: Evidence
) -> tuple[list[int], Take]:
    """Epochs, in per cent of the budget, until the mean of the goal's validation accuracies is met.

    Seeds count whose runs still have their epochs, up to the most that are ever looked at.
    """
    most = [seed for seed in seeds if seed in goal.row.validation][:_MOST_SEEDS]
    complete = [s for s in most if all(evidence.history(run) for e in entries for run in _runs(e.row, [s]))]

    def take(count: int) -> Array:
        wanted = complete[:count]
        # A mean may be rounded up above all of its values.
        level = float(np.mean([goal.row.validation[seed] for seed in wanted])) - _ROUNDING
        return np.array(
            [[_share(e.row, run, level, evidence) for run in _runs(e.row, wanted)] for e in entries]
        )

    return complete, take


def moments(entries: Sequence[Entry], goal: Entry, seeds: Sequence[int]) -> Take:
    """Per cent of the budget until a distance is no larger than the mean of the goal's last ones."""

    def take(count: int) -> Array:
        wanted = seeds[:count]
        level = float(np.mean(goal.cell.pick(wanted))) + _ROUNDING
        return np.array([[_first(e.row, goal.cell.metric, seed, level) for seed in wanted] for e in entries])

    return take


def _first(row: TableRow, metric: str, seed: int, level: float) -> float:
    """The first moment with a distance of at most the level; the whole budget where there is none."""
    cells = row.at(row.endpoint.weights, metric)
    reached = (cell.percent for cell in cells if seed in cell.seeds and cell.pick([seed])[0] <= level)
    return float(next(reached, PRIMARY_PERCENT))


def _runs(row: TableRow, seeds: Sequence[int]) -> list[str]:
    cell = row.cell(PRIMARY_PERCENT)
    return cell.pick_runs(seeds) if cell else []


def _share(row: TableRow, run: str, level: float, evidence: Evidence) -> float:
    budget = row.config.trainer.max_epochs
    return 100 * epochs_to_reach(evidence.history(run), level, budget).epochs / budget
