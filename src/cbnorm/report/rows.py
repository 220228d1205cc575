"""A row of a block: the numbers that its runs have, and how test images were read."""

from collections.abc import Sequence
from dataclasses import replace

from cbnorm.config.schema import RunConfig
from cbnorm.report.blocks import Cell, TableRow
from cbnorm.report.endpoints import READINGS, Endpoint, Record, best_validation, value_at
from cbnorm.report.ledger import Cells
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.plan import Row


def with_published(row: TableRow, dataset: str, paper: Cells) -> TableRow:
    """A row with the published numbers, beside the weights that the table is about."""
    place = (row.dataset or dataset, row.label)
    cells = (
        replace(cell, paper=paper.get((*place, cell.percent, cell.metric)))
        if cell.reading == row.endpoint.weights
        else cell
        for cell in row.cells
    )
    return replace(row, cells=tuple(cells))


def filled_row(row: Row, config: RunConfig, records: Sequence[Record], endpoint: Endpoint) -> TableRow:
    """A row with the numbers of its runs.

    Args:
        row: Its label, and the reading that it is about.
        config: The config that its runs share.
        records: The runs, one per seed.
        endpoint: What the table is about.
    """
    seeded = sorted(records, key=lambda record: (record["identity"]["config"]["seed"], record["id"]))
    places = moment_epochs(config.trainer.moments, config.trainer.max_epochs).items()
    cells = tuple(
        _cell(Cell(percent, epoch, reading, metric, row.reading), seeded)
        for metric in (endpoint.metric, *endpoint.further)
        for percent, epoch in places
        for reading in READINGS
    )
    diverged = tuple(record["id"] for record in records if record["status"] == "diverged")
    # Validation images are read as in training; of another reading that says nothing.
    own = [] if row.reading else seeded
    best = {record["identity"]["config"]["seed"]: best_validation(record) for record in own}
    validation = {seed: value for seed, value in best.items() if value is not None}
    return TableRow(
        row.label,
        config,
        cells,
        diverged,
        validation,
        choice=row.choice,
        dataset=row.dataset,
        endpoint=endpoint,
        marks=_marks(config, row.reading, seeded),
    )


def _marks(config: RunConfig, reading: str, records: Sequence[Record]) -> tuple[str, ...]:
    """What this reading of the test images used besides the image."""
    partitions = [] if reading else [record.get("partition") or {} for record in records]
    oracle = reading == "masked" or any(partition.get("oracle") for partition in partitions)
    others = reading.startswith("batch") or any(partition.get("transductive") for partition in partitions)
    if not reading and config.norm.name in {"ucb", "uan"}:
        others |= config.norm.name == "uan" or config.norm.eval_stats == "batch"
    # Samples of a generator have no test images beside them.
    return ("oracle",) * oracle + ("transductive",) * (others and config.task.name != "gan")


def _cell(cell: Cell, records: Sequence[Record]) -> Cell:
    """A cell with the values that runs have there."""
    name = f"{cell.condition}.{cell.metric}" if cell.condition else cell.metric
    values = [(value_at(record, cell.percent, cell.reading, name), record) for record in records]
    present = [(value, record) for value, record in values if value is not None]
    return replace(
        cell,
        values=tuple(value for value, _ in present),
        runs=tuple(record["id"] for _, record in present),
        seeds=tuple(record["identity"]["config"]["seed"] for _, record in present),
    )


def measured(rows: Sequence[TableRow]) -> list[TableRow]:
    """Rows without the further metrics that no run has, such as those of a network that isn't there."""
    present = {cell.metric for row in rows for cell in row.cells if cell.values}
    if not present:
        return list(rows)
    further = [metric for metric in rows[0].endpoint.further if metric in present]
    return [replace(row, endpoint=replace(row.endpoint, further=tuple(further))) for row in rows]
