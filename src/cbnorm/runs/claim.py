"""Who is working on a run: a small file that says so and goes stale when its process is gone.

A claim names a process and the place where its number means something (machine since its last start, and
container). From the same place one looks whether the process lives; from elsewhere a claim counts as
abandoned when nobody has touched the file for its lifetime, measured by the clock of the file system, so
that machines need not agree on the time.
"""

import fcntl
import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.runs.files import cannot_write, parse_object, write_json
from cbnorm.runs.store import Store

#: Seconds after which a claim that nobody renews counts as abandoned elsewhere.
LIFETIME = 180.0
_LONGEST = 24 * 3600.0
_NAME = "claim.json"


def tidy(store: Store, run: str) -> None:
    """Remove what a killed process left beside an ended run, where the store can be written."""
    with suppress(CbnormError), claim(store.folder(run)) as held:
        if held is not None and store.status(run) is not None:
            store.clean(run)


class ClaimLostError(CbnormError):
    """Another process took the run over, or removed it, while this one was asleep."""

    exit_code = os.EX_TEMPFAIL


class Claim:
    """A granted claim, renewed by a thread until it is released.

    Args:
        folder: The run's folder.
        content: What the claim says; its token is this claim's own.
    """

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._renew, daemon=True)
        self._keeper.start()

    def check(self) -> None:
        """Make sure that the run is still this process's, before anything is written.

        Raises:
            ClaimLostError: It is not.
        """
        if not self._mine():
            raise ClaimLostError(
                f"run {self.folder.name} was taken over or removed by another process: this one stops"
            )

    def release(self) -> None:
        """Give the run back, unless it is another's by now."""
        self._stop.set()
        self._keeper.join()
        with suppress(CbnormError, OSError), _locked(self.folder, make=False):
            if self._mine():
                (self.folder / _NAME).unlink()

    def _mine(self) -> bool:
        content = _read(self.folder)
        return content is not None and content.get("token") == self.content["token"]

    def _renew(self) -> None:
        while not self._stop.wait(self.content["lifetime"] / 3):
            # Touching needs no room on a full disk; where it fails, the claim just ages.
            with suppress(CbnormError, OSError), _locked(self.folder, make=False):
                if self._mine():
                    os.utime(self.folder / _NAME)


@contextmanager
def claim(folder: Path, *, lifetime: float = LIFETIME) -> Iterator[Claim | None]:
    """Claim a run for this process, and keep the claim fresh while the block runs.

    Args:
        folder: The run's folder; made if missing.
        lifetime: Seconds after which the claim is stale unless renewed (it is, three times as often).

    Yields:
        The claim; None when a living process has the run.
    """
    me = {
        "host": socket.gethostname(),
        "place": _place(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "lifetime": lifetime,
        "token": secrets.token_hex(8),
    }
    with _locked(folder) as now:
        granted = _living(folder, now) is None
        if granted:
            write_json(folder / _NAME, me, durable=False)
    if not granted:
        yield None
        return
    held = Claim(folder, me)
    try:
        yield held
    finally:
        held.release()


def holder(folder: Path) -> dict[str, Any] | None:
    """The living claim on a run, or None. Changes nothing."""
    return _living(folder, time.time())


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        return parse_object((folder / _NAME).read_bytes())
    except (OSError, ValueError):
        return None


def _living(folder: Path, now: float) -> dict[str, Any] | None:
    content = _read(folder)
    if content is None:
        return None
    if content.get("place") == _place():
        alive = _runs(content.get("pid"), content.get("started"))
        if alive is not None:
            return content if alive else None
    lifetime = content.get("lifetime")
    if not isinstance(lifetime, int | float) or not 0 < lifetime <= _LONGEST:
        lifetime = LIFETIME
    try:
        age = abs(now - (folder / _NAME).stat().st_mtime)
    except OSError:
        return None
    return content if age < lifetime else None


@contextmanager
def _locked(folder: Path, *, make: bool = True) -> Iterator[float]:
    """Let one process at a time decide; the kernel frees the lock of a killed one.

    Yields:
        The time by the clock of the file system.
    """
    path = folder / ".claim.lock"
    try:
        descriptor = _lock(path, make=make)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield _touch(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path, *, make: bool) -> int:
    """Open and lock a file that is still there once it is locked: a run may be removed meanwhile."""
    while True:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if make:
                continue
            raise
        # Some cluster file systems have no locks; then only the claim itself keeps others off.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except OSError:
            if not make:
                os.close(descriptor)
                raise
        os.close(descriptor)


def _touch(descriptor: int) -> float:
    try:
        os.utime(descriptor)
    except OSError:
        return time.time()
    return os.fstat(descriptor).st_mtime


@functools.cache
def _place() -> str:
    """Where a process number means something."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _runs(pid: Any, started: Any) -> bool | None:
    """Whether a process of this place lives; None when that can't be seen."""
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    now = _started(pid)
    if now is not None:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    # Visible, but without a start time: not Linux, or a process that ended and was not yet waited for.
    return None if not Path("/proc/self/stat").exists() else False


def _started(pid: int) -> str | None:
    """Start time of a living process, which tells it from a later one with the same number, else None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
