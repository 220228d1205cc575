"""With trainer.rollback, training goes on from the best weights at every moment, and resumes exactly."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.runs import checkpoint, resume
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.store import Store

# A rate this high makes the best epoch an early one.
WORDS = [
    "budget=smoke",
    "norm=scb",
    "optimizer.lr=0.05",
    "dataset.train_images=60",
    "dataset.val_images=40",
    "dataset.test_images=20",
    "trainer.batch_size=20",
    "trainer.max_epochs=4",
    "trainer.precision=fp32",
]


def train(folder: Path, *words: str) -> list[float]:
    """Training losses by epoch."""
    config, store = compose_run([*WORDS, *words]), Store(folder)
    execute(config, store)
    return [row["train_loss"] for row in store.history(run_id(config))]


def test_a_moment_puts_the_best_weights_back_and_the_next_epoch_starts_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[dict[str, Any]] = []
    monkeypatch.setattr(resume, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "save", lambda _folder, state: saved.append(copy.deepcopy(state)))
    plain = train(tmp_path, "trainer.moments=[50,100]")
    rolled = train(tmp_path, "trainer.moments=[50,100]", "trainer.rollback=true")
    state = saved[-1]
    best = state["journal"]["best"]
    assert best["epoch"] < 4, "choose a rate at which the last epoch isn't the best"
    assert rolled[:2] == plain[:2]
    assert rolled[2] != plain[2]
    assert all(torch.equal(state["model"][key], value) for key, value in best["model"].items())
    # The optimizer goes on from where it was: three batches an epoch, four epochs.
    assert {float(s["step"]) for s in state["optimizers"][0]["state"].values()} == {12.0}


def test_a_run_that_rolls_back_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("trainer.moments=[25,50,75,100]", "trainer.rollback=true")
    expected = train(tmp_path / "a", *words)
    stops = iter([False] * 4 + [True] + [False] * 100)
    monkeypatch.setattr(resume, "requested", lambda: next(stops))
    with pytest.raises(RunInterruptedError):
        train(tmp_path / "b", *words)
    assert train(tmp_path / "b", *words) == expected
