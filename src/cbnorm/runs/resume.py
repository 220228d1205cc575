"""Going on exactly where a run stopped: what is saved, when, and how it is put back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch

from cbnorm.data.batches import EpochSampler
from cbnorm.data.streams import derived_seed
from cbnorm.runs import checkpoint
from cbnorm.runs.interruption import RunInterruptedError, requested
from cbnorm.runs.journal import Journal
from cbnorm.runs.limit import CHECKPOINT_INTERVAL
from cbnorm.tasks.base import Task

INTERVAL = CHECKPOINT_INTERVAL
# Large networks are saved less often: saving is to take a thirtieth of the time, but no more is to be lost
# than three intervals.
_RARER, _LONGEST = 30, 3


class Training(Protocol):
    """Batches to train on: those of an epoch are a pure function of the seed, the epoch and their index."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from batch ``start`` on."""
        ...


class TrainingBatches:
    """Training batches from the epoch and batch at which a run goes on.

    Lightning counts the epochs of one fit from zero and knows nothing of what went before; the batches are a
    pure function of epoch and index, so leaving some out is all that resuming takes.

    Args:
        batches: The batches of every epoch.
        epoch: First epoch to train (0 is the run's first).
        batch: First batch of that epoch.
    """

    def __init__(self, batches: Training, epoch: int = 0, batch: int = 0) -> None:
        self.batches, self.first, self.start = batches, epoch, batch
        self.sampler = EpochSampler()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        # A generator, because Lightning makes the first iterator before it sets the epoch.
        epoch = self.sampler.epoch
        yield from self.batches.epoch(self.first + epoch, self.start if epoch == 0 else 0)


class Checkpointer(lightning.Callback):
    """Saves a run's whole state every so often, and when a signal asks the run to stop.

    A step's random numbers (dropout, noise) come from a stream of their own, keyed by epoch and
    batch, so that no generator's state has to be saved.

    Args:
        folder: The run's folder.
        run: The run's id.
        seed: The run's seed.
        journal: Saved and put back with the rest.
        batches: Number of batches per epoch.
        may_write: Raises when the run is another process's by now.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        seed: int,
        journal: Journal,
        batches: int,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.run, self.seed, self.journal, self.batches = folder, run, seed, journal, batches
        self.may_write = may_write
        self.batch = 0
        self._optimizers: list[dict[str, Any]] = []
        self._saved, self._pause = time.monotonic(), 0.0

    def restore(self, state: dict[str, Any], task: Task) -> None:
        """Put a saved state back: weights and history now, the optimizers when training starts.

        Raises:
            ValueError: The state is not one of this run; the task is then of no use any more.
        """
        try:
            # Tried on optimizers that are thrown away, because the real ones are made later.
            made = task.configure_optimizers()
            for optimizer, saved in zip(_listed(made), state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            task.model.load_state_dict(state["model"])
            task.totals.copy_(state["totals"])
            self.journal.load_state_dict(state["journal"])
            self.batch = int(state["batch"])
        except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
            raise ValueError(f"it does not fit this run: {str(error).splitlines()[0]}") from error
        if not 0 <= self.batch < self.batches:
            raise ValueError(f"it does not fit this run: batch {self.batch} of {self.batches}")
        self._optimizers = state["optimizers"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the optimizers their state back."""
        for optimizer, saved in zip(trainer.optimizers, self._optimizers, strict=False):
            optimizer.load_state_dict(saved)
        self._optimizers = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the step's random numbers and its learning rate at the place of this batch."""
        assert isinstance(pl_module, Task)  # noqa: S101 (tells the type checker)
        pl_module.begin_step(self.journal.epoch * self.batches + self.batch)
        torch.manual_seed(derived_seed(self.seed, "dropout", self.journal.epoch, self.batch))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time; the end of the epoch saves after its last batch."""
        self.batch += 1
        if self.batch < self.batches:
            self._save_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save if it is time; the journal has noted the epoch."""
        self.batch = 0
        self._save_if_due(trainer, pl_module)

    def _save_if_due(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        stop = requested()
        if not stop and time.monotonic() - self._saved < max(INTERVAL, self._pause):
            return
        assert isinstance(task, Task)  # noqa: S101 (tells the type checker)
        self.may_write()
        began = time.monotonic()
        checkpoint.save(self.folder, self._state(trainer, task))
        self._saved = time.monotonic()
        self._pause = min(_RARER * (self._saved - began), _LONGEST * INTERVAL)
        if stop:
            raise RunInterruptedError(f"run {self.run} stopped and saved; the same command goes on from here")

    def _state(self, trainer: lightning.Trainer, task: Task) -> dict[str, Any]:
        return {
            "run": self.run,
            "batch": self.batch,
            "model": task.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "totals": task.totals,
            "journal": self.journal.state_dict(),
        }


def _listed(optimizers: Any) -> list[torch.optim.Optimizer]:
    return list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
