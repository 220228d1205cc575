"""Which records fill which cells. Rows are recognised by resolved values, never by names of presets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, get_args

from cbnorm.config.canonical import canonical
from cbnorm.config.schema import PartitionConfig, RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block, Collection
from cbnorm.report.endpoints import Record, read_endpoint
from cbnorm.report.ledger import Cells, read_cells
from cbnorm.report.places import Name, alike, block_names, is_open, name_of, usual
from cbnorm.report.pool import Records
from cbnorm.report.reasons import lacking, reason, values_of
from cbnorm.report.rows import filled_row, measured, with_published
from cbnorm.runs.identity import identity, row_of
from cbnorm.runs.plan import Row, choose_rows, read_controls, row_configs


def collect(
    experiment: str,
    records: Iterable[Record] | Records,
    *,
    filters: dict[str, str],
    overrides: Sequence[str] = (),
    labels: Sequence[str] = ("all",),
    damaged: Mapping[str, str] = MappingProxyType({}),
    shared: bool = True,
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
        shared: Whether to show blocks too that only runs of other tables fill.
    """
    records = records if isinstance(records, Records) else Records(records)
    named = records.by_experiment.get(experiment, [])
    cells = read_cells(experiment)
    found = Collection(experiment)
    used: dict[str, str] = {}
    expected: dict[Name, dict[str, RunConfig]] = {}
    for name in block_names([*named, *(alike(experiment, records) if shared else [])], filters):
        shown = _possible(experiment, labels, records.kinds.get(name.dataset, set()))
        try:
            expected[name] = row_configs(experiment, [*name.words(), *overrides], shown)
        except CbnormError as error:
            if len(filters) == 3:
                raise
            # Presets come and go; records of one that is gone must not hide the others.
            found.left_out += [(record["id"], str(error)) for record in named if name_of(record) == name]
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
        own = {key: value for key, _, value in (override.partition("=") for override in row.overrides)}
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
    expected: Mapping[Name, dict[str, RunConfig]],
    used: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Records of the table that fill no cell, and those that lack some of theirs."""
    flat = {name: [values_of(canonical(c)) for c in configs.values()] for name, configs in expected.items()}
    found = []
    for record in named:
        name, run = name_of(record), record["id"]
        if name not in expected:
            continue
        if run in records.conflicts:
            found.append((run, records.conflicts[run]))
        elif run not in used:
            found.append((run, reason(record, flat[name])))
        elif used[run]:
            found.append((run, used[run]))
    return found


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
    data = (name.data or "") if is_open(name.dataset) else None
    # What a row is read on goes by the paper's name only on the paper's data.
    proxy = any(row.dataset for row in rows) and usual(experiment).dataset.name != name.dataset
    if proxy:
        rows = [replace(row, dataset=row.dataset and f"in place of {row.dataset}") for row in rows]
    for row in rows:
        config = configs[row.label]
        matching = records.by_row.get(row_of(identity(config, data)), [])
        filled += matching
        used |= {record["id"]: lacking(record, config) for record in matching}
        control = row.label in controls
        if matching or not control:
            found.append(replace(filled_row(row, config, matching, endpoint), control=control))
    found = measured(found)
    title, images = _images(name, next(iter(configs.values())), filled)
    if name.budget == "full":
        found = [with_published(row, title, paper) for row in found]
    return Block(experiment, title, name.dataset, images, name.protocol, name.budget, tuple(found))


def _images(name: Name, config: RunConfig, records: Sequence[Record]) -> tuple[str, int]:
    """The data set's proper name and the number of training images."""
    if records:
        data = records[0]["data"]
        return data["name"], data["images"]["train"]
    entry, wanted = catalog.find(name.dataset), config.dataset
    return entry.name, wanted.train_images or entry.counts.get("train", wanted.val_images) - wanted.val_images
