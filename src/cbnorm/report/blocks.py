"""Collected numbers: cells in rows in blocks, and the records that fill none."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from cbnorm.config.schema import RunConfig
from cbnorm.report.endpoints import Endpoint


@dataclass(frozen=True)
class Cell:
    """A metric of one row at one moment, over seeds; `values`, `runs` and `seeds` go together.

    `reading` says which weights were read, `condition` under which condition (empty for the usual one).
    """

    percent: int
    epoch: int
    reading: str
    metric: str = "accuracy"
    condition: str = ""
    values: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    paper: float | None = None

    def pick(self, seeds: Sequence[int]) -> list[float]:
        """The values of some of its seeds."""
        known = dict(zip(self.seeds, self.values, strict=True))
        return [known[seed] for seed in seeds]

    def pick_runs(self, seeds: Sequence[int]) -> list[str]:
        """The runs of some of its seeds."""
        known = dict(zip(self.seeds, self.runs, strict=True))
        return [known[seed] for seed in seeds]

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None for an empty cell."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        if len(self.values) < 2:
            return None
        # The exact fractions of statistics.stdev take a second for ten thousand runs.
        mean = statistics.fmean(self.values)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (len(self.values) - 1))


#: Ways to read test images that a row is marked with, and what they mean.
MARKS = {
    "oracle": "at test time the row used what follows from the true class of the image",
    "transductive": "a test image was read with what follows from other test images",
}


@dataclass(frozen=True)
class TableRow:
    """One row of a block with its cells.

    `validation` holds the best validation accuracies in per cent by seed, for the runs that have one;
    `control` says that the row is none of the paper's; of the rows with one `choice`, the best on validation
    is chosen. `dataset` is what the ledger calls that which was read, where it is not the block's data set.
    `marks` says how test images were read, where that is not one by one by what training left, in words
    of :data:`MARKS`.
    """

    label: str
    config: RunConfig
    cells: tuple[Cell, ...]
    diverged: tuple[str, ...] = ()
    validation: dict[int, float] = field(default_factory=dict)
    control: bool = False
    choice: str = ""
    dataset: str = ""
    endpoint: Endpoint = field(default_factory=Endpoint)
    marks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The label with what has to be known beside it: another data set, and how test images were read."""
        beside = [self.dataset] * bool(self.dataset) + [*self.marks]
        return f"{self.label} ({', '.join(beside)})" if beside else self.label

    def at(self, reading: str, metric: str = "") -> list[Cell]:
        """The cells of one reading, by moment; of the metric that is compared, or another."""
        wanted = (reading, metric or self.endpoint.metric)
        return [cell for cell in self.cells if (cell.reading, cell.metric) == wanted]

    @property
    def main(self) -> list[Cell]:
        """The cells that the table is about, by moment."""
        return self.at(self.endpoint.weights)

    def cell(self, percent: int, reading: str = "", metric: str = "") -> Cell | None:
        """The cell of one moment, of the reading and metric that are compared or others, if it is there."""
        found = (c for c in self.at(reading or self.endpoint.weights, metric) if c.percent == percent)
        return next(found, None)

    def lead(self, other: "TableRow") -> float | None:
        """By how much its validation accuracy is above another row's, over the seeds that both have."""
        shared = [seed for seed in self.validation if seed in other.validation]
        return (
            statistics.fmean(self.validation[seed] - other.validation[seed] for seed in shared)
            if shared
            else None
        )

    @property
    def mean_validation(self) -> float | None:
        """Mean of the best validation accuracies; None without runs."""
        return statistics.fmean(self.validation.values()) if self.validation else None


@dataclass(frozen=True)
class Choice:
    """The row that is chosen among several, and the one that comes nearest.

    Attributes:
        name: What is chosen.
        row: The row.
        tried: Rows with runs, of so many.
        rows: All of them.
        nearest: The row that it leads by least, if there is another.
        lead: By how many points of validation accuracy, over the seeds that both have.
    """

    name: str
    row: TableRow
    tried: int
    rows: int
    nearest: TableRow | None
    lead: float | None


@dataclass(frozen=True)
class Block:
    """The rows of a table, and the controls that have runs, on one data set, under one protocol and budget.

    `key` is the data set's name in configs; `customised` holds overrides on top of the presets, shared by all
    rows; such a block reproduces nothing.
    """

    experiment: str
    dataset: str
    key: str
    images: int
    protocol: str
    budget: str
    rows: tuple[TableRow, ...]
    customised: str = ""

    @property
    def budget_title(self) -> str:
        """The budget's name, with what was put on top of it."""
        return f"{self.budget}, customised: {self.customised}" if self.customised else self.budget

    @property
    def title(self) -> str:
        """The data set's real name and the number of training images."""
        return f"{self.dataset} ({self.images:,} training images)"

    @property
    def place(self) -> str:
        """Data, budget and protocol, in words."""
        return f"{self.title}, budget {self.budget}, protocol {self.protocol}"

    @property
    def filled(self) -> bool:
        """Whether any run is in it."""
        return any(cell.values for row in self.rows for cell in row.cells)

    @property
    def endpoint(self) -> Endpoint:
        """What the table is about."""
        return self.rows[0].endpoint if self.rows else Endpoint()

    @property
    def datasets(self) -> set[str]:
        """What the ledger calls that which was read."""
        return {row.dataset or self.dataset for row in self.rows}

    def row(self, label: str, dataset: str = "") -> TableRow | None:
        """The row of a label, if it is there; of what the ledger calls `dataset`, if that is given."""
        found = (row for row in self.rows if row.label == label)
        return next((row for row in found if not dataset or (row.dataset or self.dataset) == dataset), None)

    def chosen(self) -> "list[Choice]":
        """Of the rows of every choice, the one that is best on validation; test plays no part.

        Two rows are compared on the seeds that both have: means over other seeds can't be compared. One that
        no other leads is chosen, if there is one.
        """
        found = []
        for name in dict.fromkeys(row.choice for row in self.rows if row.choice):
            rows = [row for row in self.rows if row.choice == name]
            rivals = [row for row in rows if row.validation]
            for row in rivals:
                leads = [(row.lead(other), other) for other in rivals if other is not row]
                if all(lead is not None and lead >= 0 for lead, _ in leads):
                    nearest = min(leads, key=lambda pair: pair[0] or 0.0, default=(None, None))
                    found.append(Choice(name, row, len(rivals), len(rows), nearest[1], nearest[0]))
                    break
        return found

    @property
    def empty(self) -> int:
        """Number of cells of the primary reading without a value, controls not counted."""
        return sum(not cell.values for row in self.rows if not row.control for cell in row.main)


@dataclass
class Collection:
    """A table's blocks, and the records that filled no cell, or not all of theirs, with the reason."""

    experiment: str
    blocks: list[Block] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
