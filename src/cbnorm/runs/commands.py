"""`cbnorm runs`: look at runs, remove them, take over those of another machine."""

from collections.abc import Sequence

from cbnorm.errors import CbnormError
from cbnorm.runs import inspect
from cbnorm.runs.claim import claim
from cbnorm.runs.merge import merge
from cbnorm.runs.store import Store
from cbnorm.words import flag, split

_USES = {
    "list": "cbnorm runs list [store=runs]",
    "show": "cbnorm runs show ID [store=runs]",
    "diff": "cbnorm runs diff ID ID [store=runs]",
    "rm": "cbnorm runs rm ID ... [force=true] [store=runs]",
    "merge": "cbnorm runs merge FOLDER [store=runs]",
}


def runs(words: Sequence[str]) -> int:
    """Carry out ``cbnorm runs WORDS``."""
    plain, options = split(words, "runs", ["store"], ["force"])
    action = plain.pop(0) if plain else ""
    wanted = {"list": 0, "show": 1, "diff": 2, "merge": 1, "rm": max(1, len(plain))}
    if action not in wanted:
        raise CbnormError(f"write cbnorm runs {' | '.join(wanted)}; see cbnorm --help")
    if len(plain) != wanted[action]:
        raise CbnormError(f"write {_USES[action]}")
    force = flag(options, "force")
    if "force" in options and action != "rm":
        raise CbnormError("force=true or force=false is for cbnorm runs rm")
    store = Store(options.get("store", "runs"))
    if action == "merge":
        return _merge(store, Store(plain[0]))
    if not store.root.is_dir():
        raise CbnormError(f"there is no store {store.root}: name one with store=FOLDER")
    if action == "list":
        print(inspect.overview(store))
        return 0
    found = list(dict.fromkeys(inspect.find(store, word) for word in plain))
    if action == "rm":
        for run in found:
            remove(store, run, force=force)
            print(f"removed {run}")
        return 0
    print(inspect.show(store, found[0]) if action == "show" else inspect.compare(store, found[0], found[-1]))
    return 0


def remove(store: Store, run: str, *, force: bool = False) -> None:
    """Remove a run with all its files.

    Args:
        store: Where it lives.
        run: Its id.
        force: Remove it even if a process works on it, which then stops.

    Raises:
        CbnormError: If a process works on it, or the store can't be written.
    """
    if force:
        store.discard(run)
        return
    with claim(store.folder(run)) as held:
        if held is None:
            raise CbnormError(f"run {run} is being trained: stop that first, or add force=true")
        store.discard(run)


def _merge(store: Store, other: Store) -> int:
    found = merge(store, other)
    counts = [
        f"{len(found.copied)} copied",
        f"{len(found.present)} here already",
        f"{len(found.conflicts)} in conflict",
        f"{len(found.skipped)} left out",
    ]
    for run, reason in found.conflicts.items():
        print(f"{run}  conflict, kept as it is here: {reason}")
    for run, reason in found.skipped.items():
        print(f"{run}  left out: {reason}")
    print(f"{other.root} into {store.root}: {', '.join(counts)}")
    return 1 if found.conflicts else 0
