"""What a classifier says and sees of the test images beyond its predictions, small enough to be kept."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cbnorm.data.batches import Batch
from cbnorm.mixtures.pca import pca
from cbnorm.tasks.precision import forward_precision


def class_probabilities(task: Any, batches: Iterable[Batch]) -> Tensor:
    """Probability of every class for every image, (N, C) in half precision.

    Args:
        task: ``task(images, clusters)`` gives logits; read in evaluation mode, which is undone afterwards.
        batches: Batches of images, labels and cluster ids, each image once.
    """
    return _gathered(task, batches, lambda images, clusters: task(images, clusters).softmax(1).half())


def principal_components(task: Any, batches: Iterable[Batch], number: int) -> dict[str, Tensor]:
    """What the last linear layer sees, along its principal components (Fig. 14).

    Args:
        task: Its network has ``features(images, clusters)``.
        batches: Batches of images, labels and cluster ids, each image once.
        number: How many components, at most as many as there are images or features.

    Returns:
        ``components`` (N, number), centred, and ``explained`` (number,): each one's share of the variance.
        Nothing of a network that diverged, whose features are no numbers.
    """
    features = _gathered(task, batches, lambda images, clusters: _features(task, images, clusters))
    if not features.isfinite().all():
        return {}
    found = pca(features, min(number, *features.shape))
    explained = found.variances / max(found.total_variance, 1e-30)
    return {"components": found.transform(features).half(), "explained": explained.half()}


def _features(task: Any, images: Tensor, clusters: Tensor) -> Tensor:
    with forward_precision(images.device, bf16=task.bf16):
        features: Tensor = task.model.features(images, clusters).float()
    return features


@torch.no_grad()
def _gathered(task: Any, batches: Iterable[Batch], see: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    training = task.training
    task.eval()
    parts = [see(images, clusters).cpu() for images, _, clusters in batches]
    task.train(training)
    return torch.cat(parts)
