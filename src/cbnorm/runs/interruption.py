"""Signals that ask a run to stop: it saves its state at the next batch and ends with "requeue me"."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cbnorm.errors import CbnormError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_requested = threading.Event()


class RunInterruptedError(CbnormError):
    """A run was asked to stop and saved its state; the same command goes on from there."""

    #: EX_TEMPFAIL of sysexits.h: try again.
    exit_code = os.EX_TEMPFAIL


@contextmanager
def stop_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGUSR1 request a stop; a second Ctrl-C ends the process at once.

    Outside the main thread, where signals can't be handled, and inside another such block, nothing changes.
    The outermost block forgets requests of an earlier one.
    """
    outside = threading.current_thread() is not threading.main_thread()
    if outside or signal.getsignal(signal.SIGTERM) is _request:
        yield
        return
    _requested.clear()
    previous = {number: signal.signal(number, _request) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def requested() -> bool:
    """Whether a stop was requested."""
    return _requested.is_set()


def _request(number: int, _frame: FrameType | None) -> None:
    if _requested.is_set() and number == signal.SIGINT:
        os._exit(128 + number)
    _requested.set()
