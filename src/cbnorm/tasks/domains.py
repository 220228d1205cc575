"""Reading a classifier on two domains, under the ids and the statistics that it may be given."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cbnorm.data.batches import Batch
from cbnorm.tasks.adamatch import AdaMatch
from cbnorm.tasks.base import Metrics, Reading
from cbnorm.tasks.classification import finite
from cbnorm.tasks.predictions import Predictions, predict


class DomainReader:
    """Reads both domains. Nothing is selected: target labels are for reporting, and the last weights count.

    The usual reading is that of the target's test images with the source's id, as published. Further ones:
    ``source``, the source's test images; ``own``, the target's under their own id; ``adabn`` and
    ``source_adabn``, with batch normalization's statistics estimated anew on training images of the domain,
    unlabelled (AdaBN, Li et al., 2017).

    Args:
        num_classes: For the metrics averaged over classes.
        val: Validation images by reading, ``""``, ``source`` and perhaps ``own``.
        test: Test images by reading, the usual one being called ``""``.
        adapt: Training images by reading whose statistics are estimated anew, before :meth:`read`.
    """

    def __init__(
        self,
        num_classes: int,
        val: Mapping[str, Iterable[Batch]],
        test: Mapping[str, Iterable[Batch]],
        adapt: Mapping[str, Iterable[Batch]],
    ) -> None:
        self.num_classes, self.val, self.test, self.adapt = num_classes, val, test, adapt

    def validate(self, task: AdaMatch) -> Metrics:
        """Accuracies (per cent) and losses on validation images of every reading, for curves."""
        row: Metrics = {}
        for name, batches in self.val.items():
            found = predict(task, batches)
            lead = _lead(name)
            row |= {f"{lead}val_loss": finite(found.loss), f"{lead}val_accuracy": found.accuracy}
        return row

    def score(self, row: Metrics) -> float | None:
        """None: a choice by target labels would use what the method is to do without."""
        return None

    def read(self, task: AdaMatch) -> Reading:
        """Metrics and predicted classes of every reading, and the gradients' variances so far.

        ``gradients`` holds their decimal logarithms, (epochs, 4, tensors), in the order of
        :data:`cbnorm.tasks.adamatch.FOLLOWED` and of the network's parameters. ``gradient_variance`` sums
        them up for the domain of a reading: of the largest variance of an epoch, its mean over epochs. It is
        a quantity of training, so that all readings of a domain have the same.
        """
        source, target = (finite(value) for value in largest(task)[:2])
        metrics: Metrics = {}
        arrays = {"gradients": task.variances.detach().log10().half().cpu()}
        for name, batches in self.test.items():
            lead = _lead(name)
            metrics[f"{lead}gradient_variance"] = source if name.startswith("source") else target
            found = self._predict(task, name, batches)
            metrics |= {lead + key: value for key, value in self._metrics(found).items()}
            arrays[f"{lead}labels"] = found.labels
            arrays[f"{lead}predicted"] = found.predicted
        return Reading(metrics, arrays)

    def _predict(self, task: AdaMatch, name: str, batches: Iterable[Batch]) -> Predictions:
        if name not in self.adapt:
            return predict(task, batches)
        model = task.model
        task.model = adapted(model, self.adapt[name])
        try:
            return predict(task, batches)
        finally:
            task.model = model

    def _metrics(self, found: Predictions) -> Metrics:
        averages = found.macro(self.num_classes) | found.weighted(self.num_classes)
        return {"accuracy": found.accuracy, "loss": finite(found.loss)} | averages


def _lead(reading: str) -> str:
    return f"{reading}." if reading else ""


def largest(task: AdaMatch) -> list[float]:
    """Decimal logarithm of the largest variance of any tensor's gradient: its mean over the epochs so far.

    Epochs in which it is no finite number don't count.

    Returns:
        One number for each of :data:`cbnorm.tasks.adamatch.FOLLOWED`, nan where no epoch has any.
    """
    done = task.variances[: task.epoch + 1].double().amax(dim=2).log10()
    found: list[float] = done.where(done.isfinite(), torch.nan).nanmean(dim=0).tolist()
    return found


@torch.no_grad()
def adapted(model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """A copy of a network whose batch normalizations have the running statistics of other images.

    Statistics are means over the batches, in one forward pass in training mode; parameters stay. All batches
    count alike, so that a last one with fewer images is left out unless it is the only one.

    Args:
        model: The network.
        batches: Images, labels (not read) and cluster ids.
    """
    copied = copy.deepcopy(model)
    layers = [layer for layer in copied.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a plain mean over batches
    copied.eval()
    for layer in layers:
        layer.train()
    size = 0
    for images, _, clusters in batches:
        size = max(size, len(images))
        if len(images) == size:
            copied(images, clusters)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return copied.train(model.training)
