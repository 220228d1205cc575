"""All evidence as one page of HTML that needs no network, no server and no other file."""

import datetime as dt
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cbnorm.report.claim_tables import basis, foremost, interval_of, remark_of, tally
from cbnorm.report.figures.drawing import Drawing, inline
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.registry import Skipped, figures
from cbnorm.report.page_tables import commit, hours, shown_tables, spoken_machines
from cbnorm.report.summary import Collected
from cbnorm.report.verdicts import DECIDED, WORDS, Verdict, speak
from cbnorm.report.words import titled

#: Where a checkout has it.
PAGE = "results/report.html"
_DATE = re.compile(r'<time datetime="[^"]*">[^<]*</time>')


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
    environment.filters |= {"interval": interval_of, "remark": _remark}
    return environment.get_template("report.html").render(
        date=date or today(),
        records=len(records),
        hours=hours(records),
        machines=spoken_machines(records),
        commits=sorted({commit(record) for record in records}),
        tally=tally(verdicts),
        counts=[(word, sum(told.verdict == word for told in foremost(verdicts))) for word in WORDS],
        decided=decided,
        basis=basis(verdicts),
        places=places,
        drawings=[(made, Markup(inline(made))) for made in made if isinstance(made, Drawing)],  # noqa: S704
        skipped=[one for one in made if isinstance(one, Skipped)],
        tables=[
            (e.found.experiment, titled(e.found.experiment), shown_tables(e, material))
            for e in material.entries
            if e.found.blocks
        ],
        missing=[missing for entry in material.entries if (missing := _missing(entry))],
        left_out=[
            (entry.found.experiment, *pair) for entry in material.entries for pair in entry.found.left_out
        ],
    )


def undated(page: str) -> str:
    """A page without the day it was made: what tells whether another says the same."""
    return _DATE.sub("", page, count=1)


def _remark(told: Verdict) -> str:
    """What has to be known beside a verdict and its number of seeds."""
    return "" if told.remark == f"{told.seeds} of {told.claim.seeds} seeds so far" else remark_of(told)


def today() -> str:
    """The day, in UTC; that of ``SOURCE_DATE_EPOCH`` where it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    when = dt.datetime.now(dt.UTC)
    if epoch and epoch.isdecimal():
        when = dt.datetime.fromtimestamp(int(epoch), dt.UTC)
    return when.date().isoformat()


def _places(entry: Collected) -> Iterator[Place]:
    for budget, protocol in dict.fromkeys((told.budget, told.protocol) for told in entry.verdicts):
        own = [told for told in entry.verdicts if (told.budget, told.protocol) == (budget, protocol)]
        spoken = [told for told in own if speak([told])]
        if spoken:
            title = f"budget {budget}, protocol {protocol}" if budget else "apart from runs"
            small = budget not in {"", "full"}
            yield Place(titled(entry.found.experiment), title, small, tally(spoken), spoken)


def _missing(entry: Collected) -> Missing | None:
    name, found = entry.found.experiment, entry.found
    lines = []
    silent = [told for told in entry.verdicts if told.untouched]
    if silent:
        counts = Counter(told.claim.dataset or "several data sets" for told in silent)
        lines.append(f"claims without runs: {', '.join(f'{n} on {data}' for data, n in counts.items())}")
    elif entry.runnable and not found.blocks:
        lines.append("no run of its own")
    if entry.runnable and not any(block.budget == "full" for block in found.blocks):
        of_paper = "the paper's full budget" if entry.verdicts else "budget full"
        lines.append(f"nothing at {of_paper}")
    lines += [f"{block.place}: {block.empty} cells are empty" for block in found.blocks if block.empty]
    wanted = f"cbnorm reproduce {name} budget=full seeds=0..4" if entry.runnable else ""
    return Missing(titled(name), lines, wanted) if lines else None
