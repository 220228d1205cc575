"""Going on exactly where a run stopped: what is saved, when, and how it is put back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch

from cbnorm.data.batches import Batch, Batches, EpochSampler
from cbnorm.data.streams import derived_seed
from cbnorm.runs import checkpoint
from cbnorm.runs.interruption import RunInterruptedError, requested
from cbnorm.runs.journal import Journal
from cbnorm.runs.limit import CHECKPOINT_INTERVAL
from cbnorm.tasks.classification import Classification

INTERVAL = CHECKPOINT_INTERVAL


class TrainingBatches:
    """Training batches from the epoch and batch at which a run goes on.

    Lightning counts the epochs of one fit from zero and knows nothing of what went before; the batches are a
    pure function of epoch and index, so leaving some out is all that resuming takes.

    Args:
        batches: The batches of every epoch.
        epoch: First epoch to train (0 is the run's first).
        batch: First batch of that epoch.
    """

    def __init__(self, batches: Batches, epoch: int = 0, batch: int = 0) -> None:
        self.batches, self.first, self.start = batches, epoch, batch
        self.sampler = EpochSampler()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        # A generator, because Lightning makes the first iterator before it sets the epoch.
        epoch = self.sampler.epoch
        yield from self.batches.epoch(self.first + epoch, self.start if epoch == 0 else 0)


class Checkpointer(lightning.Callback):
    """Saves a run's whole state every so often, and when a signal asks the run to stop.

    A batch's random numbers inside the network (dropout) come from a stream of their own, keyed by epoch and
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
        self._optimizer: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def restore(self, state: dict[str, Any], task: Classification) -> None:
        """Put a saved state back: weights and history now, the optimizer when training starts.

        Raises:
            ValueError: The state is not one of this run; the task is then of no use any more.
        """
        try:
            # Tried on an optimizer that is thrown away, because the real one is made later.
            task.configure_optimizers().load_state_dict(state["optimizer"])
            task.model.load_state_dict(state["model"])
            task.totals.copy_(state["totals"])
            self.journal.load_state_dict(state["journal"])
            self.batch = int(state["batch"])
        except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
            raise ValueError(f"it does not fit this run: {str(error).splitlines()[0]}") from error
        if not 0 <= self.batch < self.batches:
            raise ValueError(f"it does not fit this run: batch {self.batch} of {self.batches}")
        self._optimizer = state["optimizer"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the optimizer its state back."""
        if self._optimizer is not None:
            trainer.optimizers[0].load_state_dict(self._optimizer)
            self._optimizer = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put the network's random numbers at the place of this batch."""
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
        if not stop and time.monotonic() - self._saved < INTERVAL:
            return
        assert isinstance(task, Classification)  # noqa: S101 (tells the type checker)
        self.may_write()
        checkpoint.save(self.folder, self._state(trainer, task))
        self._saved = time.monotonic()
        if stop:
            raise RunInterruptedError(f"run {self.run} stopped and saved; the same command goes on from here")

    def _state(self, trainer: lightning.Trainer, task: Classification) -> dict[str, Any]:
        return {
            "run": self.run,
            "batch": self.batch,
            "model": task.model.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "totals": task.totals,
            "journal": self.journal.state_dict(),
        }
