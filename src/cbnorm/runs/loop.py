"""A plain training loop for one device: the steps of Lightning's, and nothing around them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer

from cbnorm.errors import CbnormError
from cbnorm.runs.graph import GraphSteps
from cbnorm.tasks.base import Task


class Loop:
    """Takes a trainer's place before callbacks and tasks.

    Attributes:
        optimizers: Those of the task.
        should_stop: Set by whoever wants this epoch to be the last.
    """

    def __init__(self, task: Task) -> None:
        made = task.configure_optimizers()
        self.optimizers: list[Optimizer] = [made] if isinstance(made, Optimizer) else made
        self.should_stop = False
        self.lightning_module = task


def fit(
    task: Task,
    batches: Any,
    callbacks: Sequence[lightning.Callback],
    device: torch.device,
    *,
    epochs: int = 1,
    buffers: bool | None = None,
) -> None:
    """Train as Lightning's trainer would: the same calls in the same order, on a CPU the same bits.

    Args:
        task: One optimizer, automatic optimization.
        batches: See :func:`cbnorm.runs.drive.drive`.
        callbacks: Likewise.
        device: Likewise.
        epochs: Likewise.
        buffers: Whether steps read their inputs from fixed buffers, which a CUDA graph needs; None: on a GPU,
            where task, optimizer and batches allow it. On a GPU such steps are replayed as one graph.

    Raises:
        CbnormError: The task optimizes by itself.
    """
    if not task.automatic_optimization:
        raise CbnormError("trainer.engine=loop drives tasks with one optimizer: choose lightning")
    # Streams and graphs are of the current device, which need not be the one that trains.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        _fit(task, batches, callbacks, device, epochs=epochs, buffers=buffers)


def _fit(
    task: Task,
    batches: Any,
    callbacks: Sequence[lightning.Callback],
    device: torch.device,
    *,
    epochs: int,
    buffers: bool | None,
) -> None:
    task.to(device)
    task.train()
    trainer = Loop(task)
    seen = cast("lightning.Trainer", trainer)
    task.trainer = seen
    for callback in callbacks:
        callback.on_train_start(seen, task)
    steps = _steps(task, trainer.optimizers[0], batches, device, buffers=buffers)
    for epoch in range(epochs):
        if hasattr(batches, "sampler"):
            batches.sampler.set_epoch(epoch)
        for callback in callbacks:
            callback.on_train_epoch_start(seen, task)
        _epoch(seen, task, steps, callbacks)
        for callback in callbacks:
            callback.on_train_epoch_end(seen, task)
        if trainer.should_stop:
            break


def _steps(
    task: Task, optimizer: Optimizer, batches: Any, device: torch.device, *, buffers: bool | None
) -> "PlainSteps | GraphSteps":
    gpu = device.type == "cuda"
    if (gpu if buffers is None else buffers) and GraphSteps.suited(task, optimizer, batches):
        return GraphSteps(task, optimizer, batches, record=gpu)
    return PlainSteps(task, optimizer, batches)


class PlainSteps:
    """Training steps on the batches as they come."""

    def __init__(self, task: Task, optimizer: Optimizer, batches: Iterable[Any]) -> None:
        self.task, self.optimizer, self.batches = task, optimizer, batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def step(self, batch: Any, index: int) -> Tensor:
        """Train on a batch, in the order of Lightning's closure; the loss."""
        loss = cast("Tensor", self.task.training_step(batch, index))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def _epoch(
    trainer: lightning.Trainer,
    task: Task,
    steps: "PlainSteps | GraphSteps",
    callbacks: Sequence[lightning.Callback],
) -> None:
    for index, batch in enumerate(steps):
        for callback in callbacks:
            callback.on_train_batch_start(trainer, task, batch, index)
        loss = steps.step(batch, index)
        for callback in callbacks:
            callback.on_train_batch_end(trainer, task, {"loss": loss}, batch, index)
