"""Files that come and go as a whole."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4


def remove(paths: Iterable[Path]) -> None:
    """Delete files and whole folders, as far as that is possible."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8 so that nobody sees half of it."""
    unfinished = path.with_name(f"unfinished-{path.stem}-{uuid4().hex}")
    try:
        unfinished.write_text(text, encoding="utf8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def appear(made: Path, target: Path) -> None:
    """Move a finished folder to its place, unless another process has put one there meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
