"""What book-keeping costs: per run of a sweep, per finished run that is decided, per record that is read.

    make bench-runs                     about a minute
    python benchmarks/bench_runs.py --records 10000 --runs 5

Overhead per run is the time of `execute` in a warm process less the time inside Lightning's loops, for a tiny
run. Deciding and reading are timed on a store of copies of a real record under their own ids. On a busy
machine look at the second column, the time on the processor.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store

TINY = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.max_epochs=2",
    "trainer.precision=fp32",
    "trainer.moments=[50,100]",
]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and on the processor."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def overhead(folder: Path, runs: int) -> tuple[float, float]:
    """Seconds per run beyond the training loop: config, store, claim, build, record."""
    import cbnorm._torchvision  # noqa: F401, I001  (before lightning)
    from lightning.pytorch.loops.fit_loop import _FitLoop

    from cbnorm.runs.execute import execute

    inside: list[tuple[float, float]] = []
    plain = _FitLoop.run
    _FitLoop.run = lambda self: inside.append(timed(lambda: plain(self)))
    base, beyond = compose_run([*TINY, "norm=ucb"]), []
    for seed in range(runs + 1):
        config = base.model_copy(update={"seed": seed})
        whole = timed(lambda config=config: execute(config, Store(folder)))
        beyond.append([a - b for a, b in zip(whole, inside[-1], strict=True)])
    _FitLoop.run = plain
    wall, processor = (statistics.median(column) for column in zip(*beyond[1:], strict=True))
    return wall, processor


def fill(folder: Path, config: RunConfig, record: dict[str, Any], count: int) -> None:
    """A store of many records, each under its own id."""
    Store(folder).open_run(record["id"], {})
    for seed in range(count):
        one = config.model_copy(update={"seed": seed})
        run = run_id(one)
        content = record | {"id": run, "identity": identity(one), "config": one.model_dump(exclude={"store"})}
        (folder / run).mkdir(exist_ok=True)
        (folder / run / "record.json").write_text(json.dumps(content, indent=1) + "\n")


def decide(folder: Path, config: RunConfig, count: int) -> None:
    """Find that all runs of a plan are finished, from their configs on."""
    from cbnorm.runs.sweep import sweep

    planned = []
    for seed in range(count):
        one = config.model_copy(update={"seed": seed})
        planned.append(Planned("row", one, run_id(one)))
    if not sweep(planned, Store(folder)):
        raise SystemExit("not all were finished")


def read(folder: Path, count: int) -> None:
    """Read and check all records."""
    records, damaged = Store(folder).survey()
    if len(records) != count or damaged:
        raise SystemExit(f"{len(records)} of {count} records could be read")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--records", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report("overhead per run beyond training", overhead(folder / "runs", given.runs), 0.5)
        config = compose_run([*TINY, "norm=ucb"])
        record = Store(folder / "runs").record(run_id(config))
        if record is None:
            raise SystemExit("the run left no record")
        fill(folder / "many", config, record, given.records)
        size = (folder / "many" / record["id"] / "record.json").stat().st_size
        finished = min(given.finished, given.records)
        store = folder / "many"
        seconds = timed(lambda: decide(store, config, finished))
        report(f"deciding {finished:,} finished runs", seconds, 2)
        seconds = timed(lambda: read(store, given.records))
        report(f"reading {given.records:,} records of {size / 1000:.1f} kB", seconds, 2)


def report(what: str, seconds: tuple[float, float], goal: float) -> None:
    """Print one figure beside its goal."""
    verdict = "met" if seconds[0] <= goal else "met on the processor" if seconds[1] <= goal else "MISSED"
    print(f"{what:<40} {seconds[0]:7.3f} s {seconds[1]:7.3f} s   goal {goal:g} s   {verdict}", flush=True)


if __name__ == "__main__":
    main()
