"""Reading a classifier on a set of images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.data.batches import Batch


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about a set of images.

    Attributes:
        labels: True classes, ``(N,)`` int64.
        predicted: Classes with the largest logit, ``(N,)`` int64.
        losses: Cross-entropy per image in nats, ``(N,)`` float32.
    """

    labels: Tensor
    predicted: Tensor
    losses: Tensor

    @property
    def accuracy(self) -> float:
        """Per cent of the images whose class was predicted."""
        return 100 * (self.labels == self.predicted).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.losses.double().mean().item()

    def macro(self, num_classes: int) -> dict[str, float]:
        """Precision, recall and F1 in per cent, each averaged over the classes (0 where a class has none)."""
        matrix = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        matrix.index_put_(
            (self.labels, self.predicted), torch.ones(len(self.labels), dtype=torch.float64), accumulate=True
        )
        hits = matrix.diagonal()
        precision = hits / matrix.sum(0).clamp(min=1)
        recall = hits / matrix.sum(1).clamp(min=1)
        f1 = 2 * hits / (matrix.sum(0) + matrix.sum(1)).clamp(min=1)
        return {
            name: 100 * values.mean().item()
            for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
        }


@torch.no_grad()
def predict(task: nn.Module, batches: Iterable[Batch]) -> Predictions:
    """Read a classifier in evaluation mode; its mode is put back afterwards.

    Args:
        task: ``task(images, clusters)`` gives logits.
        batches: Batches of images, labels and cluster ids, each image once.
    """
    training = task.training
    task.eval()
    labels, predicted, losses = [], [], []
    for images, targets, clusters in batches:
        logits = task(images, clusters)
        labels.append(targets)
        predicted.append(logits.argmax(1))
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
    task.train(training)
    return Predictions(torch.cat(labels).cpu(), torch.cat(predicted).cpu(), torch.cat(losses).cpu())
