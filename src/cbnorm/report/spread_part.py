"""What :mod:`cbnorm.report.spread` measures, as a part of a table's page and as a file."""

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np

from cbnorm.report.blocks import Block
from cbnorm.report.spread import LEAST, Difference, correlation_interval, measure, read_contrasts, sd_interval

_CSV = (
    "data set",
    "budget",
    "protocol",
    "a",
    "b",
    "n",
    "difference",
    "low",
    "high",
    "p",
    "margin",
    "answer",
    "runs",
)


def markdown_part(block: Block) -> list[str]:
    """The part of a block's page; empty for an experiment without contrasts."""
    contrasts = read_contrasts(block.experiment)
    if not contrasts:
        return []
    lines = [
        "Best validation accuracy over seeds:",
        "",
        "| row | n | mean | sd (95 % interval) |",
        "|---|---|---|---|",
    ]
    for row in block.rows:
        values = list(row.validation.values())
        mean = "" if row.mean_validation is None else f"{row.mean_validation:.2f}"
        lines.append(f"| {row.label} | {len(values)} | {mean} | {_spread(values)} |")
    lines += ["", *_correlations(block), *_differences([measure(one, block) for one in contrasts])]
    return [*lines, ""]


def _spread(values: Sequence[float]) -> str:
    if len(values) < LEAST:
        return ""
    sd = float(np.std(values, ddof=1))
    low, high = sd_interval(sd, len(values))
    return f"{sd:.2f} ({low:.2f} to {high:.2f})"


def _correlations(block: Block) -> list[str]:
    """One line for every two rows that share more than :data:`LEAST` seeds."""
    found = []
    for one, other in itertools.combinations(block.rows, 2):
        seeds = sorted(one.validation.keys() & other.validation.keys())
        if len(seeds) <= LEAST:
            continue
        values = [[row.validation[seed] for seed in seeds] for row in (one, other)]
        if min(map(np.ptp, values)) == 0:
            continue
        r, low, high = correlation_interval(*values)
        found.append(f"| {one.label}, {other.label} | {len(seeds)} | {r:.2f} ({low:.2f} to {high:.2f}) |")
    head = [
        "Correlation over the seeds that two rows share:",
        "",
        "| rows | n | r (95 % interval) |",
        "|---|---|---|",
    ]
    return [*head, *found, ""] if found else []


def _differences(found: Sequence[Difference]) -> list[str]:
    lines = [
        "Differences of the best validation accuracy; equivalent: shown to be smaller than the margin by two",
        "one-sided tests at 5 % each, not corrected for the number of lines.",
        "",
        "| what | rows | n | difference (95 % interval) | margin | p | |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        bounds = f" ({one.bounds[0]:+.2f} to {one.bounds[1]:+.2f})" if one.bounds else ""
        points = "" if one.points is None else f"{one.points:+.2f}{bounds}"
        contrast, p = one.contrast, "" if one.p is None else f"{one.p:.3f}"
        lines.append(
            f"| {contrast.question} | {contrast.a} − {contrast.b} | {len(one.seeds)} | {points} "
            f"| {contrast.margin:g} | {p} | {one.answer} |"
        )
    return lines


def as_csv(blocks: Sequence[Block]) -> str:
    """The contrasts of all blocks, a line each, with the ids of the runs; empty without contrasts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for block in blocks:
        for contrast in read_contrasts(block.experiment):
            one = measure(contrast, block)
            low, high = one.bounds or (None, None)
            numbers = [_number(value) for value in (one.points, low, high, one.p)]
            runs = [run for label in (contrast.a, contrast.b) for run in _runs(block, label, one.seeds)]
            place = [block.dataset, block.budget_title, block.protocol, contrast.a, contrast.b]
            writer.writerow([*place, len(one.seeds), *numbers, contrast.margin, one.answer, " ".join(runs)])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _runs(block: Block, label: str, seeds: Sequence[int]) -> list[str]:
    row = block.row(label)
    cell = row.main[-1] if row else None
    return [run for run, seed in zip(cell.runs, cell.seeds, strict=True) if seed in seeds] if cell else []
