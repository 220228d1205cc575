"""What a run notes at the end of every epoch: history, best weights, test readings."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch

from cbnorm.data.batches import Batch
from cbnorm.runs.files import append_line, write_bytes
from cbnorm.tasks.classification import Classification
from cbnorm.tasks.predictions import Predictions, predict


class Journal(lightning.Callback):
    """Keeps a run's history and state; the one place that reads validation and test images.

    After every epoch the validation accuracy is read. At the moments the test set is read twice: with the
    weights of the best validation accuracy so far, on a copy of the model, and with the last weights.
    Training never sees either, unless it rolls back. A loss that is not finite ends the run as diverged.

    Args:
        folder: The run's folder.
        run: The run's id.
        moments: Epoch by per cent, from :func:`cbnorm.runs.moments.moment_epochs`.
        num_classes: For the metrics averaged over classes.
        val: Batches of the validation images.
        test: Batches of the test images.
        on_epoch: Told every line of the history as it is written.
        rollback: Go on from the best weights after every moment, the optimizer's state kept, as the authors'
            SCB-Norm notebooks do.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        moments: dict[int, int],
        num_classes: int,
        val: Iterable[Batch],
        test: Iterable[Batch],
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        *,
        rollback: bool = False,
    ) -> None:
        self.folder, self.run, self.moments, self.num_classes = folder, run, moments, num_classes
        self.val, self.test, self.on_epoch, self.rollback = val, test, on_epoch, rollback
        self.history: list[dict[str, Any]] = []
        self.readings: list[dict[str, Any]] = []
        self.predictions: dict[str, torch.Tensor] = {}
        self.best: dict[str, Any] = {"epoch": 0, "val_accuracy": -1.0, "model": {}}
        self.diverged = False
        self._epoch_began = time.monotonic()
        self._seconds_before = 0.0

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain data and tensors."""
        return {
            "history": self.history,
            "readings": self.readings,
            "predictions": self.predictions,
            "best": self.best,
            "diverged": self.diverged,
            "seconds": time.monotonic() - self._epoch_began,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.history, self.readings = state_dict["history"], state_dict["readings"]
        self.predictions, self.best = state_dict["predictions"], state_dict["best"]
        self.diverged = state_dict["diverged"]
        self._seconds_before = state_dict["seconds"]

    def rewrite(self, *, durable: bool = True) -> None:
        """Make the history on disk what is known here: a killed run may have written more, or half a line."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.history)
        write_bytes(self.folder / "history.jsonl", lines.encode(), durable=durable)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock, which goes on from a checkpoint inside the epoch."""
        self._epoch_began = time.monotonic() - self._seconds_before
        self._seconds_before = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read validation, keep the best weights, read test at the moments, write everything down."""
        assert isinstance(pl_module, Classification)  # noqa: S101 (tells the type checker)
        trained = time.monotonic()
        epoch = self.epoch + 1
        row: dict[str, Any] = {"epoch": epoch} | pl_module.finish_epoch()
        self.diverged = not math.isfinite(row["train_loss"])
        if self.diverged:
            row["train_loss"] = None
            trainer.should_stop = True
        else:
            row |= self._validate(pl_module, epoch)
        reached: list[int | None] = [percent for percent, at in self.moments.items() if at == epoch]
        if reached or (self.diverged and self.best["epoch"]):
            self._read(pl_module, epoch, reached)
        if reached and self.rollback and not self.diverged:
            pl_module.model.load_state_dict(self.best["model"])
        done = time.monotonic()
        row["seconds"] = {
            "training": round(trained - self._epoch_began, 3),
            "reading": round(done - trained, 3),
        }
        self.history.append(row)
        append_line(self.folder / "history.jsonl", row)
        if self.on_epoch is not None:
            self.on_epoch(row)
        self._epoch_began = time.monotonic()

    def _validate(self, task: Classification, epoch: int) -> dict[str, float | None]:
        reading = predict(task, self.val)
        if reading.accuracy > self.best["val_accuracy"]:
            state = {key: value.detach().cpu().clone() for key, value in task.model.state_dict().items()}
            self.best = {"epoch": epoch, "val_accuracy": reading.accuracy, "model": state}
        return {"val_loss": _finite(reading.loss), "val_accuracy": reading.accuracy}

    def _read(self, task: Classification, epoch: int, reached: list[int | None]) -> None:
        last = predict(task, self.test)
        readings = {"best": last, "last": last}
        if self.best["epoch"] != epoch:
            best = Classification(copy.deepcopy(task.model), task.optimizer, bf16=task.bf16)
            best.model.load_state_dict(self.best["model"])
            readings["best"] = predict(best, self.test)
        entry = {
            "epoch": epoch,
            "best_epoch": self.best["epoch"],
            "val_accuracy": self.best["val_accuracy"],
        } | {name: self._metrics(reading) for name, reading in readings.items()}
        self.readings += [{"percent": percent} | entry for percent in reached or [None]]
        self.predictions["labels"] = readings["best"].labels
        for name, reading in readings.items():
            self.predictions[f"{name}_epoch{epoch}"] = reading.predicted

    def _metrics(self, reading: Predictions) -> dict[str, float | None]:
        averaged = reading.macro(self.num_classes) | {"top5": reading.top5} | reading.released()
        return {"accuracy": reading.accuracy, "loss": _finite(reading.loss)} | averaged


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
