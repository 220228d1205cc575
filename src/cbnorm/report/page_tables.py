"""The tables of the page: every number with the runs, the commit and the machine that it comes from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cbnorm.report.blocks import Block, Cell, TableRow
from cbnorm.report.endpoints import Record
from cbnorm.report.figures.material import Material
from cbnorm.report.repeat import command
from cbnorm.report.summary import Collected
from cbnorm.report.words import digits_of, explained, heads_of, mean_sd, number, shown_cells, unit


@dataclass(frozen=True)
class Value:
    """A number of a table: what is shown, and where it comes from, line by line."""

    text: str
    origin: tuple[str, ...]


@dataclass(frozen=True)
class ShownRow:
    """A row of a table with the command that gets it again."""

    label: str
    rate: str
    control: bool
    diverged: bool
    values: list[Value]
    validation: str
    seeds: int
    repeat: str


@dataclass(frozen=True)
class ShownBlock:
    """A block of a table; `marks` explains those on its rows."""

    title: str
    heads: list[str]
    unit: str
    rows: list[ShownRow]
    full: bool
    empty: int
    marks: list[str]


def commit(record: Record) -> str:
    """The commit that a run was trained at."""
    return str(record.get("versions", {}).get("commit", "unknown"))


def machine(record: Record) -> str:
    """What trained a run, in words."""
    hardware = record.get("hardware", {})
    name = hardware.get("gpu") or hardware.get("cpu") or "unknown"
    threads = hardware.get("threads")
    return f"{name}, {threads} thread{'s' * (threads != 1)} per run" if threads else str(name)


def machines(records: Sequence[Record]) -> list[tuple[str, int]]:
    """How many runs were trained on what, the most first."""
    return Counter(machine(record) for record in records).most_common()


def hours(records: Sequence[Record]) -> float:
    """Hours that runs took. Earlier versions counted only the last part of a run that was resumed."""
    times = (record.get("seconds", {}) for record in records)
    return sum(max(time.get("total", 0.0), time.get("training", 0.0)) for time in times) / 3600


def spoken_machines(records: Sequence[Record]) -> str:
    """What trained the runs, in words; with numbers of runs where there are several machines."""
    found = machines(records)
    return ", ".join(f"{name} ({count})" if len(found) > 1 else name for name, count in found)


def shown_tables(entry: Collected, material: Material) -> list[ShownBlock]:
    """The tables of an experiment, every number with where it comes from."""
    return [
        ShownBlock(
            block.place,
            heads_of(block),
            unit(block),
            [_row(block, row, material) for row in block.rows],
            block.budget == "full",
            block.empty,
            explained(block),
        )
        for block in entry.found.blocks
    ]


def _row(block: Block, row: TableRow, material: Material) -> ShownRow:
    seeds = sorted({seed for cell in row.main for seed in cell.seeds})
    place = {"protocol": block.protocol, "budget": block.budget}
    return ShownRow(
        row.title,
        f"{row.config.optimizer.lr:g}",
        row.control,
        bool(row.diverged),
        [_value(cell, material) for cell in shown_cells(row)],
        "" if row.mean_validation is None else f"{row.mean_validation:.2f}",
        len(seeds),
        command(block.experiment, block.key, [row.label], seeds or [0], place),
    )


def _value(cell: Cell | None, material: Material) -> Value:
    if cell is None or not cell.values:
        return Value("", ())
    lines = [f"{cell.metric} of the {cell.reading} weights, epoch {cell.epoch}, n = {len(cell.values)}"]
    if cell.paper is not None:
        lines.append(f"published: {cell.paper:g}")
    for seed, value, run in zip(cell.seeds, cell.values, cell.runs, strict=True):
        record = material.records[run]
        minutes = record.get("seconds", {}).get("total", 0) / 60
        origin = f"commit {commit(record)}, {machine(record)}, {minutes:.0f} min"
        lines.append(f"seed {seed}: {number(value, digits_of(cell.metric, value))}, run {run}, {origin}")
    return Value(mean_sd(cell), tuple(lines))
