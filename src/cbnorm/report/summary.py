"""Every table and every verdict at once, and the records that belong nowhere."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cbnorm.config.choices import experiments, is_own
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Collection
from cbnorm.report.claim_tables import tally, write_claims
from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import ledgers, read_claims
from cbnorm.report.pool import Records
from cbnorm.report.tables import write_tables
from cbnorm.report.verdicts import Verdict, judge, speak
from cbnorm.runs.files import write_bytes


@dataclass(frozen=True)
class Collected:
    """One experiment, collected and judged; `runnable` says that it has rows."""

    found: Collection
    verdicts: list[Verdict]
    runnable: bool


def everything(evidence: Evidence, filters: dict[str, str]) -> Iterator[Collected]:
    """All experiments of the ledger and all that can be run, in the order of their names."""
    runnable = experiments()
    for name in sorted({*runnable, *ledgers()}):
        found = gather(name, evidence.records, filters) if name in runnable else Collection(name)
        yield Collected(found, judge(found, evidence) if _can_be_judged(name) else [], name in runnable)


def gather(experiment: str, records: Records, filters: dict[str, str]) -> Collection:
    """The table of one experiment among all; of a package that is broken, why its records stand nowhere.

    Raises:
        CbnormError: One of our own files is damaged.
    """
    try:
        return collect(experiment, records, filters=filters, shared=False)
    except CbnormError as error:
        if is_own("experiment", experiment):
            raise
        left_out = [(record["id"], str(error)) for record in records.by_experiment.get(experiment, [])]
        return Collection(experiment, left_out=left_out)


def _can_be_judged(experiment: str) -> bool:
    """Whether its claims can be read, or there are none: another package's may be broken."""
    try:
        return read_claims(experiment) is not None
    except CbnormError:
        if is_own("experiment", experiment):
            raise
        return False


def collect_all(evidence: Evidence, filters: dict[str, str], out: Path) -> str:
    """Write the tables of every experiment with records or claims, and what was left out.

    Args:
        evidence: The records and what lies beside them.
        filters: As of :func:`cbnorm.report.collect.collect`.
        out: Gets a folder per experiment, and ``left-out.csv``.

    Returns:
        What was found, for people.
    """
    return write_all(evidence, everything(evidence, filters), out)


def write_all(evidence: Evidence, entries: Iterable[Collected], out: Path) -> str:
    """The same from experiments that are collected already."""
    lines, left_out, known = [], [], set()
    for entry in entries:
        name = entry.found.experiment
        known.add(name)
        lines += _write(entry, out)
        left_out += [(run, name, reason) for run, reason in entry.found.left_out]
    for experiment, records in evidence.records.by_experiment.items():
        if experiment not in known:
            reason = "of no experiment" if experiment is None else "of an experiment that is not here"
            left_out += [(record["id"], experiment or "", reason) for record in records]
    left_out += [(run, "", f"damaged: {reason}") for run, reason in evidence.damaged.items()]
    write_bytes(out / "left-out.csv", _as_csv(sorted(left_out)).encode())
    lines += [
        f"{len(evidence.records.all)} records; {len(left_out)} left out or incomplete: {out / 'left-out.csv'}"
    ]
    return "\n".join(lines)


def _write(entry: Collected, out: Path) -> list[str]:
    found = entry.found
    folder = out / found.experiment
    if found.blocks or found.left_out:
        write_tables(found, folder)
    if speak(entry.verdicts):
        write_claims(found.experiment, entry.verdicts, folder)
    lines = [f"{found.experiment}: {'no runs' if entry.runnable else 'claims about layers'}"]
    if found.blocks:
        lines = [f"{found.experiment}:"]
    for block in found.blocks:
        total = sum(len(row.main) for row in block.rows if not row.control)
        lines.append(f"  {block.place}: {total - block.empty} of {total} cells")
    if entry.verdicts:
        lines.append(f"  {tally(entry.verdicts)}")
    if found.left_out:
        lines.append(f"  {len(found.left_out)} records fill no cell, or not all of theirs")
    return lines


def _as_csv(lines: list[tuple[str, str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "experiment", "reason"])
    writer.writerows(lines)
    return text.getvalue()
