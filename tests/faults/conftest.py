"""Sweeps that are disturbed on purpose, and what they leave."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbnorm.runs.store import Store

#: One row without and one with a partition: everything that a run can write.
ROWS = ("norm=ucb", "norm=scb")


@dataclass
class Kitchen:
    """The process of kitchen.py."""

    process: subprocess.Popen[str]

    def cook(self, *jobs: dict[str, Any]) -> list[int]:
        """Carry out jobs at the same time; exit statuses, negative for signals."""
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the kitchen burnt down"
        return json.loads(answer)


@dataclass
class Disturbed:
    """A store on which sweeps are disturbed."""

    kitchen: Kitchen
    folder: Path
    rows: tuple[str, ...] = ROWS
    count: int = field(default=0)

    @property
    def store(self) -> Store:
        return Store(self.folder / "runs")

    @property
    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.err")))

    def job(self, **options: Any) -> dict[str, Any]:
        self.count += 1
        base = self.folder / f"{self.count:03}"
        options = {"rows": self.rows, "store": str(self.folder / "runs")} | options
        return options | {"log": f"{base}.log", "errors": f"{base}.err"}

    def sweep(self, **options: Any) -> int:
        return self.kitchen.cook(self.job(**options))[0]

    def killed(self, at: str, nth: int) -> bool:
        """Sweep until the kill; False when the sweep ended before there was an occasion."""
        status = self.sweep(fault={"at": at, "nth": nth, "action": "kill"})
        assert status in {-9, 0}, self.errors
        return status == -9

    def events(self) -> list[str]:
        return (self.folder / f"{self.count:03}.log").read_text().splitlines()

    def outcome(self) -> dict[str, Any]:
        """All that must not depend on what happened on the way; the table byte by byte."""
        tables = {path.name: path.read_bytes() for path in sorted((self.folder / "runs/tables").iterdir())}
        return {"tables": tables, "runs": {run: left(self.store, run) for run in self.store.runs()}}


def left(store: Store, run: str) -> dict[str, Any]:
    """What a run left, without time and place, and the names of its files."""
    folder = store.folder(run)
    record = store.record(run)
    for key in ("seconds", "versions", "hardware"):
        record.pop(key)
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in store.history(run)]
    arrays = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            for key, value in content.items():
                arrays[f"{path.name}/{key}"] = hashlib.sha256(value.tobytes()).hexdigest()
    files = sorted(path.name for path in folder.iterdir() if path.name != "last.sha256")
    state = (folder / "last.sha256").read_text()
    return {"record": record, "history": history, "arrays": arrays, "files": files, "state": state}


@pytest.fixture(scope="session")
def kitchen() -> Iterator[Kitchen]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kitchen.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    yield Kitchen(process)
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=60)


@pytest.fixture
def disturbed(kitchen: Kitchen, tmp_path: Path) -> Disturbed:
    return Disturbed(kitchen, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(kitchen: Kitchen, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    calm = Disturbed(kitchen, tmp_path_factory.mktemp("undisturbed"))
    assert calm.sweep() == 0, calm.errors
    return calm


@pytest.fixture(scope="session")
def occasions(undisturbed: Disturbed) -> Callable[[str], int]:
    """How often a moment comes in an undisturbed sweep, by its pattern."""
    import re

    events = undisturbed.events()
    return lambda at: sum(re.search(at, event) is not None for event in events)
