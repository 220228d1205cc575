"""A plan carried out by worker processes, with progress over the whole of it."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cbnorm.errors import CbnormError
from cbnorm.machine import cores, device_of
from cbnorm.runs.claim import claim, tidy
from cbnorm.runs.interruption import RunInterruptedError, requested, stop_signals
from cbnorm.runs.late import tell_late
from cbnorm.runs.limit import Limit
from cbnorm.runs.packing import Jobs, measured_jobs
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store
from cbnorm.runs.worker import work

_POLL = 0.5
_LINE_EVERY = 30.0


def default_jobs(planned: Sequence[Planned]) -> int:
    """As many runs at once as there are cores for their threads; one on a GPU."""
    config = planned[0].config.trainer
    if device_of(config.accelerator) == "cuda":
        return 1
    return max(1, min(len(planned), cores() // config.threads))


def sweep(
    planned: Sequence[Planned],
    store: Store,
    *,
    jobs: Jobs = None,
    again: bool = False,
    limit: Limit | None = None,
) -> bool:
    """Train what is missing of a plan.

    Finished runs are kept. Several sweeps may share a store: each run is trained once.

    Args:
        planned: The runs.
        store: Where they live.
        jobs: How many at once; None chooses by cores, ``auto`` by a measurement.
        again: Train finished runs anew.
        limit: Runs that can't save in time are not started; the others save before the limit.

    Returns:
        Whether all runs ended without a failure, as far as a limit let them.

    Raises:
        RunInterruptedError: A signal asked to stop.
        CbnormError: A worker can't work.
    """
    same = "the same command"
    if again:
        _set_aside(planned, store)
        same += " without again=true"
    missing = _missing(planned, store)
    waiting = {item.id for item in missing}
    tell_late([item for item in planned if item.id not in waiting], store)
    if not missing:
        return True
    count = min(_count(jobs, missing), len(missing))
    workers = [_start(missing[k:] + missing[:k], store, limit) for k in range(count)]
    with stop_signals():
        try:
            _watch(planned, missing, store, workers, limit)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
    if requested():
        raise RunInterruptedError(f"stopped; every run is saved and {same} goes on from here")
    ended = {store.status(item.id) for item in planned}
    over = limit is not None and time.monotonic() >= limit.stop
    # A worker that is only beginning or already leaving doesn't handle the request to stop.
    expected = {0, 1, os.EX_TEMPFAIL, -signal.SIGKILL, -signal.SIGUSR1} if over else {0, 1}
    if None in ended and any(worker.exitcode not in expected for worker in workers):
        raise CbnormError(f"a worker stopped (see above); {same} goes on from here")
    return ended <= ({"done", "diverged"} if limit is None else {"done", "diverged", None})


def _count(jobs: Jobs, missing: Sequence[Planned]) -> int:
    if jobs != "auto":
        return jobs or default_jobs(missing)
    config = missing[0].config
    most = max(1, cores() // config.trainer.threads)
    return measured_jobs(config, min(most, len(missing)))


def _set_aside(planned: Sequence[Planned], store: Store) -> None:
    """Make ended runs ones to be trained, once for all workers; what another process trains is left to it."""
    for item in planned:
        if store.status(item.id) is not None:
            with claim(store.folder(item.id)) as held:
                if held is not None:
                    store.set_aside(item.id)
                    store.clean(item.id)


def _missing(planned: Sequence[Planned], store: Store) -> list[Planned]:
    """What is still to be trained; finished runs are tidied up where a kill left something."""
    missing = []
    for item in planned:
        if store.status(item.id) in {None, "failed"}:
            missing.append(item)
        elif store.unfinished_business(item.id):
            tidy(store, item.id)
    return missing


#: Activations above glibc's mmap threshold would be mapped and faulted in anew on every step, which cost a
#: third of the time of a CPU run (250 against 400 images/s in one measurement). Read when a process starts.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def set_environment(threads: int) -> None:
    """Set what processes that are started from now on read as they begin, for so many threads each."""
    # Read by the OpenMP runtime when the child imports torch; more threads than cores cost a factor of ten.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    for key, value in ALLOCATOR.items():
        os.environ.setdefault(key, value)


def _start(planned: list[Planned], store: Store, limit: Limit | None) -> BaseProcess:
    set_environment(planned[0].config.trainer.threads)
    arguments = (planned, store, os.getpid(), limit)
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    return process


def _watch(
    planned: Sequence[Planned],
    missing: Sequence[Planned],
    store: Store,
    workers: Sequence[BaseProcess],
    limit: Limit | None,
) -> None:
    """Show progress until every worker has stopped."""
    total = sum(item.config.trainer.max_epochs for item in missing)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    began, spoken = time.monotonic(), time.monotonic()
    start = sum(_epochs(item, store) for item in missing)
    with Progress(
        *columns, console=console, speed_estimate_period=900, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("training", total=total, completed=start)
        while True:
            alive = any(worker.is_alive() for worker in workers)
            done = sum(_epochs(item, store) for item in missing)
            ended = sum(store.status(item.id) is not None for item in planned)
            text = f"{ended}/{len(planned)} runs"
            progress.update(task, completed=done, description=text)
            if not console.is_terminal and (time.monotonic() - spoken > _LINE_EVERY or not alive):
                spoken = time.monotonic()
                _speak(text, done, start, total, spoken - began)
            if not alive:
                return
            if requested():
                # Ctrl-C reaches the workers too, a kill of this process alone does not.
                _ask_to_stop(workers)
            elif limit is not None and time.monotonic() >= limit.stop:
                _ask_to_stop(workers, limit.end)
            time.sleep(_POLL)


def _ask_to_stop(workers: Sequence[BaseProcess], end: float | None = None) -> None:
    """Let the workers save and stop; whoever has not by the end keeps the checkpoint before."""
    for worker in workers:
        if worker.is_alive() and worker.pid is not None:
            os.kill(worker.pid, signal.SIGUSR1)
    for worker in workers:
        worker.join(None if end is None else max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()


def _speak(text: str, done: int, start: int, total: int, seconds: float) -> None:
    left = seconds * (total - done) / (done - start) if done > start else None
    remaining = "" if left is None else f", about {left / 60:.0f} min left"
    print(
        f"{text}, {done}/{total} epochs after {seconds / 60:.1f} min{remaining}", file=sys.stderr, flush=True
    )


def _epochs(item: Planned, store: Store) -> int:
    if store.status(item.id) in {"done", "diverged"}:
        return item.config.trainer.max_epochs
    return store.epochs(item.id)
