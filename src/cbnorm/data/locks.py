"""One process at a time fetches a data set."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock that the operating system takes back when its holder dies, however it dies.

    Hence no lock is ever stale, and the file stays behind: deleting it would let two processes
    hold locks on two files of one name.

    Args:
        path: The lock file; created.
        waiting: Called once when another process holds the lock.

    Yields:
        True while the lock is held; False where the file system knows no locks.
    """
    with path.open("a") as file:
        yield _acquire(file.fileno(), waiting)


def _acquire(descriptor: int, waiting: Callable[[], None]) -> bool:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
