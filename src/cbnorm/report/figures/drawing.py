"""A figure before it is drawn: its numbers, its words, and how to paint it; and as files."""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbnorm.errors import CbnormError
from cbnorm.report.figures.style import FOREGROUND, style
from cbnorm.runs.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Width in inches of a column and of a page of the paper's layout.
COLUMN, PAGE = 3.5, 7.16
#: Of files, and of pixels within a page, which should stay light.
_DPI, _INLINE_DPI = 200, 90

Line = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        name: Of its files, without suffix.
        title: What it is, in a few words.
        caption: What is to be known beside it: whose runs, what the marks mean, what is missing.
        alt: What it shows, for those who can't see it.
        lines: The numbers in it, as lines of a table with the same columns.
        paint: Draws them into an empty figure.
        size: Width and height in inches.
    """

    name: str
    title: str
    caption: str
    alt: str
    lines: Sequence[Line]
    paint: Callable[["Figure"], None]
    size: tuple[float, float] = (COLUMN, 2.4)

    def table(self) -> str:
        """The numbers as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in line.items()} for line in self.lines)
        return text.getvalue()

    @property
    def digest(self) -> str:
        """Short hash of the numbers, which the drawn files carry: it tells whether they are of these."""
        return hashlib.sha256(self.table().encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def draw(drawing: Drawing, kind: str, *, transparent: bool = False, dpi: int = _DPI) -> bytes:
    """A figure as ``png`` or ``svg``; without a date, so that the same numbers give the same file.

    Raises:
        CbnormError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CbnormError("figures need matplotlib: pip install 'cbnorm[figures]'") from error
    buffer = io.BytesIO()
    note = f"numbers {drawing.digest}"
    metadata = {"Date": None, "Description": note} if kind == "svg" else {"Description": note}
    with mpl.rc_context(style()):
        figure = Figure(figsize=drawing.size, layout="constrained")
        drawing.paint(figure)
        figure.savefig(buffer, format=kind, dpi=dpi, transparent=transparent, metadata=metadata)
    return buffer.getvalue()


def write(drawing: Drawing, folder: Path) -> list[Path]:
    """Write ``NAME.csv``, ``NAME.svg`` and ``NAME.png``."""
    contents = {"csv": drawing.table().encode()} | {kind: draw(drawing, kind) for kind in ("svg", "png")}
    paths = [folder / f"{drawing.name}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content)
    return paths


def drawn(folder: Path, drawing: Drawing) -> bool:
    """Whether the files of a figure are there and show these numbers."""
    paths = [folder / f"{drawing.name}.{kind}" for kind in ("csv", "svg", "png")]
    note = f"numbers {drawing.digest}".encode()
    there = all(path.is_file() for path in paths)
    return there and all(note in path.read_bytes() for path in paths[1:])


def inline(drawing: Drawing) -> str:
    """A figure as SVG to be put into a page: its ids are its own, its ink is the page's."""
    text = draw(drawing, "svg", transparent=True, dpi=_INLINE_DPI).decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\b(id=")', rf"\g<1>{drawing.name}-", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{drawing.name}-", text)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"| version="1.1"', "", text)
    text = text.replace("xlink:href", "href").replace(FOREGROUND, "currentColor")
    return text.strip()
