"""Which records fill which cells. Rows are recognised by resolved values, never by names of presets."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from cbnorm.config.canonical import canonical, differences
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.report.ledger import read_cells
from cbnorm.runs.identity import NUMERICS_VERSION, identity, row_of
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.plan import read_controls, read_rows, row_configs

Record = dict[str, Any]
#: Readings of the test set: weights of the best validation accuracy so far (primary), and last weights.
READINGS = ("best", "last")


@dataclass(frozen=True)
class Cell:
    """Accuracies of one row at one moment, over seeds."""

    percent: int
    epoch: int
    reading: str
    values: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean accuracy in per cent; None for an empty cell."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class TableRow:
    """One row of a block with its cells.

    `validation` holds the best validation accuracies in per cent, one per run that has one; `control` says
    that the row is none of the paper's; of the rows with one `choice`, the best on validation is chosen.
    """

    label: str
    config: RunConfig
    cells: tuple[Cell, ...]
    diverged: tuple[str, ...] = ()
    validation: tuple[float, ...] = ()
    control: bool = False
    choice: str = ""

    def at(self, reading: str) -> list[Cell]:
        """The cells of one reading, by moment."""
        return [cell for cell in self.cells if cell.reading == reading]


@dataclass(frozen=True)
class Block:
    """The rows of a table, and the controls that have runs, on one data set, under one protocol and budget.

    `customised` holds overrides on top of the presets, shared by all rows; such a block reproduces nothing.
    """

    experiment: str
    dataset: str
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

    def chosen(self) -> list[TableRow]:
        """Of the rows of every choice, the one with the best mean validation accuracy; test plays no part."""
        best: dict[str, TableRow] = {}
        for row in self.rows:
            if row.choice and row.validation:
                rival = best.get(row.choice)
                if rival is None or statistics.fmean(row.validation) > statistics.fmean(rival.validation):
                    best[row.choice] = row
        return list(best.values())

    @property
    def empty(self) -> int:
        """Number of cells of the primary reading without a value, controls not counted."""
        return sum(not cell.values for row in self.rows if not row.control for cell in row.at("best"))


@dataclass
class Collection:
    """A table's blocks, and the records that filled no cell, with the reason."""

    experiment: str
    blocks: list[Block] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def collect(
    experiment: str,
    records: Iterable[Record],
    *,
    filters: dict[str, str],
    overrides: Sequence[str] = (),
    labels: Sequence[str] = ("all",),
    damaged: Mapping[str, str] = MappingProxyType({}),
) -> Collection:
    """Sort records into the cells of a table.

    Args:
        experiment: Name of the table, such as ``table5``.
        records: Records of runs, in any order.
        filters: Restrict to blocks with these values of ``dataset``, ``protocol`` or ``budget``; a block
            whose three values are all given is shown even when no record fills it.
        overrides: Overrides on top of the presets, shared by all rows: the blocks are then marked as
            customised, and records that don't have them are none of this table's business.
        labels: Rows to show, as :func:`cbnorm.runs.plan.choose_rows` takes them; a control without a run is
            never shown.
        damaged: What is wrong with records that can't be read, by id: they are listed too.
    """
    records = sorted(records, key=lambda record: record["id"])
    named = [record for record in records if record.get("experiment") == experiment]
    cells = read_cells(experiment)
    found = Collection(experiment)
    used: set[str] = set()
    expected: dict[Name, dict[str, RunConfig]] = {}
    for name in _blocks(named, filters):
        try:
            expected[name] = row_configs(experiment, [*name.words(), *overrides], labels)
        except CbnormError as error:
            if len(filters) == 3:
                raise
            # Presets come and go; records of one that is gone must not hide the others.
            found.left_out += [(record["id"], str(error)) for record in named if _name(record) == name]
            continue
        block = _fill(experiment, name, expected[name], records, {} if overrides else cells, used)
        block = replace(block, customised=" ".join(overrides))
        if len(filters) == 3 or any(cell.values for row in block.rows for cell in row.cells):
            found.blocks.append(block)
    for record in named:
        name = _name(record)
        if record["id"] not in used and name in expected and not overrides:
            found.left_out.append((record["id"], _reason(record, expected[name])))
    found.left_out += sorted(damaged.items())
    return found


class Name(NamedTuple):
    """What tells blocks apart; `data` is the fingerprint of a data set that is not the same everywhere."""

    dataset: str
    protocol: str
    budget: str
    data: str | None = None

    def words(self) -> list[str]:
        """The overrides of all rows."""
        words = [f"dataset={self.dataset}", f"protocol={self.protocol}", f"budget={self.budget}"]
        entry = catalog.find(self.dataset)
        # Whose folder it was is not recorded, and does not matter here.
        return [*words, "dataset.folder=unknown"] if entry.open and entry.folder is None else words


