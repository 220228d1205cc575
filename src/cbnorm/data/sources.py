"""The files of a data set: found in the data folder, verified, and fetched when missing."""

import os
import tempfile
from pathlib import Path

from cbnorm.data import catalog, fetching
from cbnorm.data.entry import DataSet, OtherForm
from cbnorm.data.failure import SourceError
from cbnorm.data.files import appear, remove
from cbnorm.data.locks import exclusive
from cbnorm.data.progress import Reporter, reporter
from cbnorm.data.verify import absent, problems
from cbnorm.errors import CbnormError


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
    for part in entry.parts:
        require(part)
    folder = folder_of(entry)
    found = problems(folder, entry.files) + absent(folder, entry.marks)
    if found:
        raise CbnormError(found[0].line(key, source=bool(entry.sources)))
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
    for part in entry.parts:
        ensure(part, progress=progress)
    if not _missing(entry):
        return folder_of(entry)
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


def folder_of(entry: DataSet) -> Path:
    """Return the folder of a data set, whether it is there or not."""
    return data_dir() / (entry.folder or "")


def _missing(entry: DataSet) -> list[str]:
    """Return the names of the missing files; a corrupt one is an error."""
    found = problems(folder_of(entry), entry.files)
    for problem in found:
        if problem.state != "missing":
            raise CbnormError(problem.line(entry.key, source=bool(entry.sources)))
    return [problem.path.name for problem in found] + _missing_marks(entry)


def _missing_marks(entry: DataSet) -> list[str]:
    """Return what an open set lacks: everything, or nothing; half a folder is an error."""
    folder = folder_of(entry)
    # Asked first, because another process may put the whole folder there between the two questions.
    there = folder.is_dir()
    found = absent(folder, entry.marks)
    if found and there:
        raise CbnormError(
            f"{found[0].path} is missing; complete {folder}, or delete it"
            f" and run: cbnorm data fetch {entry.key}"
        )
    return [str(problem.path.relative_to(folder)) for problem in found]


def _fetch(entry: DataSet, missing: list[str], work: Path, held: bool, shown: Reporter) -> None:
    """Try the sources in turn until one gives the missing files."""
    if held:
        # Left behind by a process that was killed; nobody else can be at work here.
        remove(work.glob(f"{entry.key}-*"))
    tried = []
    for source in entry.sources:
        if isinstance(source, OtherForm) and not (data_dir() / source.folder).is_dir():
            continue
        shown.begin(f"{source}, {source.size / 1e6:.0f} MB" if hasattr(source, "size") else str(source))
        with tempfile.TemporaryDirectory(prefix=f"{entry.key}-", dir=work) as scratch:
            place = fetching.Place(data_dir(), Path(scratch), work if held else Path(scratch))
            try:
                _place(entry, missing, fetching.obtain(entry, source, missing, place, shown))
            except SourceError as error:
                tried.append(f"{source}: {error}")
                continue
        if held:
            remove(part for other in entry.sources for part in fetching.parts(entry, other, work))
        return
    raise CbnormError(
        f"{entry.name} could not be fetched: {'; '.join(tried) or 'there is no source for it'}"
        f". CBNORM_DATA_DIR may name a folder that holds {entry.folder}/"
    )


def _place(entry: DataSet, missing: list[str], result: Path) -> None:
    """Verify new files and move them to where they belong."""
    if entry.open:
        if lacking := absent(result, entry.marks):
            raise SourceError(f"it holds no {lacking[0].path.relative_to(result)}")
        appear(result, folder_of(entry))
        return
    wanted = [file for file in entry.files if file.name in missing]
    if found := problems(result, wanted):
        raise SourceError(f"its {found[0].path.name} {found[0].reason}")
    folder = folder_of(entry)
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        (result / file.name).replace(folder / file.name)
