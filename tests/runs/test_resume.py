"""A run that was killed, wherever, ends with the same numbers as one that was not."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.runs import resume
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.journal import Journal
from cbnorm.runs.store import Store
from cbnorm.tasks.classification import Classification, ClassificationReader

#: Tiny, so that a run takes a second: what is tested is the book-keeping, not the network.
WORDS = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.max_epochs=2",
    "trainer.precision=fp32",
    "trainer.moments=[50,100]",
]
#: The second is read in further ways; the last has a rate that falls inside both epochs.
READ = "norm=scb task.readings=[unknown,permuted] task.components=2 trainer.patience=1 task.select=loss"
ROWS = ["norm=mn", READ, "norm=ucb", "norm=bn optimizer=sgd optimizer.milestones=[0.3,0.8]"]


def config(*words: str) -> RunConfig:
    return compose_run([*WORDS, *words])


def outcome(store: Store, run: str) -> dict[str, Any]:
    """Everything a run left, without timing, place and time."""
    record = store.record(run)
    epochs = sum(sum(row["seconds"].values()) for row in store.history(run))
    assert record["seconds"]["total"] >= round(epochs, 1), "time before a checkpoint is forgotten"
    for key in ("seconds", "versions", "hardware"):
        record.pop(key)
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(run)]
    with np.load(store.folder(run) / "predictions.npz") as arrays:
        predictions = {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in arrays.items()}
    return {"record": record, "history": history, "predictions": predictions}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    for words in ROWS:
        execute(config(*words.split()), store)
    return store


def test_the_same_run_twice_gives_the_same_bytes(undisturbed: Store, tmp_path: Path) -> None:
    run = config("norm=ucb")
    execute(run, Store(tmp_path))
    assert outcome(Store(tmp_path), run_id(run)) == outcome(undisturbed, run_id(run))


@pytest.mark.parametrize("words", ROWS)
@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 6])
def test_a_run_stopped_at_any_batch_goes_on_exactly(
    words: str, stop_at: int, undisturbed: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the six chances to stop, 3 and 6 come after an epoch's validation, the others inside an epoch."""
    seen = 0

    def requested() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_at

    run, store = config(*words.split()), Store(tmp_path)
    monkeypatch.setattr(resume, "requested", requested)
    with pytest.raises(RunInterruptedError):
        execute(run, store)
    assert store.record(run_id(run)) is None
    assert (store.folder(run_id(run)) / "checkpoint.pt").exists()
    execute(run, store)
    assert outcome(store, run_id(run)) == outcome(undisturbed, run_id(run))
    assert not list(store.folder(run_id(run)).glob("checkpoint*"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
def test_a_damaged_checkpoint_is_recognised_and_the_older_one_used(
    damage: str, undisturbed: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = config("norm=ucb"), Store(tmp_path)
    monkeypatch.setattr(resume, "INTERVAL", 0.0)
    seen = iter(range(100))
    monkeypatch.setattr(resume, "requested", lambda: next(seen) == 4)
    with pytest.raises(RunInterruptedError):
        execute(run, store)
    newest = store.folder(run_id(run)) / "checkpoint.pt"
    data = newest.read_bytes()
    flipped = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
    if damage == "missing":
        newest.unlink()
    else:
        newest.write_bytes({"truncated": data[:-100], "flipped": flipped, "empty": b""}[damage])
    monkeypatch.setattr(resume, "requested", lambda: False)
    execute(run, store)
    assert outcome(store, run_id(run)) == outcome(undisturbed, run_id(run))


@pytest.mark.parametrize(("cost", "distance"), [(0.1, 20), (1, 31), (9, 69)])
def test_what_takes_long_to_save_is_saved_less_often(
    cost: float, distance: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock where a batch takes a second: saving takes a thirtieth at most, waits a minute at most."""
    now, saved = 0.0, []

    def save(*_: Any) -> None:
        nonlocal now
        saved.append(now)
        now += cost

    monkeypatch.setattr(resume, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(resume.checkpoint, "save", save)
    task = Classification(torch.nn.Linear(1, 1), config().optimizer, steps=1)
    journal = Journal(tmp_path, "0", {}, ClassificationReader(1, [], []))
    checkpointer = resume.Checkpointer(tmp_path, "0", 0, journal, 1000)
    for _ in range(200):
        now += 1
        checkpointer.on_train_batch_end(SimpleNamespace(optimizers=[]), task, None, None, 0)
    assert saved[0] == 20
    assert np.diff(saved) == pytest.approx(distance, abs=1)


def test_rate_and_random_numbers_of_a_step_are_those_of_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, seeds = [], []
    task = Classification(torch.nn.Linear(1, 1), config().optimizer, steps=6)
    monkeypatch.setattr(task, "begin_step", steps.append)
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for seed, epoch, batch in itertools.product((0, 1), (0, 1), (0, 1, 2)):
        journal: Any = SimpleNamespace(epoch=epoch)
        checkpointer = resume.Checkpointer(tmp_path, "0", seed, journal, 3)
        checkpointer.batch = batch
        checkpointer.on_train_batch_start(None, task, None, 0)
    assert steps == [0, 1, 2, 3, 4, 5] * 2
    assert len(set(seeds)) == 12


#: With PAUSE in the environment the run waits at its first checkpoint: a busy machine sends a signal late.
SCRIPT = """
import os, sys, time
from cbnorm.runs import resume
from cbnorm.runs.interruption import requested
resume.INTERVAL = 0.0
save = resume.checkpoint.save
def save_and_wait(*arguments, **options):
    save(*arguments, **options)
    end = time.monotonic() + 100
    while "PAUSE" in os.environ and not requested() and time.monotonic() < end:
        time.sleep(0.01)
resume.checkpoint.save = save_and_wait
from cbnorm.cli import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_signal_loses_nothing(number: signal.Signals, undisturbed: Store, tmp_path: Path) -> None:
    run, store = config("norm=ucb"), Store(tmp_path)
    command = [sys.executable, "-c", SCRIPT, *WORDS, "norm=ucb", f"store={tmp_path}"]
    paused = os.environ | {"PAUSE": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=paused
    )
    checkpoint = store.folder(run_id(run)) / "checkpoint.pt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    expected = {signal.SIGKILL: -signal.SIGKILL}.get(number, os.EX_TEMPFAIL)
    assert process.returncode == expected, errors
    assert store.record(run_id(run)) is None
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    assert outcome(store, run_id(run)) == outcome(undisturbed, run_id(run))


def test_a_finished_run_is_not_repeated(undisturbed: Store) -> None:
    run = config("norm=ucb")
    record = undisturbed.folder(run_id(run)) / "record.json"
    before = record.stat().st_mtime_ns
    assert execute(run, undisturbed) == json.loads(record.read_text())
    assert record.stat().st_mtime_ns == before


def test_a_failed_run_leaves_a_record_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = config("norm=ucb"), Store(tmp_path)

    def burst(*_: Any) -> None:
        raise RuntimeError("the network burst")

    with monkeypatch.context() as broken:
        broken.setattr("cbnorm.tasks.classification.Classification.training_step", burst)
        with pytest.raises(Exception, match="the network burst"):
            execute(run, store)
    record = store.record(run_id(run))
    assert (record["status"], record["error"]["type"]) == ("failed", "RuntimeError")
    assert any("burst" in line for line in record["error"]["last_lines"])
    assert execute(run, store)["status"] == "done"


def test_a_loss_that_is_not_finite_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cbnorm.tasks.classification import Classification

    step, seen = Classification.training_step, iter(range(100))

    def seventh_loss_is_nan(self: Classification, batch: Any, index: int) -> Any:
        return step(self, batch, index) * (float("nan") if next(seen) == 6 else 1)

    monkeypatch.setattr(Classification, "training_step", seventh_loss_is_nan)
    run, store = config("norm=bn", "trainer.max_epochs=4"), Store(tmp_path)
    record = execute(run, store)
    assert record["status"] == "diverged"
    assert record["epochs"] == 3
    assert [reading["percent"] for reading in record["metrics"]["moments"]] == [50, None]
    assert store.history(run_id(run))[-1]["train_loss"] is None


def test_a_run_that_diverges_before_anything_could_be_read_is_an_outcome_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cbnorm.tasks.classification import Classification

    step = Classification.training_step
    monkeypatch.setattr(Classification, "training_step", lambda *given: step(*given) * float("nan"))
    run, store = config("norm=bn", "trainer.max_epochs=2", "trainer.rollback=true"), Store(tmp_path)
    record = execute(run, store)
    assert (record["status"], record["epochs"]) == ("diverged", 1)
    assert record["metrics"]["moments"] == []


def test_a_loss_that_is_never_finite_still_leaves_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbnorm.tasks.classification.finite", lambda _value: None)
    record = execute(config("norm=bn", "task.select=loss", "trainer.max_epochs=2"), Store(tmp_path))
    assert record["status"] == "done"
    assert [reading["best_epoch"] for reading in record["metrics"]["moments"]] == [1, 1]


def test_a_record_names_the_code_that_began_and_all_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout moves on while a run trains."""
    run, store, commits = config("norm=ucb"), Store(tmp_path), iter(["first", "second", "later", "later"])
    monkeypatch.setattr("cbnorm.runs.provenance._commit", lambda: next(commits))
    with monkeypatch.context() as stopped:
        stopped.setattr(resume, "requested", lambda: True)
        with pytest.raises(RunInterruptedError):
            execute(run, store)
    versions = execute(run, store)["versions"]
    assert (versions["commit"], versions["earlier_commits"]) == ("second", "first")
