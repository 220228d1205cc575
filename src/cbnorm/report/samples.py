"""The values that a claim compares, seed by seed, and the test of one comparison."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cbnorm.report.blocks import Block, Cell, TableRow
from cbnorm.report.bootstrap import standard_error
from cbnorm.report.endpoints import PRIMARY_METRIC, PRIMARY_PERCENT, epochs_to_reach
from cbnorm.report.evidence import SHAPES, Evidence
from cbnorm.report.ledger import Claim
from cbnorm.report.policy import BOOTSTRAP_SEEDS, directions
from cbnorm.report.statistics import Array, Estimate, estimate

#: Twice the seeds of the last look; epochs of further runs are not read.
_MOST_SEEDS = 80
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Sample:
    """Values of the compared rows for the seeds that all of them share.

    Attributes:
        claim: What is claimed of them.
        labels: The rows.
        weights: One weight per row; positive differences speak for the claim.
        seeds: The shared seeds, smallest first. Which seeds are used follows from their numbers alone.
        take: Values of shape (rows, count) for the first so many seeds.
        cells: The compared cell of every row.
        others: Rows of the same block that take no part, to decide about pairs.
        goal: The cell whose runs say what has to be reached, for a claim about speed.
    """

    claim: Claim
    labels: tuple[str, ...]
    weights: Array
    seeds: tuple[int, ...]
    take: Callable[[int], Array]
    cells: tuple[Cell, ...]
    others: tuple[Cell, ...]
    goal: Cell | None = None

    def runs(self, count: int) -> tuple[str, ...]:
        """Ids of the runs of the first so many seeds, row by row."""
        wanted = self.seeds[:count]
        cells = dict.fromkeys([*self.cells, *([self.goal] if self.goal else [])])
        return tuple(dict.fromkeys(run for cell in cells for run in cell.pick_runs(wanted)))

    def bystanders(self, count: int) -> Array:
        """Values of the other rows that have all of these seeds, shape (others, count)."""
        wanted = self.seeds[:count]
        rows = [cell.pick(wanted) for cell in self.others if set(wanted) <= set(cell.seeds)]
        return np.array(rows) if rows else np.empty((0, count))


@dataclass(frozen=True)
class Test:
    """One comparison, tested: the estimate, both p-values before correction, and how it was done."""

    found: Estimate
    supports: float
    refutes: float
    method: str


def sample(claim: Claim, block: Block, evidence: Evidence) -> Sample | str:
    """The values of a claim, or why there are none."""
    weights = claim.weights
    reference = claim.moment.removeprefix("reaching ") if claim.kind == "speed" else ""
    labels = (*weights, *([reference] if reference else []))
    rows = {label: block.row(label, claim.dataset) for label in labels}
    percent = PRIMARY_PERCENT if reference else block.endpoint.percent(claim.moment)
    # Speed is told by validation after every epoch, or by a distance at the moments, which the claim names;
    # shapes are told by looks, whatever the runs record.
    metric = "" if (reference and claim.metric == "epochs") or claim.metric in SHAPES else claim.metric
    if percent is None or metric not in {"", block.endpoint.metric, *block.endpoint.further}:
        return f"not run: no run records {claim.metric}"
    cells = {label: row.cell(percent, metric=metric) if row else None for label, row in rows.items()}
    lacking = [label for label, cell in cells.items() if cell is None or not cell.values]
    if lacking:
        return f"not run: no run of {', '.join(lacking)}"
    known = {label: cell for label, cell in cells.items() if cell is not None}
    present = {label: row for label, row in rows.items() if row is not None}
    silent = {label: _silent(present[label], cell, evidence) for label, cell in known.items()}
    # Other seeds in the place of a silent one would be a choice by outcome; smaller ones are not.
    end = min((seed for own in silent.values() for seed in own), default=math.inf)
    seeds = sorted(seed for seed in set.intersection(*(set(c.seeds) for c in known.values())) if seed < end)
    if end < math.inf and len(seeds) < claim.seeds:
        return f"runs of {', '.join(label for label, own in silent.items() if own)} diverged without a value"
    compared = tuple(known[label] for label in weights)
    others: tuple[Cell, ...] = ()
    compared_rows = [present[label] for label in weights]
    if reference and metric:
        take = _moments(compared_rows, known[reference], seeds)
    elif reference:
        seeds = _with_epochs(seeds, present[reference], compared_rows, evidence)
        take = _epochs(compared_rows, present[reference], seeds, evidence)
    elif claim.metric in SHAPES:
        seeds = [seed for seed in seeds if None not in _shapes(compared, claim.metric, seed, evidence)]
        if not seeds:
            return f"not run: no seed for which networks of {', '.join(labels)} were all looked at"
        seen = np.array([_shapes(compared, claim.metric, seed, evidence) for seed in seeds], dtype=float).T
        take = lambda count: seen[:, :count]  # noqa: E731
    else:
        take = lambda count: np.array([cell.pick(seeds[:count]) for cell in compared])  # noqa: E731
        others = tuple(_bystanders(block, claim, percent, metric, compared))
    sides = np.array(list(weights.values()))
    goal = known.get(reference)
    return Sample(claim, tuple(weights), sides, tuple(seeds), take, compared, others, goal)


def _silent(row: TableRow, cell: Cell, evidence: Evidence) -> list[int]:
    """Seeds whose runs diverged and have no value of this metric."""
    records = evidence.records.by_id
    return [int(records[run]["config"]["seed"]) for run in set(row.diverged) - set(cell.runs)]


def _bystanders(
    block: Block, claim: Claim, percent: int, metric: str, compared: Sequence[Cell]
) -> Iterator[Cell]:
    """Cells of runs that take no part, on the same data; of a run that is read in several ways the first."""
    known = {run for cell in compared for run in cell.runs}
    for row in block.rows:
        cell = row.cell(percent, metric=metric)
        same = (row.dataset or block.dataset) == claim.dataset
        if same and cell is not None and cell.values and known.isdisjoint(cell.runs):
            known |= set(cell.runs)
            yield cell


def _with_epochs(
    seeds: Sequence[int], reference: TableRow, rows: Sequence[TableRow], evidence: Evidence
) -> list[int]:
    """Seeds whose runs still have their epochs, up to the most that are ever looked at."""
    most = [seed for seed in seeds if seed in reference.validation][:_MOST_SEEDS]
    return [seed for seed in most if all(evidence.history(run) for row in rows for run in _runs(row, [seed]))]


def _epochs(
    rows: Sequence[TableRow], reference: TableRow, seeds: Sequence[int], evidence: Evidence
) -> Callable[[int], Array]:
    """Epochs, in per cent of the budget, until the mean of the reference's validation accuracies is met."""

    def take(count: int) -> Array:
        wanted = seeds[:count]
        # A mean may be rounded up above all of its values.
        goal = float(np.mean([reference.validation[seed] for seed in wanted])) - _ROUNDING
        return np.array([[_share(row, run, goal, evidence) for run in _runs(row, wanted)] for row in rows])

    return take


