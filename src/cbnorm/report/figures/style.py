"""Looks that all figures share: legible at column width, in grey, and on dark ground."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Ink. A page puts its own in its place.
FOREGROUND = "#1f2328"


class Mark(NamedTuple):
    """How one method looks everywhere; marker and dashes tell it without colour."""

    color: str
    marker: str
    dashes: Any
    title: str

    @property
    def line(self) -> dict[str, Any]:
        """Settings of a line with marks."""
        return {"color": self.color, "linestyle": self.dashes, "marker": self.marker}


#: By norm. The colours differ in lightness too, and have contrast on white and on dark ground.
MARKS = {
    "bn": Mark("#7a7f87", "o", "-", "BN"),
    "mn": Mark("#1f77c4", "s", (0, (4, 1.5)), "MN"),
    "scb_base": Mark("#b8860b", "^", (0, (1, 1)), "SCB-Norm-base"),
    "scb": Mark("#c0392b", "D", (0, (5, 1, 1, 1)), "SCB-Norm"),
    "ucb": Mark("#2e8b57", "v", (0, (7, 2)), "UCB-Norm"),
    "none": Mark("#9467bd", "x", (0, (2, 2)), "no layer"),
}
_OTHERS = ("P", "*", "<", ">", "p", "h", "X", "d")


def mark(norm: str) -> Mark:
    """The looks of a norm; those of others follow from their names."""
    other = _OTHERS[sum(norm.encode()) % len(_OTHERS)]
    return MARKS.get(norm, Mark("#8c6d5a", other, (0, (3, 1, 1, 1, 1, 1)), norm))


def legend(
    figure: "Figure",
    axis: "Axes",
    norms: Iterable[str],
    others: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """One legend below all panels: norms, and what `others` draw in their own way."""
    lines = {mark(norm).title: mark(norm).line for norm in norms} | dict(others or {})
    handles = [axis.plot([], [], **line)[0] for line in lines.values()]
    figure.legend(handles, list(lines), loc="outside lower center", ncols=max(len(lines), 1))


def style() -> Any:
    """Settings of matplotlib, by name."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 7,
        "axes.titlesize": 7.5,
        "axes.labelsize": 7,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "legend.fontsize": 6.5,
        "legend.frameon": False,
        # Long enough to show the dashes beside the mark.
        "legend.handlelength": 4.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.grid": True,
        "grid.linewidth": 0.3,
        "grid.color": "#9aa0a6",
        "grid.alpha": 0.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 3.5,
        "text.color": FOREGROUND,
        "axes.edgecolor": FOREGROUND,
        "axes.labelcolor": FOREGROUND,
        "xtick.color": FOREGROUND,
        "ytick.color": FOREGROUND,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "savefig.facecolor": "auto",
        # Text stays text: smaller, and readable by machines that read aloud.
        "svg.fonttype": "none",
        "svg.hashsalt": "cbnorm",
    }
