"""Reading a classifier on a set of images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.data.batches import Batch
from cbnorm.tasks.conditions import Condition

#: Keras' default threshold of precision and recall.
_THRESHOLD = 0.5


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about a set of images.

    Attributes:
        labels: True classes, ``(N,)`` int64.
        predicted: Classes with the largest logit, ``(N,)`` int64.
        losses: Cross-entropy per image in nats, ``(N,)`` float32.
        ranks: How many classes have a larger logit than the true one, ``(N,)`` int64; all where it is NaN.
        above: How many logits exceed 0.5, ``(N,)`` int64.
        hit: Whether the true class's logit exceeds 0.5, ``(N,)`` bool.
        sure: Whether the largest probability exceeds 0.5, ``(N,)`` bool.
    """

    labels: Tensor
    predicted: Tensor
    losses: Tensor
    ranks: Tensor
    above: Tensor
    hit: Tensor
    sure: Tensor

    @property
    def accuracy(self) -> float:
        """Per cent of the images whose class was predicted."""
        return 100 * (self.labels == self.predicted).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.losses.double().mean().item()

    @property
    def top5(self) -> float:
        """Per cent of the images whose class is among the five with the largest logits."""
        return 100 * (self.ranks < 5).double().mean().item()

    def released(self) -> dict[str, float]:
        """Precision and recall in per cent as the authors' notebooks compute them.

        Keras' metrics at their threshold of 0.5, on raw logits, pooled over all images and classes:
        a class counts as predicted when its logit exceeds 0.5, so an image may have many or none.
        """
        hits = self.hit.sum().item()
        return {
            "threshold_precision": 100 * hits / max(self.above.sum().item(), 1),
            "threshold_recall": 100 * hits / max(len(self.hit), 1),
        }

    def confident(self) -> dict[str, float]:
        """Precision and recall in per cent of predictions with a probability above one half.

        Keras' metrics at their threshold on probabilities, pooled over all images and classes: at most one
        class of an image counts as predicted, and none of an image without a clear favourite.
        """
        hits = (self.sure & (self.labels == self.predicted)).sum().item()
        return {
            "confident_precision": 100 * hits / max(self.sure.sum().item(), 1),
            "confident_recall": 100 * hits / max(len(self.sure), 1),
        }

    def macro(self, num_classes: int) -> dict[str, float]:
        """Precision, recall and F1 in per cent, each averaged over the classes (0 where a class has none)."""
        return {name: 100 * values.mean().item() for name, values in self._by_class(num_classes).items()}

    def weighted(self, num_classes: int) -> dict[str, float]:
        """As :meth:`macro`, every class weighted by its number of images; the recall is then the accuracy."""
        shares = torch.bincount(self.labels, minlength=num_classes) / max(len(self.labels), 1)
        by_class = self._by_class(num_classes).items()
        return {f"weighted_{name}": 100 * (shares * values).sum().item() for name, values in by_class}

    def _by_class(self, num_classes: int) -> dict[str, Tensor]:
        matrix = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        matrix.index_put_(
            (self.labels, self.predicted), torch.ones(len(self.labels), dtype=torch.float64), accumulate=True
        )
        hits = matrix.diagonal()
        precision = hits / matrix.sum(0).clamp(min=1)
        recall = hits / matrix.sum(1).clamp(min=1)
        f1 = 2 * hits / (matrix.sum(0) + matrix.sum(1)).clamp(min=1)
        return {"precision": precision, "recall": recall, "f1": f1}


@torch.no_grad()
def predict(task: nn.Module, batches: Iterable[Batch], condition: Condition | None = None) -> Predictions:
    """Read a classifier in evaluation mode; its mode is put back afterwards.

    Args:
        task: ``task(images, clusters)`` gives logits.
        batches: Batches of images, labels and cluster ids, each image once.
        condition: How logits come about in place of that; it is told where in the set a batch stands.
    """
    training = task.training
    task.eval()
    parts, place = [], 0
    for images, labels, clusters in batches:
        after = place + len(labels)
        logits = condition(task, images, slice(place, after)) if condition else task(images, clusters)
        place = after
        true = logits.gather(1, labels[:, None])
        parts.append(
            (
                labels,
                logits.argmax(1),
                F.cross_entropy(logits, labels, reduction="none"),
                (~(logits <= true)).sum(1),
                (logits > _THRESHOLD).sum(1),
                true[:, 0] > _THRESHOLD,
                logits.softmax(1).amax(1) > _THRESHOLD,
            )
        )
    task.train(training)
    return Predictions(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
