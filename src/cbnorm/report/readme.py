"""The part of the README that follows from the published records."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from cbnorm.report.blocks import Block, Cell
from cbnorm.report.claim_tables import basis, tally
from cbnorm.report.figures.forest import forest
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.style import mark
from cbnorm.report.page import today
from cbnorm.report.page_tables import hours, spoken_machines
from cbnorm.report.policy import LEAST_SEEDS
from cbnorm.report.verdicts import DECIDED, Verdict
from cbnorm.report.words import mean_sd

_MARKED = re.compile(r"(<!-- made by make published -->\n).*?(<!-- end of what is made -->)", re.DOTALL)
_DATE = re.compile(r"Made on (\d{4}-\d\d-\d\d) ")
#: More decided claims than this are counted.
_LISTED = 8


def fill(text: str, material: Material, date: str | None = None) -> str:
    """A README with its made part made anew; the date stays where nothing else changes.

    Args:
        text: The README.
        material: The published records, collected and judged.
        date: The day, today if not given.
    """
    known = _DATE.search(text)
    kept = _MARKED.sub(lambda match: match[1] + made(material, known[1]) + match[2], text) if known else ""
    if kept == text:
        return text
    return _MARKED.sub(lambda match: match[1] + made(material, date or today()) + match[2], text)


def made(material: Material, date: str) -> str:
    """Verdicts, the forest plot, and Table V's block with the most runs."""
    verdicts = [told for entry in material.entries for told in entry.verdicts]
    records = material.evidence.records.all
    places = spoken_machines(records) or "no machine"
    summary = tally(verdicts).removesuffix(".")
    lines = [f"**{summary}.** {basis(verdicts)}".rstrip(), "", *_decided(verdicts), ""]
    lines += [*_table(material), *_figure(material)]
    lines.append(f"Made on {date} from {len(records)} runs ({hours(records):.0f} hours) on {places}.")
    return "\n".join(lines) + "\n"


def _decided(verdicts: list[Verdict]) -> Iterator[str]:
    for word in DECIDED:
        own = [told for told in verdicts if told.verdict == word]
        named = "; ".join(told.claim.what + _place(told) for told in own[:_LISTED])
        more = f"; and {len(own) - _LISTED} more" if len(own) > _LISTED else ""
        if own:
            yield f"- **{word}**: {named}{more}"


def _place(told: Verdict) -> str:
    return f" ({told.claim.dataset}, budget {told.budget})" if told.budget else ""


def _figure(material: Material) -> list[str]:
    drawings = forest(material)
    if isinstance(drawings, str):
        return []
    lone = sum(line["seeds"] < LEAST_SEEDS for line in drawings[0].lines)
    oracle = any("oracle" in line["row"] for line in drawings[0].lines)
    told = " Rows marked *oracle* use what follows from the true class of a test image." if oracle else ""
    points = f" {lone} of {len(drawings[0].lines)} rest on fewer: no interval." if lone else ""
    return [
        f"![{drawings[0].title}](results/figures/{drawings[0].name}.svg)",
        "",
        "Differences to the row without clusters, over the seeds that both have.",
        f"95 % intervals from {LEAST_SEEDS} seeds on.{points}",
        "Upright bars: as published, from single runs at the paper's budget." + told,
        "Behind a row of Table V, -1 is learning rate 0.001 and -2 is 0.005. Budget *small* is, for Table V,",
        "10,000 images and 20 epochs; protocol *sound* the paper's conditions, leaks removed or marked.",
        "*Transductive* rows read a test image by statistics of others; UAN is an earlier form of UCB-Norm.",
        "",
    ]


def _table(material: Material) -> list[str]:
    """Methods by data sets and rates of Table V, where all rows share seeds."""
    blocks = sorted(material.blocks("table5"), key=_runs, reverse=True)
    if not blocks:
        return []
    place = (blocks[0].budget, blocks[0].protocol)
    several = [
        column
        for block in blocks
        if (block.budget, block.protocol) == place
        for column in _columns(block)
        if len(column.seeds) >= LEAST_SEEDS
    ]
    columns = several or _columns(blocks[0])
    lines = [
        f"Table V, budget {place[0]}, protocol {place[1]}: test accuracy in per cent of the weights that are",
        "best on validation, over the seeds that all rows of a column have (n).",
        "",
        f"| | {' | '.join(column.title for column in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for norm in dict.fromkeys(norm for column in columns for norm in column.cells):
        values = [_value(column, norm) for column in columns]
        lines.append(f"| {mark(norm).title} | {' | '.join(values)} |")
    return [*lines, ""]


class _Column(NamedTuple):
    title: str
    seeds: list[int]
    cells: dict[str, Cell]


def _columns(block: Block) -> list[_Column]:
    """The rates of a block, each with the seeds that all of its rows have."""
    rows = [row for row in block.rows if not row.control]
    found = []
    for rate in sorted({row.config.optimizer.lr for row in rows}):
        cells = {row.config.norm.name: row.main[-1] for row in rows if row.config.optimizer.lr == rate}
        seeds = sorted(set.intersection(*(set(cell.seeds) for cell in cells.values())))
        count = f" (n = {len(seeds)})" if seeds else ""
        found.append(_Column(f"{block.dataset}, {rate:g}{count}", seeds, cells))
    return found


def _runs(block: Block) -> int:
    return sum(len(row.main[-1].values) for row in block.rows)


def _value(column: _Column, norm: str) -> str:
    cell = column.cells.get(norm)
    if cell is None or not cell.values:
        return ""
    # Without seeds that all have, every row shows its own.
    return mean_sd(replace(cell, values=tuple(cell.pick(column.seeds))) if column.seeds else cell)