def _shapes(cells: Sequence[Cell], measure: str, seed: int, evidence: Evidence) -> list[float | None]:
    """How the channels of one seed's networks are distributed, as far as they were looked at."""
    return [evidence.shape(cell.pick_runs([seed])[0], measure) for cell in cells]


def _moments(rows: Sequence[TableRow], reference: Cell, seeds: Sequence[int]) -> Callable[[int], Array]:
    """Per cent of the budget until a distance is no larger than the mean of the reference's last ones."""

    def take(count: int) -> Array:
        wanted = seeds[:count]
        goal = float(np.mean(reference.pick(wanted))) + _ROUNDING
        return np.array([[_first(row, reference.metric, seed, goal) for seed in wanted] for row in rows])

    return take


def _first(row: TableRow, metric: str, seed: int, goal: float) -> float:
    """The first moment with a distance of at most the goal; the whole budget where there is none."""
    cells = row.at(row.endpoint.weights, metric)
    reached = (cell.percent for cell in cells if seed in cell.seeds and cell.pick([seed])[0] <= goal)
    return float(next(reached, PRIMARY_PERCENT))


def _runs(row: TableRow, seeds: Sequence[int]) -> list[str]:
    cell = row.cell(PRIMARY_PERCENT)
    return cell.pick_runs(seeds) if cell else []


def _share(row: TableRow, run: str, goal: float, evidence: Evidence) -> float:
    budget = row.config.trainer.max_epochs
    return 100 * epochs_to_reach(evidence.history(run), goal, budget).epochs / budget


def test(taken: Sample, count: int, evidence: Evidence) -> Test:
    """Test a comparison on its first so many seeds.

    Args:
        taken: The values.
        count: How many seeds.
        evidence: Where predictions lie, for the bootstrap.
    """
    values = taken.take(count)
    found, pairs = estimate(values, taken.weights, taken.bystanders(count))
    method = "t, in pairs" if pairs else "t, Welch"
    if count >= BOOTSTRAP_SEEDS and taken.claim.kind != "speed" and taken.claim.metric == PRIMARY_METRIC:
        correct = _predictions(taken, count, evidence)
        if correct:
            error = standard_error(correct, list(taken.weights), together=bool(pairs))
            found = Estimate(found.difference, np.asarray(error), found.freedom)
            method = method.replace("t,", "bootstrap over seeds and images,")
        else:
            method += ", predictions missing"
    claim = taken.claim
    for_it, against = directions(found, claim.margin, claim.at_least, equivalence=claim.kind == "equivalence")
    return Test(found, float(for_it), float(against), method)


def _predictions(taken: Sample, count: int, evidence: Evidence) -> list[np.ndarray]:
    """Per row which test images every seed got right; nothing if any of it is missing."""
    rows = []
    for cell in taken.cells:
        found = [
            evidence.correct(run, cell.epoch, cell.reading, cell.condition)
            for run in cell.pick_runs(taken.seeds[:count])
        ]
        present = [flags for flags in found if flags is not None]
        if len(present) < count or len({flags.size for flags in present}) > 1:
            return []
        rows.append(np.stack(present))
    return rows if len({row.shape[1] for row in rows}) == 1 else []
