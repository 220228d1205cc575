"""Who is working on a run: a small file that says so and goes stale when its process is gone."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cbnorm.runs.files import cannot_write, write_json

#: Seconds after which a claim that nobody renews counts as abandoned (other hosts can't look at the process).
LIFETIME = 180.0


@contextmanager
def claim(folder: Path, *, lifetime: float = LIFETIME) -> Iterator[bool]:
    """Claim a run for this process, and keep the claim fresh while the block runs.

    Args:
        folder: The run's folder; made if missing.
        lifetime: Seconds after which the claim is stale unless renewed (it is, three times as often).

    Yields:
        Whether the claim was granted; False means that a living process has the run.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    path = folder / "claim.json"
    if not _take(path, me, lifetime):
        yield False
        return
    stop = threading.Event()
    keeper = threading.Thread(target=_renew, args=(path, me, lifetime, stop), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        stop.set()
        keeper.join()
        path.unlink(missing_ok=True)


def holder(folder: Path) -> dict[str, Any] | None:
    """The living claim on a run, or None."""
    try:
        content = json.loads((folder / "claim.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and _alive(content) else None


def _take(path: Path, me: dict[str, Any], lifetime: float) -> bool:
    with _locked(path.with_name(".claim.lock")):
        if holder(path.parent) is not None:
            return False
        write_json(path, me | {"expires": time.time() + lifetime})
        return True


def _renew(path: Path, me: dict[str, Any], lifetime: float, stop: threading.Event) -> None:
    while not stop.wait(lifetime / 3):
        # A full disk must not end a run that could still finish; the claim just ages.
        with suppress(Exception):
            write_json(path, me | {"expires": time.time() + lifetime})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time decide; the kernel frees the lock of a killed one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive(content: dict[str, Any]) -> bool:
    try:
        if content["host"] == socket.gethostname():
            return _started(int(content["pid"])) == content["started"]
        return float(content["expires"]) > time.time()
    except (KeyError, TypeError, ValueError):
        return False


def _started(pid: int) -> str | None:
    """Start time of a process, which tells it from a later one with the same number; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _started_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started_without_proc(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
