"""AdaMatch (Berthelot et al., 2021) as pure functions, and the forms of the Keras example the paper used.

Source images have labels, target images have none; of every image there are a weak and a strong view.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Alignment = Literal["running", "per_class", "keras"]

#: How much of an average of mean predictions a new batch leaves, for the source and for the target. The
#: source's is that of AdaMatch's authors; where they take the target's mean over the last 128 batches, this
#: is an average whose batches are as old in the mean, 63.5 steps.
DECAYS = (0.999, 63.5 / 64.5)
#: Added to both averages, as in their code.
_SMALL = 1e-6


class PseudoLabels(NamedTuple):
    """What the target's weak views are taken to be.

    Attributes:
        labels: (M, C), a distribution per image, of length 1 under ``keras``; constants.
        mask: bool (M,), which images are sure enough to be learned from.
    """

    labels: Tensor
    mask: Tensor


def interpolate(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Random interpolation of the source's logits: ``share * first + (1 - share) * second``.

    Args:
        first: (N, C), logits computed together with the target's images.
        second: (N, C), logits of the same images computed without them.
        share: (N, C), drawn from U(0, 1) for every element.
    """
    return torch.lerp(second, first, share)


def running_means(means: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Running averages of the mean predictions of both domains, with one more batch in them.

    They start at 1 / C, as the authors' do: until there is something to go by, nothing is aligned.

    Args:
        means: (2, C), the averages so far: of the source, of the target.
        source: (N, C), logits of the source's weak views.
        target: (M, C), logits of the target's weak views.

    Returns:
        (2, C), constants.
    """
    with torch.no_grad():
        batch = [logits.softmax(dim=1).mean(dim=0) for logits in (source, target)]
        return torch.stack([torch.lerp(b, m, d) for b, m, d in zip(batch, means, DECAYS, strict=True)])


def align(
    source: Tensor, target: Tensor, form: Alignment = "per_class", means: Tensor | None = None
) -> Tensor:
    """Bring the target's predictions to the source's distribution of classes.

    ``running`` and ``per_class`` are AdaMatch's: every class is multiplied by the ratio of its mean
    predictions, source over target, and rows are made to sum to 1. ``running`` takes averages over many
    batches, as AdaMatch's code does; ``per_class`` takes the batch alone, which may lack classes.

    ``keras`` is what the Keras example computes: its means are over classes too, hence both are 1 / C and the
    ratio is 1; and rows are given Euclidean length 1.

    Args:
        source: (N, C), probabilities of the source's weak views.
        target: (M, C), probabilities of the target's weak views.
        form: ``running``, ``per_class`` or ``keras``.
        means: (2, C), of ``running``: what :func:`running_means` gave.

    Returns:
        (M, C).

    Raises:
        ValueError: ``running`` without its averages.

    >>> target = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
    >>> align(torch.tensor([[0.5, 0.5]]), target)
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    if form == "keras":
        return F.normalize(target * (source.mean() / target.mean()), dim=1)
    if form == "running":
        if means is None:
            raise ValueError("running alignment needs the running means of both domains")
        ratio = (means[0] + _SMALL) / (means[1] + _SMALL)
    else:
        # A class that nobody predicts keeps its zero.
        ratio = source.mean(dim=0) / target.mean(dim=0).clamp_min(torch.finfo(target.dtype).tiny)
    weighted = target * ratio
    return weighted / weighted.sum(dim=1, keepdim=True).clamp_min(torch.finfo(target.dtype).tiny)


def pseudo_labels(
    source_weak: Tensor,
    target_weak: Tensor,
    *,
    threshold: float,
    form: Alignment = "per_class",
    means: Tensor | None = None,
) -> PseudoLabels:
    """Labels for the target, and the relative threshold that decides which of them count.

    The threshold is ``threshold`` times the mean over the source's weak views of the largest probability.

    Args:
        source_weak: (N, C), logits.
        target_weak: (M, C), logits.
        threshold: tau, 0.9 in both sources.
        form: See :func:`align`.
        means: See :func:`align`.
    """
    with torch.no_grad():
        source, target = source_weak.softmax(dim=1), target_weak.softmax(dim=1)
        labels = align(source, target, form, means)
        least = threshold * source.amax(dim=1).mean()
        return PseudoLabels(labels, labels.amax(dim=1) >= least)


def source_loss(weak: Tensor, strong: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the source's weak views plus that of its strong views, each a mean over images.

    Args:
        weak: (N, C), logits.
        strong: (N, C), logits.
        labels: (N,).
    """
    return F.cross_entropy(weak, labels) + F.cross_entropy(strong, labels)


def target_loss(strong: Tensor, pseudo: PseudoLabels) -> Tensor:
    """Cross-entropy of the target's strong views to their pseudo-labels; a mean over all images, sure or not.

    Args:
        strong: (M, C), logits.
        pseudo: Of the same images.
    """
    return (F.cross_entropy(strong, pseudo.labels, reduction="none") * pseudo.mask).mean()


def ramp(step: int, length: float) -> float:
    """The weight mu of the target's loss: from 0 to 1 over the first half of a schedule, then 1.

    Args:
        step: Steps done before this one.
        length: Steps of the schedule.

    >>> [round(ramp(step, 8), 3) for step in (0, 2, 4, 8)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return 0.5 - 0.5 * math.cos(min(math.pi, 2 * math.pi * step / length))
