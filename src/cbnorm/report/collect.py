"""Which records fill which cells. Rows are recognised by resolved values, never by names of presets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from cbnorm.config.canonical import canonical, flatten
from cbnorm.config.schema import PartitionConfig, RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block, Cell, Collection, TableRow
from cbnorm.report.endpoints import READINGS, Endpoint, Record, best_validation, read_endpoint, value_at
from cbnorm.report.ledger import Cells, read_cells
from cbnorm.report.pool import Records
from cbnorm.runs.identity import NUMERICS_VERSION, identity, row_of
from cbnorm.runs.moments import moment_epochs
from cbnorm.runs.plan import Row, choose_rows, read_controls, row_configs


def collect(
    experiment: str,
    records: Iterable[Record] | Records,
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
    records = records if isinstance(records, Records) else Records(records)
    named = records.by_experiment.get(experiment, [])
    cells = read_cells(experiment)
    found = Collection(experiment)
    used: dict[str, str] = {}
    expected: dict[Name, dict[str, RunConfig]] = {}
    for name in _blocks(named, filters):
        shown = _possible(experiment, labels, records.kinds.get(name.dataset, set()))
        try:
            expected[name] = row_configs(experiment, [*name.words(), *overrides], shown)
        except CbnormError as error:
            if len(filters) == 3:
                raise
            # Presets come and go; records of one that is gone must not hide the others.
            found.left_out += [(record["id"], str(error)) for record in named if _name(record) == name]
            continue
        rows = [row for row in choose_rows(experiment, shown) if row.label in expected[name]]
        block = _fill(experiment, name, rows, expected[name], records, {} if overrides else cells, used)
        block = replace(block, customised=" ".join(overrides))
        # A run that diverged before anything was read fills no cell, and is an outcome all the same.
        if len(filters) == 3 or block.filled or any(row.diverged for row in block.rows):
            found.blocks.append(block)
    if not overrides:
        found.left_out += _left_out(named, records, expected, used)
    found.left_out += sorted(damaged.items())
    return found


_KINDS_OF_IDS = get_args(PartitionConfig.model_fields["name"].annotation)


def _possible(experiment: str, labels: Sequence[str], kinds: set[tuple[str, Any]]) -> list[str]:
    """Labels without the controls that no record can fill: composing a row takes a tenth of a second."""
    if list(labels) != ["all"]:
        return list(labels)
    found = ["rows"]
    for row in read_controls(experiment):
        own = dict(override.split("=", 1) for override in row.overrides)
        affine = {"true": True, "false": False}.get(own.get("norm.affine", ""))
        # A preset may be called other than the kind of ids that it gives; then it excludes nothing.
        ids = own.get("partition") if own.get("partition") in _KINDS_OF_IDS else None
        norm = own.get("norm", "").rpartition(":")[2]
        if not norm or all((norm, what) in kinds for what in (ids, affine)):
            found.append(row.label)
    return found


def _left_out(
    named: Sequence[Record],
    records: Records,
    expected: Mapping["Name", dict[str, RunConfig]],
    used: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Records of the table that fill no cell, and those that lack some of theirs."""
    flat = {name: [_values(canonical(c)) for c in configs.values()] for name, configs in expected.items()}
    found = []
    for record in named:
        name, run = _name(record), record["id"]
        if name not in expected:
            continue
        if run in records.conflicts:
            found.append((run, records.conflicts[run]))
        elif run not in used:
            found.append((run, reason(record, flat[name])))
        elif used[run]:
            found.append((run, used[run]))
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
    rows: Sequence[Row],
    configs: dict[str, RunConfig],
    records: Records,
    paper: Cells,
    used: dict[str, str],
) -> Block:
    found, filled = [], []
    endpoint = read_endpoint(experiment, name.budget)
    controls = {row.label for row in read_controls(experiment)}
    data = (name.data or "") if _is_open(name.dataset) else None
    for row in rows:
        config = configs[row.label]
        matching = records.by_row.get(row_of(identity(config, data)), [])
        filled += matching
        used |= {record["id"]: _lacking(record, config) for record in matching}
        control = row.label in controls
        if matching or not control:
            found.append(replace(_row(row, config, matching, endpoint), control=control))
    found = _measured(found)
    title, images = _images(name, next(iter(configs.values())), filled)
    if name.budget == "full":
        found = [_beside(row, title, paper) for row in found]
    return Block(experiment, title, name.dataset, images, name.protocol, name.budget, tuple(found))


def _measured(rows: Sequence[TableRow]) -> list[TableRow]:
    """Rows without the further metrics that no run has, such as those of a network that isn't there."""
    present = {cell.metric for row in rows for cell in row.cells if cell.values}
    if not present:
        return list(rows)
    further = [metric for metric in rows[0].endpoint.further if metric in present]
    return [replace(row, endpoint=replace(row.endpoint, further=tuple(further))) for row in rows]


def _images(name: Name, config: RunConfig, records: Sequence[Record]) -> tuple[str, int]:
    """The data set's proper name and the number of training images."""
    if records:
        data = records[0]["data"]
        return data["name"], data["images"]["train"]
    entry, wanted = catalog.find(name.dataset), config.dataset
    return entry.name, wanted.train_images or entry.counts.get("train", wanted.val_images) - wanted.val_images


def _beside(row: TableRow, dataset: str, paper: Cells) -> TableRow:
    """A row with the published numbers, beside the weights that the table is about."""
    place = (row.dataset or dataset, row.label)
    cells = (
        replace(cell, paper=paper.get((*place, cell.percent, cell.metric)))
        if cell.reading == row.endpoint.weights
        else cell
        for cell in row.cells
    )
    return replace(row, cells=tuple(cells))


def _row(row: Row, config: RunConfig, records: Sequence[Record], endpoint: Endpoint) -> TableRow:
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


def _lacking(record: Record, config: RunConfig) -> str:
    """Which moments a record that fills cells lacks."""
    wanted = moment_epochs(config.trainer.moments, config.trainer.max_epochs)
    read = {entry["percent"] for entry in record["metrics"]["moments"]}
    ended = record["status"] == "diverged"
    lacking = [percent for percent in wanted if percent not in read and not ended]
    return f"incomplete: no reading at {', '.join(f'{p} %' for p in lacking)}" if lacking else ""


def _values(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if key != "seed"}


def reason(record: Record, expected: Sequence[dict[str, Any]]) -> str:
    """Why a record fills no cell.

    Args:
        record: The record.
        expected: Flat canonical values of every row's config, without the seed.
    """
    if record["status"] == "failed":
        return f"failed: {record.get('error', {}).get('message', 'no message')}"
    version = record["identity"].get("numerics_version")
    if version != NUMERICS_VERSION:
        return f"stale: numbers of version {version}, this is {NUMERICS_VERSION}"
    own = _values(record["identity"]["config"])
    closest = min((_different(values, own) for values in expected), key=len)
    if not closest:
        return "foreign: computed on other data"
    return "customised: " + ", ".join(f"{key}={own.get(key)} (not {value})" for key, value in closest.items())


def _different(expected: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    keys = sorted(expected.keys() | own.keys())
    return {key: expected.get(key) for key in keys if expected.get(key) != own.get(key)}
