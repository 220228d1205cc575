"""How many runs at once are best on this machine: a few steps of one of them, by more and more processes."""

import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

from cbnorm.config.readings import plainly_read
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.interruption import RunInterruptedError, end_with, requested, stop_signals

#: How many runs at once: a number, ``auto`` for what is measured to be best, None for what the cores suggest.
Jobs = int | Literal["auto"] | None
#: Of so little more per second nobody has anything.
_WORTH = 1.03
_SECONDS = 5.0
_WARM, _FEWEST = 2, 3
_PATIENCE = 900.0


def parse_jobs(text: str | None) -> Jobs:
    """Understand ``jobs=...``; None where nothing was said.

    Raises:
        CbnormError: Neither ``auto`` nor a number from 1 up.

    >>> parse_jobs("auto"), parse_jobs("3"), parse_jobs(None)
    ('auto', 3, None)
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise CbnormError(f"jobs={text} must be auto or a whole number from 1 up")
    return int(text)


def counts_up_to(most: int) -> list[int]:
    """How many at once are tried: powers of two, and all.

    >>> counts_up_to(6)
    [1, 2, 4, 6]
    """
    return sorted({most} | {2**k for k in range(most.bit_length()) if 2**k <= most})


def best(speeds: Mapping[int, float]) -> int:
    """The fewest at once that come close to the most images per second of all.

    >>> best({1: 100.0, 2: 180.0, 4: 184.0})
    2
    """
    enough = max(speeds.values()) / _WORTH
    return min(count for count, speed in speeds.items() if speed >= enough)


def measured_jobs(config: RunConfig, most: int, *, seconds: float = _SECONDS) -> int:
    """Measure which number of runs at once trains the most images per second here, and say so.

    Nothing that is measured changes a number of a run: only how many work at once is chosen.

    Args:
        config: The run that is tried, with its threads.
        most: More than so many are of no use.
        seconds: Of every measurement, after the first steps.
    """
    if most == 1:
        return 1
    speeds = measure(config, counts_up_to(most), seconds=seconds)
    chosen = best(speeds)
    found = ", ".join(f"{count} at once {speed:,.0f}" for count, speed in speeds.items())
    print(
        f"jobs={chosen}: images/s of all runs together, norm={config.norm.name}, "
        f"threads={config.trainer.threads}: {found}",
        file=sys.stderr,
        flush=True,
    )
    return chosen


def measure(config: RunConfig, counts: Sequence[int], *, seconds: float = _SECONDS) -> dict[int, float]:
    """Images per second of so many runs at once, all together.

    Args:
        config: What each of them trains.
        counts: How many at once.
        seconds: How long each count is measured.

    Raises:
        CbnormError: A process could not work; the error is shown above.
        RunInterruptedError: A signal asked to stop.
    """
    from cbnorm.runs.sweep import set_environment

    set_environment(config.trainer.threads)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(max(counts)), context.Queue()
    processes = [
        context.Process(
            target=_train_a_little, args=(config, index, counts, seconds, barrier, results, os.getpid())
        )
        for index in range(max(counts))
    ]
    try:
        with stop_signals():
            for process in processes:
                process.start()
            speeds = dict.fromkeys(counts, 0.0)
            for _ in range(sum(counts)):
                count, speed = _next(results, processes)
                speeds[count] += speed
        return speeds
    finally:
        for process in processes:
            process.kill()  # it saves nothing, and Lightning takes a polite request for one to save
            process.join()


def _next(results: "Queue[tuple[int, float]]", processes: Sequence[Any]) -> tuple[int, float]:
    import queue

    for _ in itertools.repeat(None, int(_PATIENCE)):
        try:
            return results.get(timeout=1.0)
        except queue.Empty:
            if requested():
                raise RunInterruptedError(
                    "stopped while jobs=auto measured; the same command begins again"
                ) from None
            if any(process.exitcode not in {None, 0} for process in processes):
                break
    raise CbnormError("jobs=auto could not train a few steps (see above): name a number, such as jobs=2")


def _train_a_little(
    config: RunConfig,
    index: int,
    counts: Sequence[int],
    seconds: float,
    barrier: Barrier,
    results: "Queue[tuple[int, float]]",
    parent: int,
) -> None:
    """A process that trains whenever at least `index` + 1 are to; its parent stops it, or is gone."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)

    from cbnorm.runs.build import build
    from cbnorm.runs.device import training_device
    from cbnorm.runs.drive import drive

    torch.set_num_threads(config.trainer.threads)
    try:
        device = training_device(config)
        parts = build(plainly_read(config), device)
    except CbnormError as error:
        print(f"cbnorm: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    turns = _Turns(parts.train, index, counts, seconds, barrier)
    drive(parts.task, turns, [], device)
    for count, speed in turns.speeds.items():
        results.put((count, speed * config.trainer.batch_size))


class _Turns:
    """Batches without end, handed out while it is this process's turn."""

    def __init__(
        self, batches: Any, index: int, counts: Sequence[int], seconds: float, barrier: Barrier
    ) -> None:
        self.batches, self.index, self.counts = batches, index, counts
        self.seconds, self.barrier = seconds, barrier
        self.speeds: dict[int, float] = {}

    def __len__(self) -> int:
        # Without a length a batch would be fetched ahead, and counted before it is trained on.
        return sys.maxsize

    def __iter__(self) -> Iterator[Any]:
        endless = itertools.chain.from_iterable(self.batches.epoch(epoch) for epoch in itertools.count())
        for count in self.counts:
            self.barrier.wait(_PATIENCE)
            if self.index < count:
                yield from itertools.islice(endless, _WARM)
                began, done = time.perf_counter(), 0
                while done < _FEWEST or time.perf_counter() - began < self.seconds:
                    yield next(endless)
                    done += 1
                self.speeds[count] = done / (time.perf_counter() - began)
            self.barrier.wait(_PATIENCE)
