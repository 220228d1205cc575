"""A process that has imported everything and forks a child per job, so that hundreds of kills take minutes.

Reads a list of jobs per line from stdin, carries them out at the same time, answers with their exit statuses.
A job is a sweep in one process, a table at its end, and optionally a fault: at the n-th event that matches a
pattern the child is killed, or a write fails.

Events are named ``kind:subject``: ``step:begin``, ``step:end`` around every training step, ``read:begin`` and
``read:end`` around every reading of validation or test images, and for every file that a run writes
``open:NAME``, ``write:NAME`` (with half of the bytes written), ``sync:NAME``, ``replace:NAME`` (before it is
moved into place), ``replaced:NAME`` (after), ``remove:NAME``; ``end:of the sweep`` comes last.
"""

import errno
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import sys
import traceback
from typing import Any, Self

import cbnorm._torchvision

import torch

import cbnorm.report.collect
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.report.tables import write_tables
from cbnorm.runs import files, resume, worker
from cbnorm.runs.execute import execute  # noqa: F401  (what is costly to import, before the first fork)
from cbnorm.runs.identity import run_id
from cbnorm.runs.plan import Planned, row_configs
from cbnorm.runs.store import Store
from cbnorm.tasks import classification
from cbnorm.tasks.classification import Classification

TINY = [
    "budget=smoke",
    "dataset.train_images=12",
    "dataset.val_images=10",
    "dataset.test_images=10",
    "trainer.batch_size=5",
    "trainer.max_epochs=2",
    "trainer.precision=fp32",
    "trainer.moments=[50,100]",
]


class Events:
    """Counts events, writes them down, and strikes at the one that a job names."""

    def __init__(self, log: pathlib.Path, fault: dict[str, Any] | None) -> None:
        self.descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.fault, self.seen = fault, 0

    def __call__(self, kind: str, subject: str) -> None:
        name = f"{kind}:{subject}"
        os.write(self.descriptor, f"{name}\n".encode())
        if self.fault is None or not re.search(self.fault["at"], name):
            return
        self.seen += 1
        if self.seen != self.fault["nth"]:
            return
        if self.fault["action"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.fault["action"])
        raise OSError(number, os.strerror(number))


class Writer:
    """A file that tells of its writes, and of each when half of it is done."""

    def __init__(self, file: Any, name: str, event: Events) -> None:
        self.file, self.name, self.event = file, name, event

    def __enter__(self) -> Self:
        self.file.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self.file.__exit__(*reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.event("write", self.name)
        self.file.write(data[len(data) // 2 :])
        return len(data)


def target(path: pathlib.Path) -> str:
    """The name of the file that a partial file becomes."""
    return re.sub(r"^\.(.*)\.[0-9a-f]+\.part$", r"\1", path.name)


def watch_files(event: Events) -> None:
    plain_open, plain_replace, plain_unlink = pathlib.Path.open, pathlib.Path.replace, pathlib.Path.unlink
    plain_sync, last = os.fsync, {"name": ""}

    def watched_open(self: pathlib.Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wa"):
            return plain_open(self, mode, *args, **kwargs)
        last["name"] = target(self)
        event("open", target(self))
        return Writer(plain_open(self, mode, *args, **kwargs), target(self), event)

    def watched_replace(self: pathlib.Path, other: pathlib.Path) -> Any:
        event("replace", other.name)
        result = plain_replace(self, other)
        event("replaced", other.name)
        return result

    def watched_unlink(self: pathlib.Path, missing_ok: bool = False) -> None:
        if self.exists():
            event("remove", target(self))
        plain_unlink(self, missing_ok)

    def watched_sync(descriptor: int) -> None:
        event("sync", last["name"])
        plain_sync(descriptor)

    pathlib.Path.open, pathlib.Path.replace = watched_open, watched_replace
    pathlib.Path.unlink = watched_unlink
    files.os = type("os", (), {**vars(os), "fsync": staticmethod(watched_sync)})


def around(owner: Any, name: str, kind: str, event: Events) -> None:
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        event(kind, "begin")
        result = plain(*args, **kwargs)
        event(kind, "end")
        return result

    setattr(owner, name, wrapped)


def note_last_state(event: Events) -> None:
    """Before a run's last checkpoint is removed, write down a hash of weights, optimizer and best weights."""
    plain = Store.clean

    def clean(self: Store, run: str) -> None:
        path = self.folder(run) / "checkpoint.pt"
        if path.exists():
            _, _, data = path.read_bytes().partition(b"\n")
            state = torch.load(io.BytesIO(data), weights_only=True)
            state["journal"].pop("seconds")
            for row in state["journal"]["history"]:
                row.pop("seconds")
            digest = hashlib.sha256(repr(plain_data(state)).encode()).hexdigest()
            # Not through pathlib: this write is none of the run's, so no event and never at fault.
            with open(self.folder(run) / "last.sha256", "w") as file:  # noqa: PTH123
                file.write(digest)
        plain(self, run)

    Store.clean = clean


def plain_data(value: Any) -> Any:
    """A state with tensors as hashes of their bytes."""
    if isinstance(value, torch.Tensor):
        value = value.contiguous()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
    return [plain_data(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def planned(rows: tuple[str, ...]) -> list[Planned]:
    found = []
    for row in rows:
        config = compose_run(["experiment=table5", *TINY, *row.split()])
        found.append(Planned(row, config, run_id(config)))
    return found


def carry_out(job: dict[str, Any]) -> int:
    """In the child: the sweep and its table; returns the exit status."""
    event = Events(pathlib.Path(job["log"]), job.get("fault"))
    resume.INTERVAL, worker._POLL = job.get("interval", 0.0), 0.05
    watch_files(event)
    around(Classification, "training_step", "step", event)
    around(classification, "predict", "read", event)
    note_last_state(event)
    plan = planned(tuple(job["rows"]))
    store = Store(job["store"])
    try:
        failed = worker._work([*plan[job.get("first", 0) :], *plan[: job.get("first", 0)]], store)
        filters = {"dataset": "digits", "protocol": "sound", "budget": "smoke"}
        records, damaged = store.survey()
        found = cbnorm.report.collect.collect(
            "table5", records, filters=filters, overrides=TINY[1:], damaged=damaged
        )
        write_tables(found, store.root / "tables")
        event("end", "of the sweep")
    except CbnormError as error:
        print(f"cbnorm: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 1 if failed else 0


def fork(job: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        errors = os.open(job["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        status = carry_out(job)
    except BaseException:  # noqa: BLE001  (a child must never return into the parent's loop)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Answer jobs until stdin ends."""
    # Composed once and remembered, what children would otherwise each do again; no thread is started by it.
    row_configs("table5", ["dataset=digits", "protocol=sound", "budget=smoke", *TINY[1:]], ["rows"])
    print("ready", flush=True)
    for line in sys.stdin:
        jobs = json.loads(line)
        for job in jobs:
            planned(tuple(job["rows"]))
        children = [fork(job) for job in jobs]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
