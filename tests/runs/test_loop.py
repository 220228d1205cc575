"""Whatever drives the steps, the same run comes out: Lightning, a plain loop, steps through fixed buffers."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs import graph, loop, resume
from cbnorm.runs.build import build
from cbnorm.runs.drive import drive
from cbnorm.runs.execute import execute
from cbnorm.runs.graph import GraphSteps, Replayed
from cbnorm.runs.identity import run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.resume import TrainingBatches
from cbnorm.runs.store import Store

# The last batch of an epoch is smaller than the others.
WORDS = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=12",
    "trainer.max_epochs=2",
    "trainer.moments=[50,100]",
]
ROWS = [
    "norm=ucb",
    "norm=scb trainer.precision=fp32",
    "norm=bn optimizer=sgd optimizer.milestones=[0.3,0.8] trainer.channels_last=false",
    "norm=bn optimizer=sgd optimizer.decoupled=true optimizer.weight_decay=0.1",
]
CPU = torch.device("cpu")


def config(*words: str) -> RunConfig:
    return compose_run([*WORDS, *words])


def outcome(folder: Path, run: str) -> dict[str, Any]:
    """Everything a run left, but for how it was driven, timing and place."""
    store = Store(folder)
    record = store.record(run)
    for key in ("seconds", "versions", "hardware"):
        record.pop(key)
    assert record["config"]["trainer"].pop("engine")
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(run)]
    with np.load(store.folder(run) / "predictions.npz") as arrays:
        predictions = {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in arrays.items()}
    return {"record": record, "history": history, "predictions": predictions}


@pytest.mark.parametrize("words", ROWS)
def test_the_loop_leaves_what_lightning_leaves(words: str, tmp_path: Path) -> None:
    runs = {engine: config(*words.split(), f"trainer.engine={engine}") for engine in ("lightning", "loop")}
    for engine, run in runs.items():
        execute(run, Store(tmp_path / engine))
    lightning, plain = (outcome(tmp_path / engine, run_id(run)) for engine, run in runs.items())
    assert lightning == plain


@pytest.mark.parametrize("engines", [("loop", "lightning"), ("lightning", "loop")])
@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_what_one_began_the_other_ends(
    engines: tuple[str, str], stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(config("norm=ucb"), Store(tmp_path / "whole"))
    seen = 0

    def requested() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_at

    monkeypatch.setattr(resume, "requested", requested)
    first, second = (config("norm=ucb", f"trainer.engine={engine}") for engine in engines)
    with pytest.raises(RunInterruptedError):
        execute(first, Store(tmp_path / "parts"))
    execute(second, Store(tmp_path / "parts"))
    run = run_id(first)
    assert outcome(tmp_path / "parts", run) == outcome(tmp_path / "whole", run)


def trained(words: str, how: str, device: torch.device = CPU) -> dict[str, torch.Tensor]:
    """Weights, buffers and sums after an epoch and two thirds, begun in the middle of an epoch."""
    parts = build(config(*words.split()), device)
    batches, task = TrainingBatches(parts.train, 0, 1), copy.deepcopy(parts.task)
    if how == "lightning":
        drive(task, batches, [], device, epochs=2, engine="lightning")
    else:
        loop.fit(task, batches, [], device, epochs=2, buffers=how == "buffers")
    return {**task.model.state_dict(), "totals": task.totals}


@pytest.mark.parametrize(
    "words", [*ROWS, "norm=bn dataset.augmentation.rotation=0 dataset.augmentation.zoom=0"]
)
def test_steps_through_fixed_buffers_are_the_plain_ones(words: str) -> None:
    reference, plain, buffered = (trained(words, how) for how in ("lightning", "plain", "buffers"))
    for name, value in reference.items():
        assert torch.equal(plain[name], value), name
        assert torch.equal(buffered[name], value), name


def test_buffers_are_used_where_every_step_is_the_same_work() -> None:
    def suits(*words: str) -> bool:
        parts = build(config(*words), CPU)
        return GraphSteps.suited(parts.task, parts.task.configure_optimizers(), TrainingBatches(parts.train))

    assert suits("norm=bn")
    assert not suits("norm=bn", "optimizer=sgd")
    assert not suits("norm=bn", "optimizer.schedule=cosine")


def test_inputs_are_copied_into_the_same_memory() -> None:
    places = []

    def work(x: torch.Tensor) -> torch.Tensor:
        places.append(x.data_ptr())
        return x.sum()

    replayed = Replayed(work, (torch.zeros(3),), record=False)
    assert [replayed(torch.full((3,), float(k))).item() for k in (1, 2)] == [3, 6]
    assert places[0] == places[1]


def test_a_recording_that_trains_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(Replayed):
        def __call__(self, *values: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.zeros(()) if self.calls > graph.WARM else self.work(*values)

    monkeypatch.setattr(graph, "Replayed", Empty)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    parts = build(config("norm=bn", "dataset.train_images=120"), CPU)
    batches = TrainingBatches(parts.train)
    steps = GraphSteps(parts.task, parts.task.configure_optimizers(), batches, record=True)
    orders = [order for order in steps if len(order[0]) == 12]
    for order in orders[: graph.WARM]:
        steps.step(order, 0)
    with pytest.raises(CbnormError, match="changes no weights"):
        steps.step(orders[graph.WARM], 0)


def test_a_task_that_steps_its_own_optimizers_is_refused() -> None:
    parts = build(config("norm=bn"), CPU)
    parts.task.automatic_optimization = False
    with pytest.raises(CbnormError, match="choose lightning"):
        drive(parts.task, TrainingBatches(parts.train), [], CPU, engine="loop")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("words", ROWS[:2])
def test_a_recorded_step_is_the_plain_one_to_rounding(words: str) -> None:
    gpu = torch.device("cuda", 0)
    words += " dataset.train_images=120 trainer.precision=fp32"
    plain, recorded = (trained(words, how, gpu) for how in ("plain", "buffers"))
    for name, value in plain.items():
        torch.testing.assert_close(recorded[name], value, rtol=1e-3, atol=1e-4, msg=name)
