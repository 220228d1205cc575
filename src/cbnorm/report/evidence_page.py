"""Every row that has runs, with its numbers seed by seed, each linked to its record."""

import re
from collections.abc import Iterable, Iterator

from cbnorm.report.blocks import Block, Cell, TableRow
from cbnorm.report.summary import Collected
from cbnorm.report.words import digits_of, mean_sd, number, unit

_INTRO = """# Evidence

Every row that has runs, with what each of its seeds gave: the metric that its table is about, at the end of
the budget. Numbers lead to the records of the runs, which hold everything else: config, data checksums,
versions, hardware, seconds, all moments and metrics. Numbers on other pages lead here. This page is made by
`make published`; a test compares the two.
"""


def page(entries: Iterable[Collected]) -> str:
    """The whole of docs/evidence.md, from all experiments, collected."""
    blocks = [block for entry in entries for block in entry.found.blocks]
    return _INTRO + "".join(line + "\n" for block in blocks for line in _section(block))


def _section(block: Block) -> Iterator[str]:
    rows = [row for row in block.rows if row.main and row.main[-1].values]
    if rows:
        yield from ("", f"## {block.experiment}, {block.title}, {block.budget}, {block.protocol}", "")
        yield f"{unit(block)}."
    for row in rows:
        yield from ("", f"### {heading(block, row)}", "", _numbers(row.main[-1]))


def heading(block: Block, row: TableRow) -> str:
    """The title of a row's part, which its address follows from."""
    data = [block.dataset, *([row.dataset] if row.dataset else [])]
    return ", ".join([block.experiment, *data, block.budget_title, block.protocol, row.label])


def address(title: str) -> str:
    """What follows ``#`` in links to a title, as GitHub and MyST make it.

    >>> address("table6_usps, MNIST to USPS, small, sound, AdaMatch+BN")
    'table6_usps-mnist-to-usps-small-sound-adamatchbn'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _numbers(cell: Cell) -> str:
    digits = digits_of(cell.metric, cell.mean)
    single = [
        f"seed {seed} [{number(value, digits)}](../results/records/{run}/record.json)"
        for seed, value, run in zip(cell.seeds, cell.values, cell.runs, strict=True)
    ]
    lead = f"**{mean_sd(cell)}** (n = {len(single)}): " if len(single) > 1 else ""
    return lead + ", ".join(single)
