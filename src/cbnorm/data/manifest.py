"""What files hold, by checksum, and how to tell later without reading them that they still do.

Imports no torch.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cbnorm.data.files import write_whole
from cbnorm.errors import CbnormError


class Line(NamedTuple):
    """One file.

    Attributes:
        name: Relative to the folder, with forward slashes.
        size: Bytes.
        sha1: Of the content, in hexadecimal.
    """

    name: str
    size: int
    sha1: str


@dataclass(frozen=True)
class Manifest:
    """The files of a data set, sorted by name.

    Attributes:
        lines: One per file.
    """

    lines: tuple[Line, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and checksums: independent of where and how old the files are."""
        text = "".join(f"{line.name}\t{line.size}\t{line.sha1}\n" for line in self.lines)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-1 by name."""
        return {line.name: line.sha1 for line in self.lines}


def manifest(
    folder: Path, names: Sequence[str], memory: Path, report: Callable[[int, int], None] = lambda *_: None
) -> Manifest:
    """Return the manifest of files, read only when they aren't as they were the last time.

    Trusted is a comparison of names, sizes and times of the last change (of content and of
    inode). Where the memory can't be written, the files are read every time.

    Args:
        folder: Where the files are.
        names: Relative names.
        memory: The file that remembers.
        report: Called with the bytes read and those to be read.

    Raises:
        CbnormError: A file can't be read, or changes while it is read.
    """
    ordered = sorted(names)
    status = _status(folder, ordered)
    state = hashlib.sha256("\n".join(map(str, status)).encode("utf-8", "surrogateescape")).hexdigest()
    if (known := _recall(memory, state)) is not None:
        return known
    total, done, lines = sum(size for _, size, *_ in status), 0, []
    for name, size, *_ in status:
        lines.append(Line(name, size, _sha1(folder / name)))
        done += size
        report(done, total)
    if _status(folder, ordered) != status:
        raise CbnormError(f"{folder} changes while it is read; try again when it is complete")
    made = Manifest(tuple(lines))
    _remember(memory, state, made)
    return made


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        CbnormError: It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CbnormError(f"{path} can't be read ({error.strerror})") from error


def _sha1(path: Path) -> str:
    return hashlib.sha1(read_bytes(path), usedforsecurity=False).hexdigest()


def _status(folder: Path, names: Sequence[str]) -> list[tuple[str, int, int, int]]:
    found, root = [], str(folder)
    for name in names:
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116  (a hundred thousand times)
        except OSError as error:
            raise CbnormError(f"{folder / name} can't be read ({error.strerror})") from error
        found.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return found


def _recall(memory: Path, state: str) -> Manifest | None:
    try:
        known = json.loads(memory.read_text(encoding="utf8"))
        if known["state"] != state:
            return None
        return Manifest(tuple(Line(*line) for line in known["lines"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: Path, state: str, made: Manifest) -> None:
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, json.dumps({"state": state, "lines": made.lines}))
