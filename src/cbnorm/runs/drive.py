"""What drives a task over its batches: Lightning's trainer, or the plain loop of :mod:`cbnorm.runs.loop`."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import cbnorm._torchvision  # noqa: F401  (before lightning)

import lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from cbnorm.runs import loop
from cbnorm.runs.interruption import RunInterruptedError, take_back_signals
from cbnorm.tasks.base import Task

Engine = Literal["auto", "lightning", "loop"]


class _OwnSignals(lightning.Callback):
    """Keeps Lightning from ending the process between two batches, unsaved, when SIGTERM comes."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        take_back_signals()


def drive(
    task: Task,
    batches: Any,
    callbacks: Sequence[lightning.Callback],
    device: torch.device,
    *,
    epochs: int = 1,
    engine: Engine = "auto",
) -> None:
    """Train a task.

    Args:
        task: What is trained; its network, optimizers and sums hold the state.
        batches: An iterable with a length, and a ``sampler`` that is told the epoch if it has one.
        callbacks: Told what Lightning tells callbacks: start of training, start and end of epochs and steps.
        device: Where.
        epochs: How often the batches are gone through, unless a callback asks to stop.
        engine: Which loop; ``auto`` is Lightning's, because it costs nothing that could be measured
            (docs/engine.md).
    """
    if engine == "loop":
        loop.fit(task, batches, callbacks, device, epochs=epochs)
        return
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning advises DataLoader workers; these batches are made on the device.
        warnings.filterwarnings("ignore", module=r"lightning\.")
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            callbacks=[_OwnSignals(), *callbacks],
            logger=False,
            # One process: a scheduler around it must not make Lightning requeue or spawn by itself.
            plugins=[LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(task, batches)
        except SIGTERMException as error:
            raise RunInterruptedError(
                "stopped as training began; the same command goes on from here"
            ) from error
