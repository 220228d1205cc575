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

_OWN = frozenset({"seeds", "jobs", "rows", "again", "out"})
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
    if not words or "=" in words[0]:
        raise CbnormError("which table? write cbnorm reproduce table5")
    experiment = find_experiment(words[0])
    own, overrides = _split(words[1:])
    labels = own["rows"].split(",") if "rows" in own else []
    planned = plan(experiment, overrides, seeds=parse_seeds(own.get("seeds", "0")), labels=labels)
    first = planned[0].config
    store = Store(first.store)
    again = _flag(own.get("again", "false"), "again")
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


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The command's own words, and the overrides that are for Hydra."""
    own, overrides = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            raise CbnormError(f"unknown option '{word}': write key=value; see cbnorm --help")
        if key in _OWN and equals:
            own[key] = value
        else:
            overrides.append(word)
    return own, overrides


def _flag(text: str, key: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise CbnormError(f"{key}={text} must be true or false")
    return text.lower() == "true"
