"""Table I measured: time, memory and values of the layers against K, C and n."""

from typing import TYPE_CHECKING

import numpy as np

from cbnorm.errors import CbnormError
from cbnorm.report.figures.drawing import PAGE, Drawing, Line
from cbnorm.report.figures.material import Made, Material
from cbnorm.report.figures.style import Mark, mark
from cbnorm.runs.files import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SWEEPS = {"K": "clusters or components K", "C": "channels C", "n": "vectors n"}
_MEASURES = {
    "fastest_ms": "ms",
    "peak_activations": "peak memory\n(activations)",
    "values": "values kept",
}
_LOOKS = {"mn, with EM": "mn", "ucb per_channel": "ucb"}
_OWN = {
    "ucb joint": Mark("#17a2a2", "P", (0, (3, 1, 1, 1, 1, 1)), "UCB-Norm, joint"),
    "mn, refitted": Mark("#12406b", "p", (0, (1, 2)), "MN, fitted to every batch"),
}


def table1(material: Material) -> Made:
    """Every measure against every size, from ``table1.csv`` beside the other timings."""
    try:
        measured = read_table(material.bench / "table1.csv", _line)
    except CbnormError:
        return "no measurements: python benchmarks/bench_table1.py"
    machine = next((machine for machine, _ in measured), "")
    place = f" on {machine}" if machine else ""
    lines = [line for known, line in measured if known == machine]
    return [
        Drawing(
            "table1",
            "Table I, measured",
            f"Training step of one layer{place} (forward and backward, float32, channels last, "
            "fastest round), what it allocates at most in units of its input, and how many values it keeps "
            "(trained or running), with one of K, C and n varied around 3, 128 and 16,384. Growth of the "
            f"time with each, as the exponent of a fitted power: {_exponents(lines)}. Table I has 0 for "
            "SCB-Norm and UCB-Norm.",
            f"Growth of the time as exponents of a power. {_exponents(lines)}.",
            lines,
            lambda figure: _paint(figure, lines),
            (PAGE, 4.4),
        )
    ]


def _line(text: dict[str, str]) -> tuple[str, Line]:
    """The machine, and what it measured."""
    numbers = {key: float(text[key]) for key in ("value", "fastest_ms", "ms", "ratio", "peak_activations")}
    kept = int(text["parameters"]) + int(text["buffers"])
    line = {"varied": text["varied"], "layer": text["layer"]} | numbers | {"values": kept}
    return text.get("device", ""), line


def _look(layer: str) -> Mark:
    return _OWN.get(layer) or mark(_LOOKS.get(layer, layer))


def _series(lines: list[Line], sweep: str, layer: str, measure: str) -> tuple[list[float], list[float]]:
    own = [line for line in lines if (line["varied"], line["layer"]) == (sweep, layer)]
    return [line["value"] for line in own], [line[measure] for line in own]


def _exponents(lines: list[Line]) -> str:
    layers = dict.fromkeys(line["layer"] for line in lines)
    told = []
    for layer in layers:
        slopes = []
        for sweep in _SWEEPS:
            xs, ys = _series(lines, sweep, layer, "fastest_ms")
            if len(xs) > 1:
                slopes.append(f"{sweep} {np.polyfit(np.log(xs), np.log(ys), 1)[0]:.2f}")
        told.append(f"{_look(layer).title}: {', '.join(slopes)}")
    return "; ".join(told)


def _paint(figure: "Figure", lines: list[Line]) -> None:
    axes = figure.subplots(len(_MEASURES), len(_SWEEPS), sharex="col", sharey="row")
    layers = list(dict.fromkeys(line["layer"] for line in lines))
    for row, (measure, unit) in zip(axes, _MEASURES.items(), strict=True):
        for axis, (sweep, title) in zip(row, _SWEEPS.items(), strict=True):
            for layer in layers:
                look = _look(layer)
                xs, ys = _series(lines, sweep, layer, measure)
                axis.plot(xs, ys, **look.line)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log" if measure != "peak_activations" else "linear")
            axis.minorticks_off()
            axis.set_xlabel(title if measure == "values" else "")
            xs = sorted({line["value"] for line in lines if line["varied"] == sweep})
            axis.set_xticks(xs, [f"{x:g}" if x < 1024 else f"{x / 1024:g}k" for x in xs])
        row[0].set_ylabel(unit)
        if measure == "peak_activations":
            row[0].set_ylim(bottom=0)
    handles = axes[0][0].get_lines()
    labels = [_look(layer).title for layer in layers]
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
