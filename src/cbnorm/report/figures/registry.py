"""All figures, in the order in which they are shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cbnorm.report.figures.components import principal_components
from cbnorm.report.figures.costs import cost_against_accuracy
from cbnorm.report.figures.curves import test_errors
from cbnorm.report.figures.distributions import distributions
from cbnorm.report.figures.drawing import Drawing, drawn, write
from cbnorm.report.figures.forest import forest
from cbnorm.report.figures.gan import distances, samples
from cbnorm.report.figures.ksweep import k_sweep
from cbnorm.report.figures.material import Maker, Material
from cbnorm.report.figures.panels import densenet, gradients, vit_losses
from cbnorm.report.figures.planes import planes_of_cnn, planes_of_densenet
from cbnorm.report.figures.seeds import seeds
from cbnorm.report.figures.table1 import table1
from cbnorm.runs.files import write_bytes

#: The page beside the figures; no README, for a folder of somebody's own may have one.
CAPTIONS = "captions.md"
#: By name; the numbers are the paper's.
FIGURES: dict[str, Maker] = {
    "forest": forest,
    "figures 3 to 5": test_errors,
    "cost against accuracy": cost_against_accuracy,
    "seeds needed": seeds,
    "K sweep": k_sweep,
    "Table I": table1,
    "figure 1": planes_of_cnn,
    "figure 2": distributions,
    "figures 6 to 8": densenet,
    "figure 9": planes_of_densenet,
    "figure 10": distances,
    "figure 11": samples,
    "figure 12": gradients,
    "figure 13": vit_losses,
    "figure 14": principal_components,
}


@dataclass(frozen=True)
class Skipped:
    """A figure that can't be drawn yet, and why."""

    name: str
    reason: str


def figures(material: Material) -> Iterator[Drawing | Skipped]:
    """Every figure, drawn or skipped."""
    for name, maker in FIGURES.items():
        made = maker(material)
        if isinstance(made, str):
            yield Skipped(name, made)
        else:
            yield from made


def write_figures(material: Material, out: Path) -> str:
    """Write all figures that can be drawn; those that show the same numbers already are left as they are.

    Returns:
        What was done, for people.
    """
    lines, drawings = [], []
    for made in figures(material):
        if isinstance(made, Drawing):
            drawings.append(made)
        if isinstance(made, Skipped):
            lines.append(f"{made.name}: skipped, {made.reason}")
        elif drawn(out, made):
            lines.append(f"{made.name}: up to date")
        else:
            paths = write(made, out)
            lines.append(f"{made.name}: {', '.join(path.suffix[1:] for path in paths)} in {out}")
    if drawings:
        write_bytes(out / CAPTIONS, captions(drawings).encode())
    return "\n".join(lines)


def captions(drawings: Iterable[Drawing]) -> str:
    """What is to be known beside the figures of a folder, as a page that shows them."""
    parts = [f"## {one.title}\n\n![{one.title}]({one.name}.png)\n\n{one.caption}\n" for one in drawings]
    return "\n".join(["# Figures\n", *parts])