def _name(record: Record) -> Name:
    dataset = record["config"]["dataset"]["name"]
    data = record["identity"]["data"] if _is_open(dataset) else None
    return Name(dataset, record["protocol"], record["budget"], data)


def _is_open(dataset: str) -> bool:
    try:
        return catalog.find(dataset).open
    except CbnormError:  # a data set that is gone, or of a package that is not here
        return False


def _blocks(records: Sequence[Record], filters: dict[str, str]) -> list[Name]:
    names = {_name(record) for record in records}
    names = {n for n in names if all(getattr(n, key) == value for key, value in filters.items())}
    if len(filters) == 3 and not (names and _is_open(filters["dataset"])):
        names.add(Name(**filters))
    order = {"full": 0, "small": 1, "smoke": 2}
    return sorted(names, key=lambda name: (order.get(name.budget, 3), [text or "" for text in name]))


def _fill(
    experiment: str,
    name: Name,
    configs: dict[str, RunConfig],
    records: Sequence[Record],
    paper: dict[tuple[str, str, int], float],
    used: set[str],
) -> Block:
    by_row: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["status"] in {"done", "diverged"}:
            by_row[row_of(record["identity"])].append(record)
    rows, filled = [], []
    controls = {row.label for row in read_controls(experiment)}
    choices = {row.label: row.choice for row in read_rows(experiment)}
    for label, config in configs.items():
        data = (name.data or "") if _is_open(name.dataset) else None
        matching = by_row[row_of(identity(config, data))]
        filled += matching
        row = _row(label, config, matching)
        if label not in controls:
            rows.append(replace(row, choice=choices[label]))
        elif matching:
            rows.append(replace(row, control=True))
    used |= {record["id"] for record in filled}
    title, images = _images(name, next(iter(configs.values())), filled)
    if name.budget == "full":
        rows = [_beside(row, title, paper) for row in rows]
    return Block(experiment, title, images, name.protocol, name.budget, tuple(rows))


def _images(name: Name, config: RunConfig, records: Sequence[Record]) -> tuple[str, int]:
    """The data set's proper name and the number of training images."""
    if records:
        data = records[0]["data"]
        return data["name"], data["images"]["train"]
    entry, wanted = catalog.find(name.dataset), config.dataset
    return entry.name, wanted.train_images or entry.counts.get("train", wanted.val_images) - wanted.val_images


def _beside(row: TableRow, dataset: str, paper: dict[tuple[str, str, int], float]) -> TableRow:
    """A row with the published accuracies, which are of the best weights."""
    cells = (
        replace(cell, paper=paper.get((dataset, row.label, cell.percent))) if cell.reading == "best" else cell
        for cell in row.cells
    )
    return replace(row, cells=tuple(cells))


def _row(label: str, config: RunConfig, records: Sequence[Record]) -> TableRow:
    cells = []
    for percent, epoch in moment_epochs(config.trainer.moments, config.trainer.max_epochs).items():
        for reading in READINGS:
            values = [(_value(record, percent, reading), record["id"]) for record in records]
            present = sorted((run, value) for value, run in values if value is not None)
            cells.append(
                Cell(
                    percent,
                    epoch,
                    reading,
                    tuple(value for _, value in present),
                    tuple(run for run, _ in present),
                )
            )
    diverged = tuple(record["id"] for record in records if record["status"] == "diverged")
    validation = tuple(
        r["metrics"]["moments"][-1]["val_accuracy"] for r in records if r["metrics"]["moments"]
    )
    return TableRow(label, config, tuple(cells), diverged, validation)


def _value(record: Record, percent: int, reading: str) -> float | None:
    """Accuracy at a moment; a diverged run counts with what it had when it ended."""
    readings = record["metrics"]["moments"]
    for entry in readings:
        if entry["percent"] == percent:
            return float(entry[reading]["accuracy"])
    if record["status"] == "diverged" and readings:
        return float(readings[-1][reading]["accuracy"])
    return None


def _reason(record: Record, configs: dict[str, RunConfig]) -> str:
    if record["status"] == "failed":
        return f"failed: {record.get('error', {}).get('message', 'no message')}"
    version = record["identity"].get("numerics_version")
    if version != NUMERICS_VERSION:
        return f"stale: numbers of version {version}, this is {NUMERICS_VERSION}"
    own = {key: value for key, value in record["identity"]["config"].items() if key != "seed"}
    closest = min(
        (
            differences({k: v for k, v in canonical(config).items() if k != "seed"}, own)
            for config in configs.values()
        ),
        key=len,
    )
    if not closest:
        return "foreign: computed on other data"
    return "customised: " + ", ".join(f"{key}={value[1]} (not {value[0]})" for key, value in closest.items())
