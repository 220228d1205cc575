"""Verdicts as files: a line per claim and budget as CSV, and a page for people."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cbnorm.report.endpoints import PRIMARY_METRIC
from cbnorm.report.policy import looks
from cbnorm.report.verdicts import DECIDED, WORDS, Verdict, apart_from_runs, budget_is_full
from cbnorm.report.words import number
from cbnorm.runs.files import write_bytes

_HEAD = [
    *("id", "where", "what", "budget", "protocol", "verdict", "remark", "seeds", "planned", "used"),
    *("difference", "low", "high", "p_support", "p_refute", "method", "detectable", "needed"),
    *("published", "margin", "runs"),
]


def write_claims(experiment: str, verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Write ``NAME-claims.csv`` and ``NAME-claims.md``; nothing for a table of which nothing is claimed."""
    if not verdicts:
        return []
    contents = {
        f"{experiment}-claims.csv": as_csv(verdicts),
        f"{experiment}-claims.md": as_markdown(experiment, verdicts),
    }
    for name, text in contents.items():
        write_bytes(folder / name, text.encode())
    return [folder / name for name in contents]


def as_csv(verdicts: Iterable[Verdict]) -> str:
    """One line per claim, budget and protocol; the published gap stands beside full budgets only."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    writer.writerows(_line(verdict) for verdict in verdicts)
    return text.getvalue()


def _line(told: Verdict) -> list[object]:
    claim = told.claim
    published = claim.gap if budget_is_full(told) else None
    lead = [claim.id, claim.where, claim.what, told.budget, told.protocol, told.told, told.remark]
    counts = [told.seeds, claim.seeds, told.used]
    numbers = [number(value, claim.digits) for value in (told.difference, told.low, told.high)]
    chances = [number(value, 4) for value in (told.supports, told.refutes)]
    rest = [number(told.detectable, claim.digits), told.needed or "", number(published, claim.digits)]
    rest += [f"{claim.least:g}"]
    return [*lead, *counts, *numbers, *chances, told.method, *rest, " ".join(told.runs)]


def as_markdown(experiment: str, verdicts: Sequence[Verdict]) -> str:
    """The page of one table's claims, budget by budget."""
    lines = [f"# Claims of {experiment}", "", "The rules are those of docs/statistics.md.", ""]
    places = list(dict.fromkeys((told.budget, told.protocol) for told in verdicts))
    for budget, protocol in places:
        own = [told for told in verdicts if (told.budget, told.protocol) == (budget, protocol)]
        lines += [f"## Budget {budget}, protocol {protocol}" if budget else "## Apart from runs", ""]
        lines += [tally(own), ""]
        if budget not in {"", "full"}:
            lines += [
                f"Verdicts are about budget {budget} only, and say nothing of the published numbers.",
                "",
            ]
        silent = [told for told in own if told.untouched]
        spoken = [told for told in own if told not in silent]
        lines += [*table(spoken), ""] if spoken else []
        lines += [_silent(silent), ""] if silent else []
    return "\n".join(lines)


def _silent(verdicts: Sequence[Verdict]) -> str:
    """Claims without any run, counted by data set: a line for each would say nothing."""
    counts = Counter(told.claim.dataset or "several data sets" for told in verdicts)
    return f"Not run: {', '.join(f'{count} claims on {name}' for name, count in counts.items())}."


def foremost(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """One verdict per claim: of several places, a judged one first, at the paper's budget before others."""
    best: dict[str, Verdict] = {}
    for told in sorted(verdicts, key=lambda told: (_readiness(told), not budget_is_full(told))):
        best.setdefault(told.claim.id, told)
    return list(best.values())


def _readiness(told: Verdict) -> int:
    return max(WORDS.index(told.verdict) - len(DECIDED), 0)


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims have which verdict, in words; a claim counts once."""
    counts = Counter(told.verdict for told in foremost(verdicts))
    parts = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
    return f"{counts.total()} claims: {', '.join(parts)}."


def basis(verdicts: Sequence[Verdict]) -> str:
    """What verdicts that say something rest on, where that is less than runs at the paper's budget."""
    decided = [told for told in verdicts if told.verdict in DECIDED]
    if decided and all(apart_from_runs(told) for told in decided):
        return "Those decided rest on timings of layers and on counting, none on a trained network."
    full = any(told.budget == "full" for told in decided)
    return "" if full else "No verdict rests on runs at the paper's full budget yet."


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The lines of a Markdown table."""
    head = "| claim | what | verdict | difference (95 % interval) | p for | p against | seeds | remark |"
    return [head, "|---" * 8 + "|", *map(_row, verdicts)]


def _row(told: Verdict) -> str:
    claim = told.claim
    seeds = f"{told.used or told.seeds} of {claim.seeds}" if told.seeds else ""
    cells = [f"`{claim.id}`", claim.what, told.told, interval_of(told)]
    cells += [number(told.supports, 4), number(told.refutes, 4), seeds, remark_of(told)]
    return f"| {' | '.join(cells)} |"


def interval_of(told: Verdict) -> str:
    """The difference with its interval as text."""
    if told.difference is None:
        return ""
    digits = told.claim.digits
    bounds = (
        f" ({told.low:+.{digits}f} to {told.high:+.{digits}f})"
        if told.low is not None and told.high is not None
        else ""
    )
    return f"{told.difference:+.{digits}f}{bounds}"


def remark_of(told: Verdict) -> str:
    """What has to be known beside a verdict, with the seeds that it would take."""
    parts = [told.remark]
    if told.verdict == "inconclusive" and told.needed is not None:
        parts.append(_wanted(told))
    if told.verdict == "inconclusive" and told.detectable is not None:
        parts.append(f"{told.detectable:.{told.claim.digits - 1}f} can be found")
    return "; ".join(part for part in parts if part)


def _wanted(told: Verdict) -> str:
    """How many seeds would decide."""
    claim = told.claim
    *_, (_, most, _) = looks(claim.seeds)
    count = f"{told.needed} seeds" if told.needed else f"more than {most} seeds"
    if claim.kind == "equivalence":
        return f"{count} would show that equal rows are equal"
    gap = claim.at_least + claim.planned
    if budget_is_full(told) and claim.gap:
        return f"{count} would find the published {claim.gap:g}"
    unit = " point" + "s" * (gap != 1) if claim.metric == PRIMARY_METRIC else ""
    return f"{count} would find {'' if unit else 'a difference of '}{gap:g}{unit}"
