"""Signals that ask a run to stop: it saves its state at the next batch and ends with "requeue me"."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cbnorm.errors import CbnormError

#: What schedulers send some time before they end a job, to be continued later.
_NOTICES = (signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *_NOTICES)
_requested = threading.Event()
_received: list[int] = []
#: Set inside of :func:`stop_signals`.
_asked = threading.Event()


class RunInterruptedError(CbnormError):
    """A run was asked to stop and saved its state; the same command goes on from there."""

    #: EX_TEMPFAIL of sysexits.h: try again.
    exit_code = os.EX_TEMPFAIL


@contextmanager
def stop_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 request a stop; a second Ctrl-C ends the process at once.

    Outside the main thread, where signals can't be handled, and inside another such block, nothing changes.
    The outermost block forgets requests of an earlier one.
    """
    outside = threading.current_thread() is not threading.main_thread()
    if outside or signal.getsignal(signal.SIGTERM) is _request:
        yield
        return
    _requested.clear()
    _received.clear()
    previous = {number: signal.signal(number, _request) for number in _SIGNALS}
    _asked.set()
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


def take_back_signals() -> None:
    """Let :func:`stop_signals`, if it is around, answer alone where a library has put itself in between."""
    if _asked.is_set() and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _request)


def requested() -> bool:
    """Whether a stop was requested."""
    return _requested.is_set()


def hand_on() -> None:
    """Give a notice of the end to who handled such notices before the run, now that the run is saved.

    Submitit, which starts runs on a cluster, then puts its job back into the queue; in other processes
    nobody waits for a notice, and nothing happens. To be called outside :func:`stop_signals`.
    """
    if not any(number in _NOTICES for number in _received):
        return
    waiting = [number for number in _NOTICES if callable(signal.getsignal(number))]
    if waiting and threading.current_thread() is threading.main_thread():
        signal.raise_signal(waiting[-1])


def _request(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    if _requested.is_set() and number == signal.SIGINT:
        os._exit(128 + number)
    _requested.set()


def end_with(parent: int) -> None:
    """End this process when the one that started it is gone: nobody would stop it, or want what it does."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
