"""All evidence as one page of HTML that needs no network, no server and no other file."""

import datetime as dt
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cbnorm.report.blocks import Block, Cell, TableRow
from cbnorm.report.claim_tables import interval_of, remark_of, tally
from cbnorm.report.endpoints import Record
from cbnorm.report.explain import command
from cbnorm.report.figures.drawing import Drawing, inline
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import Skipped, figures
from cbnorm.report.summary import Collected
from cbnorm.report.tables import explained, heads_of, mean_sd, shown_cells, unit
from cbnorm.report.verdicts import NOT_RUN, Verdict

#: Verdicts that say something.
DECIDED = ("supported", "refuted", "equivalent", "different")


@dataclass(frozen=True)
class Value:
    """A number of a table: what is shown, and where it comes from, line by line."""

    text: str
    origin: tuple[str, ...]


@dataclass(frozen=True)
class ShownRow:
    """A row of a table with the command that gets it again."""

    label: str
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


@dataclass(frozen=True)
class Place:
    """Verdicts at one budget under one protocol, of one experiment."""

    experiment: str
    title: str
    small: bool
    tally: str
    spoken: list[Verdict]


@dataclass(frozen=True)
class Missing:
    """What an experiment lacks."""

    experiment: str
    lines: list[str]
    command: str


def write_page(material: Material, *, date: str | None = None, drawings: bool = True) -> str:
    """The page.

    Args:
        material: Records, collected and judged.
        date: The day it was made, today if not given; ``SOURCE_DATE_EPOCH`` is heeded.
        drawings: Put figures into it, which needs matplotlib.
    """
    records = material.evidence.records.all
    made = list(figures(material)) if drawings else []
    places = [place for entry in material.entries for place in _places(entry)]
    verdicts = [told for entry in material.entries for told in entry.verdicts]
    decided = [told for told in verdicts if told.verdict in DECIDED]
    environment = Environment(
        loader=PackageLoader("cbnorm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval_of, "remark": remark_of}
    return environment.get_template("report.html").render(
        date=date or today(),
        records=len(records),
        hours=sum(record.get("seconds", {}).get("total", 0.0) for record in records) / 3600,
        machines=machines(records),
        commits=sorted({_commit(record) for record in records}),
        tally=tally(verdicts),
        counts=[(word, sum(told.verdict == word for told in verdicts)) for word in _WORDS],
        decided=decided,
        full=any(told.budget == "full" for told in decided),
        places=places,
        drawings=[(made, Markup(inline(made))) for made in made if isinstance(made, Drawing)],  # noqa: S704
        skipped=[one for one in made if isinstance(one, Skipped)],
        tables=[(e.found.experiment, _tables(e, material)) for e in material.entries if e.found.blocks],
        missing=[missing for entry in material.entries if (missing := _missing(entry))],
        left_out=[
            (entry.found.experiment, *pair) for entry in material.entries for pair in entry.found.left_out
        ],
    )


_WORDS = (*DECIDED, "inconclusive", "no verdict yet", "not testable")


def today() -> str:
    """The day, in UTC; that of ``SOURCE_DATE_EPOCH`` where it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    when = dt.datetime.now(dt.UTC)
    if epoch and epoch.isdecimal():
        when = dt.datetime.fromtimestamp(int(epoch), dt.UTC)
    return when.date().isoformat()


def _commit(record: Record) -> str:
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


def _places(entry: Collected) -> Iterator[Place]:
    for budget, protocol in dict.fromkeys((told.budget, told.protocol) for told in entry.verdicts):
        own = [told for told in entry.verdicts if (told.budget, told.protocol) == (budget, protocol)]
        spoken = [told for told in own if budget or told.verdict != "not testable"]
        if spoken:
            title = f"budget {budget}, protocol {protocol}" if budget else "apart from runs"
            small = budget not in {"", "full"}
            yield Place(entry.found.experiment, title, small, tally(own), spoken)


def _tables(entry: Collected, material: Material) -> list[ShownBlock]:
    return [
        ShownBlock(
            f"{block.title}, budget {block.budget}, protocol {block.protocol}",
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
        origin = f"commit {_commit(record)}, {machine(record)}, {minutes:.0f} min"
        lines.append(f"seed {seed}: {number(value)}, run {run}, {origin}")
    return Value(mean_sd(cell), tuple(lines))


def number(value: float) -> str:
    """A value as text: percentages and distances with two decimals, smaller numbers with four digits.

    >>> number(70.0), number(0.12345)
    ('70.00', '0.1235')
    """
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}"


def _missing(entry: Collected) -> Missing | None:
    name, found = entry.found.experiment, entry.found
    lines = []
    silent = [told for told in entry.verdicts if told.remark == NOT_RUN]
    if silent:
        counts = Counter(told.claim.dataset or "several data sets" for told in silent)
        lines.append(f"claims without runs: {', '.join(f'{n} on {data}' for data, n in counts.items())}")
    elif entry.runnable and not found.blocks:
        lines.append("no run at all")
    if entry.runnable and not any(block.budget == "full" for block in found.blocks):
        lines.append("nothing at the paper's full budget")
    lines += [
        f"{block.title}, budget {block.budget}, protocol {block.protocol}: {block.empty} cells are empty"
        for block in found.blocks
        if block.empty
    ]
    wanted = f"cbnorm reproduce {name} budget=full seeds=0..4" if entry.runnable else ""
    return Missing(name, lines, wanted) if lines else None
