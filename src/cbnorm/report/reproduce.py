"""`cbnorm reproduce`: train what is missing of a table, then collect and judge it."""

from collections.abc import Sequence

from cbnorm.config.compose import tell_ignored
from cbnorm.config.overrides import quoted
from cbnorm.errors import CbnormError
from cbnorm.report.collect import collect
from cbnorm.report.commands import write
from cbnorm.report.evidence import Evidence
from cbnorm.runs.packing import parse_jobs
from cbnorm.runs.plan import find_experiment, parse_seeds, plan, row_configs
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import sweep
from cbnorm.words import flag, names, path_of, take

#: Overrides that choose a table's place among its blocks, and where images and runs lie.
_PLACES = frozenset({"dataset", "dataset.folder", "protocol", "budget", "store"})


def reproduce(words: Sequence[str]) -> int:
    """Carry out ``cbnorm reproduce WORDS``.

    Returns:
        0 when every run ended, 1 when some failed.

    Raises:
        RunInterruptedError: A signal asked to stop.
        CbnormError: What was asked is refused, or no run can work.
    """
    own, others = take(words, "reproduce", ["seeds", "jobs", "rows", "out"], ["again"])
    plain, overrides = names(quoted(others))
    tables = [find_experiment(name) for name in plain]
    if not tables:
        raise CbnormError("which table? write cbnorm reproduce table5")
    if len(tables) > 1:
        raise CbnormError(
            f"that is {len(tables)} tables: name one, or write cbnorm campaign {','.join(tables)}"
        )
    experiment = tables[0]
    labels = own["rows"].split(",") if "rows" in own else []
    seeds = parse_seeds(own.get("seeds", "0"))
    planned = plan(experiment, overrides, seeds=seeds, labels=labels)
    tell_ignored([item.config for item in planned], overrides)
    first = planned[0].config
    store = Store(first.store)
    again = flag(own, "again")
    complete = sweep(planned, store, jobs=parse_jobs(own.get("jobs")), again=again)
    filters = {"dataset": first.dataset.name, "protocol": first.protocol, "budget": first.budget}
    custom = [text for text in overrides if text.lstrip("+").partition("=")[0] not in _PLACES]
    if custom:
        kept = [text for text in overrides if text not in custom]
        own_runs = {item.id for item in plan(experiment, kept, seeds=seeds, labels=labels)}
        # What changes no run leaves the table what it is.
        custom = [] if own_runs == {item.id for item in planned} else custom
    shown = _shown(experiment, overrides, labels) if custom else ["all"]
    evidence = Evidence([store])
    found = collect(
        experiment,
        evidence.records,
        filters=filters,
        overrides=custom,
        labels=shown,
        damaged=evidence.damaged,
    )
    write(found, evidence, path_of(own, "out", store.root / "tables"))
    return 0 if complete else 1


def _shown(experiment: str, overrides: Sequence[str], labels: Sequence[str]) -> Sequence[str]:
    """The table's rows and those that were trained; these alone where an override distinguishes others."""
    shown = ["rows", *labels]
    try:
        row_configs(experiment, overrides, shown)
    except CbnormError:
        return labels
    return shown
