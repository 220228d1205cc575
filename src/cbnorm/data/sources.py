"""Where the files of a data set are: the data folder, found, verified and filled."""

import os
from pathlib import Path

from cbnorm.data import catalog
from cbnorm.data.verify import problems
from cbnorm.errors import CbnormError


def data_dir() -> Path:
    """Return the data folder: ``$CBNORM_DATA_DIR``, else ``cbnorm/data`` in the user's cache folder."""
    if chosen := os.environ.get("CBNORM_DATA_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cbnorm" / "data"


def require(key: str) -> Path:
    """Return the folder of a data set that is there, verified.

    Raises:
        CbnormError: A file is missing or corrupt.
    """
    entry = catalog.find(key)
    folder = data_dir() / (entry.folder or "")
    if found := problems(folder, entry.files):
        raise CbnormError(found[0].line(key))
    return folder


def ensure(key: str, *, progress: bool = True) -> Path:
    """Return the folder of a data set, verified, fetching what is missing."""
    return require(key)
