"""What data sets there are, and which of them are here. Imports no torch."""

from dataclasses import replace
from typing import Any

from cbnorm import plugins
from cbnorm.data import catalog, opensets, sources
from cbnorm.data.entry import DataSet
from cbnorm.data.verify import absent, problems
from cbnorm.errors import CbnormError


def describe(key: str) -> dict[str, Any]:
    """Say what a data set is and whether its files are there.

    Returns:
        ``key``, ``name``, ``classes``, ``images`` (per split), ``state`` (``built-in``, ``your own``,
        ``ready``, ``missing``, ``corrupt`` or ``unreadable``), ``problem`` (a line, or None), ``folder``
        (or None), ``sources`` and ``note``. Name, classes and images of an open set that is ready
        are those of the folder.
    """
    entry = catalog.find(key)
    state, problem = _state(entry)
    if entry.open and state == "ready":
        try:
            layout = opensets.LAYOUTS[key](sources.folder_of(entry))
        except CbnormError as error:
            state, problem = "corrupt", str(error)
        else:
            counts = {"train": len(layout.train), "test": len(layout.test)}
            entry = replace(entry, name=layout.name, class_names=layout.class_names, counts=counts)
    return {
        "key": key,
        "name": entry.name,
        "classes": entry.num_classes,
        "images": dict(entry.counts),
        "state": state,
        "problem": problem,
        "folder": str(sources.folder_of(entry)) if entry.folder else None,
        "sources": [str(source) for source in entry.sources],
        "note": entry.note,
    }


def describe_all() -> list[dict[str, Any]]:
    """Describe every data set, ours first; one of another package that can't be had is ``broken``."""
    return [*map(describe, catalog.DATA_SETS), *map(_plugged, plugins.names("dataset"))]


def _plugged(key: str) -> dict[str, Any]:
    try:
        known = describe(key)
        package = plugins.find("dataset", key).package
    except CbnormError as error:
        return {"key": key, "name": key, "state": "broken", "folder": None, "problem": str(error)}
    return known if known["folder"] else known | {"state": f"in {package}"}


def _state(entry: DataSet) -> tuple[str, str | None]:
    if entry.parts:
        states = [_state(catalog.find(part)) for part in entry.parts]
        return next((state for state in states if state[1]), states[0])
    folder = sources.folder_of(entry)
    found = problems(folder, entry.files) + absent(folder, entry.marks)
    found.sort(key=lambda problem: problem.state == "missing")
    if found:
        return found[0].state, found[0].line(entry.key, source=bool(entry.sources))
    if entry.folder:
        return "ready", None
    return ("your own" if entry.open else "built-in"), None


def fetch(key: str) -> str:
    """Fetch, verify and, where images must be decoded, prepare a data set.

    Returns:
        A line that says what is there now.

    Raises:
        CbnormError: It can't be had, or is the user's own.
    """
    entry = catalog.find(key)
    if not entry.open:
        return f"{key} is complete and verified in {sources.ensure(key)}"
    if entry.folder is None:
        raise CbnormError(f"{key} is made of your own images: there is nothing to fetch")
    found = opensets.find(key)
    opensets.arrays(found, entry.image_shape[1])
    images = " and ".join(f"{count} {part}" for part, count in found.entry.counts.items())
    return f"{key} is ready in {found.folder}: {found.entry.name}, {images} images"
