"""What figures 1, 2 and 9 share: which rows have a look, and what has to be known of the networks."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.figures.drawing import Drawing
from cbnorm.report.figures.histories import runs_of
from cbnorm.report.figures.material import Material, slug
from cbnorm.report.figures.style import MARKS
from cbnorm.runs.files import read_arrays

Look = dict[str, NDArray[Any]]
_WANTED = ("bn", "mn", "scb_base", "scb", "ucb")


class Sight(NamedTuple):
    """A row, its run that was looked at, what was seen, and whether that was in the run trained again."""

    row: TableRow
    run: str
    look: Look
    again: bool


def nothing(material: Material) -> str:
    """Why there is no figure."""
    others = sum(path.stem not in material.records for path in material.looks.glob("*.npz"))
    if others:
        return f"{others} looks in {material.looks} are of other runs: store=runs names those of make look"
    return "no network of these rows was looked at: make look"


def each(
    material: Material, experiment: str, draw: Callable[[Block, str, list[Sight]], list[Drawing]]
) -> Iterator[Drawing]:
    """Figures of every block, depth and learning rate."""
    for block in material.blocks(experiment):
        rows = [row for row in block.rows if not row.control]
        for kind in sorted({_kind(row) for row in rows}):
            own = [row for row in rows if _kind(row) == kind]
            if seen := list(_seen(own, material)):
                depth, rate = kind
                title = f"depth {depth}, learning rate {rate:g}" if depth else f"learning rate {rate:g}"
                yield from draw(block, title, seen)


def _kind(row: TableRow) -> tuple[int, float]:
    """Rows side by side have one depth (0 for networks that have but one) and one rate."""
    model = row.config.model
    return model.depth if model.name == "densenet" else 0, row.config.optimizer.lr


def name_of(number: str, block: Block, kind: str) -> str:
    """Name of a figure's files."""
    short = kind.replace("learning rate ", "").replace(",", "")
    return slug(f"fig{number}", block.dataset, block.budget, block.protocol, short)


def _seen(rows: list[TableRow], material: Material) -> Iterator[Sight]:
    for row in rows:
        for run in runs_of(row):
            if look := read_arrays(material.looks / f"{run}.npz"):
                yield Sight(row, run, look, material.evidence.trained_again(run, look))
                break


def remarks(seen: list[Sight]) -> str:
    """What has to be known of the networks, for a caption: which are lacking, which are not the records'."""
    there = {one.row.config.norm.name for one in seen}
    lacking = ", ".join(MARKS[norm].title for norm in _WANTED if norm not in there)
    again = ", ".join(one.row.label for one in seen if one.again)
    told = f" Trained again, with other answers than the published runs: {again}." if again else ""
    return told + (f" Not looked at yet: {lacking}." if lacking else "")
