"""Filling the missing runs of whole comparisons, ten minutes or ten days at a time."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cbnorm.config.locations import experiments_dir
from cbnorm.runs.claim import holder
from cbnorm.runs.limit import CHECKPOINT_INTERVAL, Limit
from cbnorm.runs.packing import Jobs
from cbnorm.runs.plan import Planned, plan
from cbnorm.runs.speed import Cost, Speeds
from cbnorm.runs.store import CHECKPOINTS, Store
from cbnorm.runs.sweep import sweep

#: Seconds that a worker takes to import what it needs, before its first run.
IMPORTS = 15.0
#: Seconds that saving a checkpoint and ending a process may take, besides the longest pause between batches.
SAVING = 4.0
_ENDED = frozenset({"done", "diverged"})


@dataclass(frozen=True)
class Part:
    """A run of a campaign: how far it is and what the rest will take.

    Attributes:
        item: The run.
        status: Its terminal status, if it has one.
        begun: Whether a checkpoint is there to go on from.
        elsewhere: Whether a living process works on it.
        epochs: How many are finished.
        cost: What it costs.
    """

    item: Planned
    status: str | None
    begun: bool
    elsewhere: bool
    epochs: int
    cost: Cost

    @property
    def missing(self) -> bool:
        """Whether it is still to be trained."""
        return self.status not in _ENDED

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained."""
        return self.item.config.trainer.max_epochs - self.epochs if self.missing else 0

    @property
    def seconds(self) -> float:
        """What the rest will take, beside as many other runs as were measured."""
        return self.cost.start + self.epochs_left * self.cost.epoch if self.missing else 0.0


def plan_campaign(
    experiments: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0,),
    labels: Sequence[str] = (),
) -> list[Planned]:
    """All runs of several comparisons, seed-major over all their rows; a run of two of them comes once.

    Args:
        experiments: Names of tables.
        overrides: Hydra overrides for all rows.
        seeds: One after the other, each over all rows.
        labels: Rows, or the sets ``rows``, ``controls`` and ``all``.
    """
    plans = {name: plan(name, overrides, seeds=seeds, labels=labels) for name in experiments}
    found: dict[str, Planned] = {}
    for seed, (name, planned) in itertools.product(seeds, plans.items()):
        for item in planned:
            if item.config.seed == seed:
                row = item.row if len(plans) == 1 else f"{name} {item.row}"
                found.setdefault(item.id, replace(item, row=row))
    return list(found.values())


def survey(planned: Iterable[Planned], store: Store) -> list[Part]:
    """How far every run of a campaign is, in the order of its plan."""
    speeds = Speeds([store, *_published()])
    costs: dict[str, Cost] = {}
    parts = []
    for item in planned:
        status, folder = store.status(item.id), store.folder(item.id)
        begun = status is None and any((folder / name).exists() for name in CHECKPOINTS)
        if item.row not in costs:
            costs[item.row] = speeds.cost(item.config)
        parts.append(
            Part(
                item,
                status,
                begun,
                status is None and holder(folder) is not None,
                min(store.epochs(item.id), item.config.trainer.max_epochs) if begun else 0,
                costs[item.row],
            )
        )
    return parts


def _published() -> list[Store]:
    """The records that come with a checkout, which were measured somewhere."""
    folder = experiments_dir().parent / "results" / "records"
    return [Store(folder)] if folder.is_dir() else []


def in_order(parts: Iterable[Part]) -> list[Part]:
    """Missing runs in the order of work: first those that were begun, then by seed, over all rows."""
    return sorted((part for part in parts if part.missing), key=lambda part: not part.begun)


def carry_out(
    parts: Sequence[Part], store: Store, *, jobs: Jobs, time_limit: float | None, began: float
) -> bool:
    """Train what is missing, as far as the time allows.

    Args:
        parts: From :func:`survey`.
        store: Where the runs live.
        jobs: How many at once; None chooses by cores, ``auto`` by a measurement.
        time_limit: Seconds from `began` until everything is saved and over; None has no limit.
        began: By the clock of :func:`time.monotonic`.

    Returns:
        Whether no run failed.

    Raises:
        RunInterruptedError: A signal asked to stop.
        CbnormError: A worker can't work.
    """
    missing = in_order(parts)
    if not missing:
        return True
    limit = None if time_limit is None else limit_of(missing, began + time_limit)
    if limit is not None and not any(limit.allows(part.item.id, delay=IMPORTS) for part in missing):
        shortest = IMPORTS + min(limit.needs.values()) + limit.end - limit.stop
        print(f"nothing was started: a run needs about {shortest:.0f} s to reach its first checkpoint here")
        return True
    return sweep([part.item for part in missing], store, jobs=jobs, limit=limit)


def limit_of(missing: Sequence[Part], end: float) -> Limit:
    """When runs must stop so that all is saved at the end, and what each needs before."""
    # Whoever is asked in the middle of a longer reading loses no more than a killed run.
    pause = min(CHECKPOINT_INTERVAL, max(part.cost.pause for part in missing))
    needs: Mapping[str, float] = {part.item.id: part.cost.need(part.epochs_left) for part in missing}
    return Limit(end - SAVING - pause, end, needs)
