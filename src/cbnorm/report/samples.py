"""The values that a claim compares, for the seeds that all of its rows share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cbnorm.report import values
from cbnorm.report.blocks import Block, Cell, TableRow
from cbnorm.report.endpoints import PRIMARY_PERCENT
from cbnorm.report.evidence import SHAPES, Evidence
from cbnorm.report.ledger import Claim
from cbnorm.report.statistics import Array
from cbnorm.report.values import Entry, Take


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
    take: Take
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


def sample(claim: Claim, block: Block, evidence: Evidence) -> Sample | str:
    """The values of a claim, or why there are none."""
    goal = claim.goal
    percent = PRIMARY_PERCENT if goal else block.endpoint.percent(claim.moment)
    metric = _recorded(claim)
    if percent is None or metric not in {"", block.endpoint.metric, *block.endpoint.further}:
        return f"not run: no run records {claim.metric}"
    found = {label: _entry(block.row(label, claim.dataset), percent, metric) for label in claim.rows}
    known = {label: entry for label, entry in found.items() if entry is not None}
    if lacking := [label for label in claim.rows if label not in known]:
        return f"not run: no run of {', '.join(lacking)}"
    seeds, silent = _shared(known, evidence)
    if silent and len(seeds) < claim.seeds:
        return f"runs of {', '.join(silent)} diverged without a value"
    entries = [known[label] for label in claim.weights]
    seeds, take = _values(claim, entries, known.get(goal), seeds, evidence)
    if not seeds and claim.metric in SHAPES:
        return f"not run: no seed for which networks of {', '.join(claim.rows)} were all looked at"
    compared = tuple(entry.cell for entry in entries)
    plain = not goal and claim.metric not in SHAPES
    others = tuple(_bystanders(block, claim, percent, metric, compared)) if plain else ()
    sides = np.array(list(claim.weights.values()))
    reached = known[goal].cell if goal else None
    return Sample(claim, tuple(claim.weights), sides, tuple(seeds), take, compared, others, reached)


def _recorded(claim: Claim) -> str:
    """The metric that runs must record for it; empty for a table's own.

    Speed is told by validation after every epoch, or by a distance at the moments, which the claim names;
    shapes are told by looks, whatever the runs record.
    """
    return "" if (claim.goal and claim.metric == "epochs") or claim.metric in SHAPES else claim.metric


def _entry(row: TableRow | None, percent: int, metric: str) -> Entry | None:
    """A row with its cell; nothing where it has no value."""
    cell = row.cell(percent, metric=metric) if row else None
    return Entry(row, cell) if row and cell and cell.values else None


def _shared(entries: Mapping[str, Entry], evidence: Evidence) -> tuple[list[int], list[str]]:
    """The seeds that all rows share, and the rows with a run that diverged without a value.

    Other seeds in the place of such a run would be a choice by outcome; smaller ones are not.
    """
    silent = {label: _silent(entry, evidence) for label, entry in entries.items()}
    end = min((seed for own in silent.values() for seed in own), default=math.inf)
    shared = set.intersection(*(set(entry.cell.seeds) for entry in entries.values()))
    return sorted(seed for seed in shared if seed < end), [label for label, own in silent.items() if own]


def _silent(entry: Entry, evidence: Evidence) -> list[int]:
    """Seeds whose runs diverged and have no value of this metric."""
    records = evidence.records.by_id
    return [int(records[run]["config"]["seed"]) for run in set(entry.row.diverged) - set(entry.cell.runs)]


def _values(
    claim: Claim, entries: Sequence[Entry], goal: Entry | None, seeds: list[int], evidence: Evidence
) -> tuple[list[int], Take]:
    """Where the values of this kind of claim come from, and the seeds that have them."""
    if claim.metric in SHAPES:
        return values.shapes(entries, claim.metric, seeds, evidence)
    if goal is None:
        return seeds, values.numbers(entries, seeds)
    if claim.metric == "epochs":
        return values.epochs(entries, goal, seeds, evidence)
    return seeds, values.moments(entries, goal, seeds)


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
