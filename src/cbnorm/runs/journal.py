"""What a run notes at the end of every epoch: history, best weights, test readings."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
from torch import Tensor

from cbnorm.runs import weights
from cbnorm.runs.files import append_line, write_bytes
from cbnorm.tasks.base import Metrics, Reader, Reading, Task


class Journal(lightning.Callback):
    """Keeps a run's history and state; has validation and test images read.

    After every epoch validation is read. At the moments the test set is read twice: with the weights of the
    best validation score so far, on a copy of the model, and with the last weights; where the reader selects
    nothing, both are the last. Training never sees either, unless it rolls back. A loss that is not finite
    ends the run as diverged.

    Args:
        folder: The run's folder.
        run: The run's id.
        moments: Epoch by per cent, from :func:`cbnorm.runs.moments.moment_epochs`.
        reader: Reads validation and test images.
        on_epoch: Told every line of the history as it is written.
        rollback: Go on from the best weights after every moment, the optimizer's state kept, as the authors'
            SCB-Norm notebooks do.
        patience: Read the test set also at the end of the first epoch that so many epochs without a better
            score have come before, which is where early stopping would have ended the run.
        keep_moments: Leave the best weights so far in a file at every moment.
        commit: Of the code that trains.
        may_write: Asked before anything is written into the folder; raises when the run is another's now.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        moments: dict[int, int],
        reader: Reader,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        *,
        rollback: bool = False,
        patience: int | None = None,
        keep_moments: bool = False,
        commit: str | None = None,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.run, self.moments, self.reader = folder, run, moments, reader
        self.on_epoch, self.rollback, self.patience = on_epoch, rollback, patience
        self.keep_moments, self.may_write = keep_moments, may_write
        #: Of the code of all processes that trained this run, in their order.
        self.commits = [] if commit is None else [commit]
        self.history: list[dict[str, Any]] = []
        self.readings: list[dict[str, Any]] = []
        self.arrays: dict[str, Tensor] = {}
        self.files: dict[str, bytes] = {}
        self.best: dict[str, Any] = {"epoch": 0, "score": -math.inf, "row": {}, "model": {}}
        self.diverged = False
        self._epoch_began = time.monotonic()
        self._seconds_before = 0.0
        #: Seconds of epochs before this process, which went on from a checkpoint.
        self.earlier = 0.0

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain data and tensors."""
        return {
            "history": self.history,
            "readings": self.readings,
            "arrays": self.arrays,
            "files": self.files,
            "best": self.best,
            "diverged": self.diverged,
            "commits": self.commits,
            "seconds": time.monotonic() - self._epoch_began,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.history, self.readings = state_dict["history"], state_dict["readings"]
        self.arrays, self.files = state_dict["arrays"], state_dict["files"]
        self.best = state_dict["best"]
        self.diverged = state_dict["diverged"]
        self.commits = list(dict.fromkeys([*state_dict.get("commits", []), *self.commits]))
        self._seconds_before = state_dict["seconds"]
        self.earlier = sum(sum(row["seconds"].values()) for row in self.history) + self._seconds_before

    def rewrite(self, *, durable: bool = True) -> None:
        """Make the history on disk what is known here: a killed run may have written more, or half a line."""
        self.may_write()
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.history)
        write_bytes(self.folder / "history.jsonl", lines.encode(), durable=durable)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock, which goes on from a checkpoint inside the epoch."""
        self._epoch_began = time.monotonic() - self._seconds_before
        self._seconds_before = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read validation, keep the best weights, read test at the moments, write everything down."""
        assert isinstance(pl_module, Task)  # noqa: S101 (tells the type checker)
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
        stopped = self._would_stop(epoch)
        # A run that diverges in its first epoch has nothing that could be read.
        if self.best["epoch"] and (reached or stopped or self.diverged):
            self._read(pl_module, epoch, reached, stopped=stopped)
        if reached and self.rollback and not self.diverged:
            pl_module.model.load_state_dict(self.best["model"])
        done = time.monotonic()
        row["seconds"] = {
            "training": round(trained - self._epoch_began, 3),
            "reading": round(done - trained, 3),
        }
        self.history.append(row)
        self.may_write()
        append_line(self.folder / "history.jsonl", row)
        if self.on_epoch is not None:
            self.on_epoch(row)
        self._epoch_began = time.monotonic()

    def _validate(self, task: Task, epoch: int) -> Metrics:
        row = self.reader.validate(task)
        score = self.reader.score(row)
        # The first epoch is the best so far even when its loss is no finite number.
        if score is None or score > self.best["score"] or not self.best["epoch"]:
            state = {key: value.detach().cpu().clone() for key, value in task.model.state_dict().items()}
            known = -math.inf if score is None else score
            self.best = {"epoch": epoch, "score": known, "row": row, "model": state}
        return row

    def _would_stop(self, epoch: int) -> bool:
        if self.patience is None or self.diverged or any(entry.get("stopped") for entry in self.readings):
            return False
        return epoch - int(self.best["epoch"]) >= self.patience

    def _read(self, task: Task, epoch: int, reached: list[int | None], *, stopped: bool) -> None:
        last = self.reader.read(task)
        readings = {"best": last, "last": last}
        if self.best["epoch"] != epoch:
            with _weights(task, self.best["model"]):
                readings["best"] = self.reader.read(task)
        entry = {"epoch": epoch, "best_epoch": self.best["epoch"]}
        entry |= {key: value for key, value in self.best["row"].items() if key == "val_accuracy"}
        entry |= {name: reading.metrics for name, reading in readings.items()}
        moments = [{"percent": percent} | entry for percent in reached]
        early = [{"percent": None, "stopped": True} | entry] if stopped else []
        self.readings += [*early, *moments] or [{"percent": None} | entry]
        for name, reading in readings.items():
            # A file is not kept twice.
            twice = name == "best" and reading is last
            self._keep(name, epoch, replace(reading, files={}) if twice else reading)
        for percent in reached if self.keep_moments else ():
            self.may_write()
            file = weights.MOMENT.format(percent=percent)
            weights.write(self.folder, self.run, self.best["epoch"], self.best["model"], file)

    def _keep(self, name: str, epoch: int, reading: Reading) -> None:
        """By reading and epoch: ``best_epoch5``, ``unknown.best_epoch5``; labels are the same for all."""
        self.files |= {f"{name}_epoch{epoch}_{file}": content for file, content in reading.files.items()}
        for key, array in reading.arrays.items():
            condition, _, what = key.rpartition(".")
            lead = f"{condition}." if condition else ""
            kept = "" if what == "predicted" else f"{what}_"
            self.arrays[key if what == "labels" else f"{lead}{kept}{name}_epoch{epoch}"] = array


@contextmanager
def _weights(task: Task, state: dict[str, Tensor]) -> Iterator[None]:
    """A task with other weights for a while, on a copy: training must not notice."""
    model = task.model
    task.model = copy.deepcopy(model)
    task.model.load_state_dict(state)
    try:
        yield
    finally:
        task.model = model
