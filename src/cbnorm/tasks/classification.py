"""Image classification with softmax cross-entropy."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.data.batches import Batch
from cbnorm.tasks.base import Metrics, Reading, Task
from cbnorm.tasks.conditions import Condition
from cbnorm.tasks.kept import class_probabilities, principal_components
from cbnorm.tasks.precision import forward_precision
from cbnorm.tasks.predictions import Predictions, predict


class Classification(Task):
    """Trains a classifier; the reference for every loop that drives it.

    ``model(images, clusters)`` gives logits ``(N, num_classes)``; the other arguments are those of
    :class:`cbnorm.tasks.base.Task`.
    """

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits in float32, ``(N, num_classes)``."""
        with forward_precision(images.device, bf16=self.bf16):
            logits: Tensor = self.model(images, clusters).float()
        return logits

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Mean cross-entropy of a batch (a scalar)."""
        images, labels, clusters = batch
        logits = self(images, clusters)
        loss = F.cross_entropy(logits, labels)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            # Filled on the device: a number that is sent there would be waited for.
            count = loss.new_full((), len(labels))
            self.totals += torch.stack([loss * len(labels), correct.float(), count])
        return loss

    def finish_epoch(self) -> Metrics:
        """Training loss and accuracy (per cent) since the last call."""
        _, correct, count = self.totals.tolist()
        return super().finish_epoch() | {"train_accuracy": 100 * correct / max(count, 1)}


class _Kept(NamedTuple):
    """Predictions of the test images by a network after so many steps."""

    model: nn.Module
    step: int
    predictions: Predictions


class ClassificationReader:
    """Reads validation and test images; the best weights are those of the best validation accuracy, or loss.

    Args:
        num_classes: For the metrics averaged over classes.
        val: Batches of the validation images, each once.
        test: Batches of the test images.
        conditions: Further readings of the test images by name, such as ids that are unknown.
        test_curve: Read the test images after every epoch too, for the history; nothing is selected by it.
        confident: Also precision and recall of predictions with a probability above one half.
        select: ``accuracy`` or ``loss`` on the validation images.
        probabilities: Keep the probability of every class for every test image, in half precision.
        components: Keep so many principal components of what the last linear layer sees of the test images.
        places: int64 (N,), of test images that are read in another order than that of the data set: where
            the first, second … of the data set stand. What is kept of them goes by the data set.
    """

    def __init__(
        self,
        num_classes: int,
        val: Iterable[Batch],
        test: Iterable[Batch],
        conditions: Mapping[str, Condition] | None = None,
        *,
        test_curve: bool = False,
        confident: bool = False,
        select: str = "accuracy",
        probabilities: bool = False,
        components: int = 0,
        places: Tensor | None = None,
    ) -> None:
        self.num_classes, self.val, self.test = num_classes, val, test
        self.test_curve, self.confident, self.select = test_curve, confident, select
        self.probabilities, self.components = probabilities, components
        self.places = places
        self.conditions = dict(conditions or {})
        self._kept: _Kept | None = None

    def validate(self, task: Classification) -> Metrics:
        """Loss and accuracy (per cent) on the validation images, for a test curve on the test images too."""
        sets = {"val": self.val} | ({"test": self.test} if self.test_curve else {})
        found: Metrics = {}
        for name, batches in sets.items():
            reading = predict(task, batches)
            if name == "test":
                self._kept = _Kept(task.model, task.step, reading)
            found |= {f"{name}_loss": finite(reading.loss), f"{name}_accuracy": reading.accuracy}
        return found

    def score(self, row: Metrics) -> float | None:
        """The validation accuracy, or the validation loss with the other sign."""
        if self.select == "accuracy":
            return row["val_accuracy"]
        # A loss that is not finite is no reason to keep weights, and none to end the run.
        return -math.inf if row["val_loss"] is None else -row["val_loss"]

    def read(self, task: Classification) -> Reading:
        """Metrics and predicted classes of the test images, under every condition."""
        reading = self._known(task) or predict(task, self.test)
        metrics = self._metrics(reading)
        arrays = {"labels": reading.labels, "predicted": reading.predicted}
        if self.probabilities:
            arrays["probabilities"] = class_probabilities(task, self.test)
        if self.components:
            arrays |= principal_components(task, self.test, self.components)
        for name, condition in self.conditions.items():
            further = predict(task, self.test, condition)
            metrics |= {f"{name}.{key}": value for key, value in self._metrics(further).items()}
            arrays[f"{name}.predicted"] = further.predicted
        if self.places is not None:
            arrays = {k: part if k == "explained" else part[self.places] for k, part in arrays.items()}
        return Reading(metrics, arrays)

    def _known(self, task: Classification) -> Predictions | None:
        """What the test curve has just said of these weights; told once, since weights may change then."""
        kept, self._kept = self._kept, None
        return kept.predictions if kept and (kept.model is task.model and kept.step == task.step) else None

    def _metrics(self, reading: Predictions) -> Metrics:
        averaged = reading.macro(self.num_classes) | {"top5": reading.top5} | reading.released()
        averaged |= reading.confident() if self.confident else {}
        return {"accuracy": reading.accuracy, "loss": finite(reading.loss)} | averaged


def finite(value: float) -> float | None:
    """A number, or None for what is not one."""
    return value if math.isfinite(value) else None
