"""Checksums of the files in the data folder."""

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cbnorm.data.entry import DataFile


@dataclass(frozen=True)
class Problem:
    """A file that can't be used.

    Attributes:
        path: The file.
        state: ``missing``, ``corrupt`` or ``unreadable``.
        reason: What is wrong, in words.
    """

    path: Path
    state: str
    reason: str

    def line(self, key: str, *, source: bool = True) -> str:
        """Return one line that says what is wrong and what to do; `source`: whether it can be fetched."""
        fetch = f"run: cbnorm data fetch {key}" if source else "put it there: docs/data.md says from where"
        cures = {"missing": fetch, "corrupt": f"delete it and {fetch}", "unreadable": "make it readable"}
        return f"{self.path} {self.reason}; {cures[self.state]}"


def checksum(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal.

    Args:
        path: The file.
        algorithm: A name that :func:`hashlib.new` knows.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def problems(folder: Path, files: Sequence[DataFile]) -> list[Problem]:
    """Return what is wrong with the files of a data set, in their order; nothing when all is well."""
    return [problem for file in files if (problem := _problem(folder / file.name, file))]


def absent(folder: Path, marks: Sequence[str]) -> list[Problem]:
    """Return which of the files and folders that an open data set must have are missing."""
    # os.path.exists, because a path that can't be, such as one too long, is an error to pathlib.
    return [
        Problem(folder / mark, "missing", "is missing")
        for mark in marks
        if not os.path.exists(folder / mark)  # noqa: PTH110
    ]


def _problem(path: Path, file: DataFile) -> Problem | None:
    try:
        status = path.stat()
        if status.st_size != file.size:
            return Problem(path, "corrupt", f"is corrupt: {status.st_size} bytes instead of {file.size}")
        algorithm, _, known = file.checksum.partition(":")
        found = _remembered(path, algorithm, status.st_size, status.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return Problem(path, "missing", "is missing")
    except OSError as error:
        return Problem(path, "unreadable", f"can't be read ({error.strerror})")
    if found != known:
        name = "SHA-1" if algorithm == "sha1" else "SHA-256"
        return Problem(path, "corrupt", f"is corrupt: its {name} is {found} instead of {known}")
    return None


@functools.lru_cache(maxsize=256)
def _remembered(path: Path, algorithm: str, _size: int, _modified: int) -> str:
    return checksum(path, algorithm)
