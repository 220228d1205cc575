"""Collected numbers: cells in rows in blocks, and the records that fill none."""

import math
import statistics
from dataclasses import dataclass, field

from cbnorm.config.schema import RunConfig


@dataclass(frozen=True)
class Cell:
    """Accuracies of one row at one moment, over seeds; `values`, `runs` and `seeds` go together."""

    percent: int
    epoch: int
    reading: str
    values: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean accuracy in per cent; None for an empty cell."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        if len(self.values) < 2:
            return None
        # The exact fractions of statistics.stdev take a second for ten thousand runs.
        mean = statistics.fmean(self.values)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (len(self.values) - 1))


@dataclass(frozen=True)
class TableRow:
    """One row of a block with its cells.

    `validation` holds the best validation accuracies in per cent by seed, for the runs that have one;
    `control` says that the row is none of the paper's; of the rows with one `choice`, the best on validation
    is chosen.
    """

    label: str
    config: RunConfig
    cells: tuple[Cell, ...]
    diverged: tuple[str, ...] = ()
    validation: dict[int, float] = field(default_factory=dict)
    control: bool = False
    choice: str = ""

    def at(self, reading: str) -> list[Cell]:
        """The cells of one reading, by moment."""
        return [cell for cell in self.cells if cell.reading == reading]

    def cell(self, percent: int, reading: str = "best") -> Cell | None:
        """The cell of one moment and reading, if the row has that moment."""
        found = (cell for cell in self.cells if (cell.percent, cell.reading) == (percent, reading))
        return next(found, None)

    @property
    def mean_validation(self) -> float | None:
        """Mean of the best validation accuracies; None without runs."""
        return statistics.fmean(self.validation.values()) if self.validation else None


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
    def filled(self) -> bool:
        """Whether any run is in it."""
        return any(cell.values for row in self.rows for cell in row.cells)

    def row(self, label: str) -> TableRow | None:
        """The row of a label, if it is there."""
        return next((row for row in self.rows if row.label == label), None)

    def chosen(self) -> list[TableRow]:
        """Of the rows of every choice, the one with the best mean validation accuracy; test plays no part."""
        best: dict[str, TableRow] = {}
        for row in self.rows:
            rival = best.get(row.choice)
            own = row.mean_validation
            if row.choice and own is not None and (rival is None or own > (rival.mean_validation or 0.0)):
                best[row.choice] = row
        return list(best.values())

    @property
    def empty(self) -> int:
        """Number of cells of the primary reading without a value, controls not counted."""
        return sum(not cell.values for row in self.rows if not row.control for cell in row.at("best"))


@dataclass
class Collection:
    """A table's blocks, and the records that filled no cell, or not all of theirs, with the reason."""

    experiment: str
    blocks: list[Block] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
