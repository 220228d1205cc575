"""`cbnorm campaign`: its words, the plan it prints, and what remains when it stops."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from cbnorm.config.compose import tell_ignored
from cbnorm.config.overrides import quoted
from cbnorm.errors import CbnormError
from cbnorm.runs.campaign import Part, carry_out, in_order, limit_of, plan_campaign, survey
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.packing import Jobs, parse_jobs
from cbnorm.runs.plan import find_experiment, parse_seeds
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import default_jobs
from cbnorm.words import flag, names, take


@dataclass(frozen=True)
class Asked:
    """What a campaign is told."""

    experiments: list[str]
    overrides: list[str]
    seeds: list[int]
    labels: list[str]
    jobs: Jobs
    time_limit: float | None
    dry: bool


def campaign(words: Sequence[str]) -> int:
    """Carry out ``cbnorm campaign WORDS``.

    Returns:
        0 when what could be done in time was done, 1 when runs failed.

    Raises:
        RunInterruptedError: A signal asked to stop; what remains is said first.
        CbnormError: What was asked is refused, or no run can work.
    """
    began = time.monotonic()
    asked = read(words)
    planned = plan_campaign(asked.experiments, asked.overrides, seeds=asked.seeds, labels=asked.labels)
    tell_ignored([item.config for item in planned], asked.overrides)
    store = Store(planned[0].config.store)
    parts = survey(planned, store)
    jobs = asked.jobs if isinstance(asked.jobs, int) else default_jobs(planned)
    if asked.dry:
        print(agenda(parts, jobs=jobs, time_limit=asked.time_limit))
        return 0
    try:
        fine = carry_out(parts, store, jobs=asked.jobs, time_limit=asked.time_limit, began=began)
    except RunInterruptedError:
        print(remainder(survey(planned, store), jobs))
        raise
    print(remainder(survey(planned, store), jobs))
    print(f"took {time.monotonic() - began:.0f} s")
    return 0 if fine else 1


def read(words: Sequence[str]) -> Asked:
    """Understand the words of a campaign.

    Raises:
        CbnormError: One line that says which word is wrong.
    """
    own, others = take(words, "campaign", ["experiment", "seeds", "rows", "jobs", "time_limit"], ["dry"])
    plain, overrides = names(quoted(others))
    tables = [name for text in (*plain, own.get("experiment", "")) for name in text.split(",") if name]
    if not tables:
        raise CbnormError("which table? write cbnorm campaign table5, or several: table5,ucb_forms")
    return Asked(
        experiments=list(dict.fromkeys(find_experiment(name) for name in tables)),
        overrides=overrides,
        seeds=parse_seeds(own.get("seeds", "0")),
        labels=own["rows"].split(",") if "rows" in own else [],
        jobs=parse_jobs(own.get("jobs")),
        time_limit=_seconds(own["time_limit"]) if "time_limit" in own else None,
        dry=flag(own, "dry"),
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise CbnormError(f"time_limit={text} must be a number of seconds, such as 540")
    return seconds


_COLUMNS = "{:<{}}  {:>5}  {:>5}  {:>4}  {:>8}  {:>8}  {}"


def remainder(parts: Sequence[Part], jobs: int) -> str:
    """A line per row with what is left of it, then of all."""
    rows: dict[str, list[Part]] = {}
    for part in parts:
        rows.setdefault(part.item.row, []).append(part)
    width = max(len(label) for label in rows)
    lines = [_COLUMNS.format("row", width, "ended", "begun", "new", "hours", "images/s", "speed from")]
    for label, its in rows.items():
        cost = its[0].cost
        cells = (*_counted(its), f"{_hours(its):.2f}", f"{cost.speed:.0f}", cost.source)
        lines.append(_COLUMNS.format(label, width, *cells))
    ended, begun, new = _counted(parts)
    text = f"{ended} of {len(parts)} runs ended, {begun} begun, {new} not begun"
    if ended < len(parts):
        text += f"; about {_hours(parts) / jobs:.2f} hours left here with jobs={jobs}"
    if failed := sum(part.status == "failed" for part in parts):
        text += f"; {failed} failed, which the same command tries again"
    return "\n".join([*lines, text])


def _hours(parts: Sequence[Part]) -> float:
    return sum(part.seconds for part in parts) / 3600


def _counted(parts: Sequence[Part]) -> tuple[int, int, int]:
    ended = sum(not part.missing for part in parts)
    begun = sum(part.missing and part.begun for part in parts)
    return ended, begun, len(parts) - ended - begun


def agenda(parts: Sequence[Part], *, jobs: int, time_limit: float | None) -> str:
    """The plan of a campaign: its runs in the order of work, and what they will take."""
    missing = in_order(parts)
    width = max((len(_name(part)) for part in missing), default=0)
    lines = [f"{part.item.id}  {_name(part):<{width}}  {_prospect(part)}" for part in missing]
    if time_limit is not None and missing:
        limit = limit_of(missing, time_limit)
        shortest, longest = min(limit.needs.values()), max(limit.needs.values())
        lines.append(
            f"time_limit={time_limit:.0f}: runs save after {limit.stop:.0f} s; none is started with"
            f" less than {shortest:.0f} to {longest:.0f} s to go, which is what it needs for a checkpoint"
        )
    return "\n".join([*lines, remainder(parts, jobs)])


def _name(part: Part) -> str:
    return f"{part.item.row} seed {part.item.config.seed}"


def _prospect(part: Part) -> str:
    total = part.item.config.trainer.max_epochs
    how = f"goes on after epoch {part.epochs} of {total}" if part.begun else f"{total} epochs"
    return f"{part.seconds / 3600:>7.2f} h  {how}" + (", is being trained" if part.elsewhere else "")
