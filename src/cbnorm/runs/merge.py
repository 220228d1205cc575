"""Uniting stores: what another machine computed is taken over, never in place of what is here."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cbnorm.config.canonical import differences
from cbnorm.errors import CbnormError
from cbnorm.runs.claim import claim
from cbnorm.runs.files import cannot_read, write_bytes
from cbnorm.runs.moments import called
from cbnorm.runs.records import Record, agree
from cbnorm.runs.store import Store

#: What may differ between two trainings of the same run: time, place, and names without meaning.
_INCIDENTAL = frozenset(
    {"layout", "seconds", "versions", "hardware", "config", "experiment", "protocol", "budget", "error"}
)
_ARTIFACTS = (".npz", ".csv", ".pt", ".jsonl", ".png")
_LARGEST = 64 * 2**20


@dataclass
class Merged:
    """What became of the runs of the other store: ids, and for some a reason."""

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def merge(store: Store, other: Store) -> Merged:
    """Copy the ended runs of another store that have not ended here.

    A run's record is copied last, so that a merge that is killed leaves no run that seems to have ended; the
    same command goes on. Only regular files of known kinds are copied, and none is opened but as JSON.

    Args:
        store: Where the runs go. Nothing that ended with a result here is changed.
        other: Where they come from; it is only read.

    Raises:
        CbnormError: If the stores are one, or there is nothing to merge.
    """
    if not other.root.is_dir():
        raise CbnormError(f"{other.root} does not exist: name the folder of another store")
    if store.root.resolve() == other.root.resolve():
        raise CbnormError(f"{other.root} is the store itself: name the folder of another one")
    found, runs = Merged(), other.runs()
    if not runs:
        raise CbnormError(f"there are no runs in {other.root}: name the folder of a store")
    for run in runs:
        try:
            theirs, ours = other.record(run), store.record(run)
            wanted = theirs is not None and _is_wanted(theirs, ours)
            files = _files(other.folder(run)) if wanted else {}
        except CbnormError as error:
            found.skipped[run] = str(error)
            continue
        if theirs is None:
            found.skipped[run] = "has not ended there"
        elif ours is None or wanted:
            _take_over(store, run, theirs, files, found)
        else:
            _compare(run, ours, theirs, found)
    return found


def _is_wanted(theirs: Record, ours: Record | None) -> bool:
    return ours is None or _is_better(theirs, ours)


def _compare(run: str, ours: Record, theirs: Record, found: Merged) -> None:
    """Tell of a run that has ended in both stores."""
    if difference := _difference(ours, theirs):
        found.conflicts[run] = difference
    else:
        found.present.append(run)


def _is_better(theirs: Record, ours: Record) -> bool:
    return ours["status"] == "failed" and theirs["status"] != "failed"


def _difference(ours: Record, theirs: Record) -> str:
    """In which values two records of the same run differ, beyond time and place."""
    a, b = (_essential(record) for record in (ours, theirs))
    if _is_better(ours, theirs):
        return ""
    keys = differences(a, b)
    if agree(ours.get("metrics"), theirs.get("metrics")):
        # What only one of them measured is no difference.
        keys = {key: pair for key, pair in keys.items() if None not in pair}
    shown = "; ".join(f"{key}: {_brief(x)} here, {_brief(y)} there" for key, (x, y) in list(keys.items())[:3])
    return shown + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _essential(record: Record) -> dict[str, Any]:
    values = {key: value for key, value in record.items() if key not in _INCIDENTAL}
    for entry in values.get("metrics", {}).get("moments", []):
        values[called(entry)] = entry
    values.pop("metrics", None)
    return values


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def _take_over(store: Store, run: str, theirs: Record, files: dict[str, bytes], found: Merged) -> None:
    with claim(store.folder(run)) as held:
        if held is None:
            found.skipped[run] = "is being trained here"
            return
        ours = store.record(run)
        if ours is not None and not _is_wanted(theirs, ours):
            # It ended here after it was asked for.
            _compare(run, ours, theirs, found)
            return
        if ours is None and theirs["status"] == "failed" and store.begun(run):
            found.skipped[run] = "failed there and is unfinished here"
            return
        store.set_aside(run)
        names = ("experiment", "protocol", "budget", "identity", "config")
        store.open_run(run, {key: theirs[key] for key in names})
        for name, data in files.items():
            write_bytes(store.folder(run) / name, data)
        store.clean(run)
        found.copied.append(run)


def _files(folder: Path) -> dict[str, bytes]:
    """What a run of another store left, its record last.

    Raises:
        CbnormError: Something is a link, a pipe or far too large, or can't be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in _ARTIFACTS)
    except OSError as error:
        raise cannot_read(folder, error) from error
    wanted = [name for name in names if not name.startswith((".", "checkpoint"))]
    return {name: _regular(folder / name) for name in (*wanted, "record.json")}


def _regular(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                raise CbnormError(f"{path} is no artifact of a run: remove it, then merge again")
            return file.read()
    except OSError as error:
        raise cannot_read(path, error) from error
