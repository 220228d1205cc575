"""`cbnorm reproduce`: train what is missing of a table, then collect and judge it."""

from collections.abc import Sequence
from pathlib import Path

from cbnorm.config.canonical import PLACE_OF_EXECUTION
from cbnorm.errors import CbnormError
from cbnorm.report.collect import collect
from cbnorm.report.commands import write
from cbnorm.report.evidence import Evidence
from cbnorm.runs.packing import parse_jobs
from cbnorm.runs.plan import find_experiment, parse_seeds, plan
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import sweep
from cbnorm.words import flag, take

#: Overrides that leave a table what it is.
_PRESETS = frozenset({"dataset", "protocol", "budget", "store", "logger"}) | {
    f"trainer.{option}" for option in PLACE_OF_EXECUTION
}


def reproduce(words: Sequence[str]) -> int:
    """Carry out ``cbnorm reproduce WORDS``.

    Returns:
        0 when every run ended, 1 when some failed.

    Raises:
        RunInterruptedError: A signal asked to stop.
        CbnormError: What was asked is refused, or no run can work.
    """
    own, others = take(words, "reproduce", ["seeds", "jobs", "rows", "out"], ["again"])
    if not others or "=" in others[0]:
        raise CbnormError("which table? write cbnorm reproduce table5")
    experiment, overrides = find_experiment(others[0]), others[1:]
    labels = own["rows"].split(",") if "rows" in own else []
    planned = plan(experiment, overrides, seeds=parse_seeds(own.get("seeds", "0")), labels=labels)
    first = planned[0].config
    store = Store(first.store)
    again = flag(own, "again")
    complete = sweep(planned, store, jobs=parse_jobs(own.get("jobs")), again=again)
    filters = {"dataset": first.dataset.name, "protocol": first.protocol, "budget": first.budget}
    custom = [text for text in overrides if text.lstrip("+").partition("=")[0] not in _PRESETS]
    # What some control changes may be among the overrides, which then go for the rows that were trained.
    shown = ["rows", *labels] if custom else ["all"]
    evidence = Evidence([store])
    found = collect(
        experiment,
        evidence.records,
        filters=filters,
        overrides=custom,
        labels=shown,
        damaged=evidence.damaged,
    )
    write(found, evidence, Path(own.get("out", store.root / "tables")))
    return 0 if complete else 1
