"""What the paper reports: its cells and its claims, as shipped in `experiments/`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cbnorm.config.choices import experiment_dir
from cbnorm.config.locations import experiments_dir
from cbnorm.report.endpoints import read_endpoint
from cbnorm.runs.files import read_table

#: (data set, row, per cent of the epochs, metric) -> published value.
Cells = dict[tuple[str, str, int, str], float]
_PER_CENT = frozenset({"accuracy", "precision", "recall", "f1"})


@dataclass(frozen=True)
class PaperCell:
    """A published number.

    Attributes:
        dataset: The data set, as the paper calls it.
        row: Label of the row, which is that of the row of runs that would fill it.
        moment: Epoch, or ``end``. Table V trains for 100 epochs, so that its epochs are per cent.
        metric: What was measured.
        value: The number; accuracies, precision, recall and F1 in per cent.
        bold: Whether it is printed as the best.
        note: Why it can't be, if the numbers beside it say so.
    """

    dataset: str
    row: str
    moment: str
    metric: str
    value: float
    bold: bool
    note: str


def decimals(margin: float) -> int:
    """Decimals that tell a difference from one of this margin: two, or four where two would hide it."""
    return 4 if 0 < margin < 0.1 else 2


@dataclass(frozen=True)
class Claim:
    """A statement of the paper that compares rows; docs/statistics.md explains the columns.

    Attributes:
        id: Short and stable.
        where: Section, table or figure.
        what: The statement in our words.
        kind: ``difference``, ``equivalence``, ``speed``, ``all`` or ``any`` of other claims, ``cost`` or
            ``count`` of layers; any other kind is one that no run can answer, which `testable` explains.
        family: Claims that are corrected together.
        dataset: Where it is claimed.
        a: Rows (or claims) that are said to be better, separated by bars; their mean counts, less the mean of
            those after a minus sign between spaces.
        b: Rows that they are compared with, likewise.
        metric: What is compared: a metric of runs, or ``normal_distance`` and ``skewness`` of channels, which
            looks tell.
        moment: When, in per cent of the budget's epochs; for speed, the row whose accuracy is to be reached,
            or whose distance, where `metric` names one instead of ``epochs``.
        better: ``higher`` or ``lower``.
        gap: The published difference, positive where the claim holds in print.
        at_least: The size that is claimed, where one is.
        margin: What counts as a difference.
        seeds: Runs per row at the first look, fixed before any.
        testable: Why it can't be tested; empty if it can.
    """

    id: str
    where: str
    what: str
    kind: str
    family: str
    dataset: str
    a: str
    b: str
    metric: str
    moment: str
    better: str
    gap: float | None
    at_least: float
    margin: float
    seeds: int
    testable: str

    @property
    def digits(self) -> int:
        """Decimals that its differences are told with."""
        return decimals(self.margin)

    @property
    def least(self) -> float:
        """What counts as a difference: the margin, or the published one if that is smaller.

        Otherwise a difference as large as the one in print would refute its own claim.
        """
        smaller = self.kind == "difference" and self.gap and not self.at_least
        return min(self.margin, self.gap) if smaller and self.gap and self.gap > 0 else self.margin

    @property
    def planned(self) -> float:
        """Where no published gap may be named, the difference that numbers of seeds are worked out for.

        It is five margins: one point of accuracy.
        """
        return 5 * self.margin if self.margin else 1.0

    @property
    def goal(self) -> str:
        """The row whose accuracy or distance is to be reached; empty unless speed is claimed."""
        return self.moment.removeprefix("reaching ") if self.kind == "speed" else ""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that have to be there: those compared, and the one whose accuracy is to be reached."""
        return tuple(dict.fromkeys([*self.weights, *([self.goal] if self.goal else [])]))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every row; the claim is that the weighted sum is positive, or almost zero."""
        return contrast(self.a, self.b, self.better)


def contrast(a: str, b: str, better: str = "higher") -> dict[str, float]:
    """The weights that make a difference of two sides of a claim positive where the claim holds.

    >>> contrast("a | b - c", "d", "lower")
    {'a': -0.5, 'b': -0.5, 'c': 1.0, 'd': 1.0}
    """
    found: dict[str, float] = {}
    sign = -1.0 if better == "lower" else 1.0
    for side, factor in ((a, sign), (b, -sign)):
        plus, _, minus = side.partition(" - ")
        for rows, share in ((names(plus), factor), (names(minus), -factor)):
            for row in rows:
                found[row] = found.get(row, 0.0) + share / len(rows)
    return found


def names(side: str) -> list[str]:
    """The labels of one side of a comparison.

    >>> names("BN-1 | BN-2")
    ['BN-1', 'BN-2']
    """
    return [name.strip() for name in side.split("|") if name.strip()]


def ledgers() -> list[str]:
    """Experiments with published cells or claims, whether they can be run or not."""
    folders = (path for path in sorted(experiments_dir().iterdir()) if path.is_dir())
    return [f.name for f in folders if (f / "cells.csv").exists() or (f / "claims.csv").exists()]


def read_paper(experiment: str) -> list[PaperCell]:
    """The published cells of a table; none for an experiment without ``cells.csv``.

    Raises:
        CbnormError: If the file is damaged; names the line.
    """
    path = experiment_dir(experiment) / "cells.csv"
    return read_table(path, _cell) if path.exists() else []


def read_cells(experiment: str) -> Cells:
    """The published numbers of a table by place in time.

    Raises:
        CbnormError: If a file is damaged; names the line.
    """
    endpoint = read_endpoint(experiment)
    placed = ((cell, endpoint.percent(cell.moment)) for cell in read_paper(experiment))
    return {(c.dataset, c.row, percent, c.metric): c.value for c, percent in placed if percent is not None}


def read_claims(experiment: str) -> list[Claim]:
    """What is claimed of a table; nothing for an experiment without ``claims.csv``.

    Raises:
        CbnormError: If the file is damaged; names the line.
    """
    path = experiment_dir(experiment) / "claims.csv"
    return _claims(path) if path.exists() else []


def _claims(path: Path) -> list[Claim]:
    return read_table(path, _claim)


def _cell(line: dict[str, str]) -> PaperCell:
    value = _finite(line["value"])
    if line["metric"].removeprefix("confident_") in _PER_CENT and not 0 <= value <= 100:
        raise ValueError(f"{line['metric']} {value} is not per cent")
    place = (line["dataset"], line["row"], line["moment"], line["metric"])
    return PaperCell(*place, value, line.get("bold") == "bold", line.get("note", ""))


def _claim(line: dict[str, str]) -> Claim:
    if line["better"] not in {"higher", "lower"}:
        raise ValueError(f"better is {line['better']!r}, neither higher nor lower")
    made: dict[str, Callable[[str], object]] = {
        "gap": lambda text: _finite(text) if text else None,
        "at_least": _finite,
        "margin": _finite,
        "seeds": int,
    }
    columns = Claim.__dataclass_fields__
    return Claim(**{name: made.get(name, str)(line[name]) for name in columns})  # type: ignore[arg-type]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value
