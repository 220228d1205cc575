"""Judging samples against real images: distances, neighbours, classes, under one set of features or more."""

from dataclasses import dataclass

from torch import Tensor

from cbnorm.metrics import (
    class_entropy,
    frechet_distance,
    moments,
    nearest_labels,
    neighbourhood,
    spread,
)
from cbnorm.metrics.extractors import Extractor
from cbnorm.metrics.fid import Fid
from cbnorm.tasks.base import Metrics


@dataclass(frozen=True)
class RealImages:
    """What samples are compared with.

    Attributes:
        references: Training images, uint8 (R, 3, H, W); diversity is that of the first N of them.
        labels: Their classes, int64 (R,).
        held_out: Images that were not trained on, uint8 (N, 3, H, W), as many as samples are judged.
        held_out_labels: Their classes, int64 (N,).
        num_classes: Of the labels.

    Raises:
        ValueError: There are fewer references than held-out images.
    """

    references: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        if len(self.references) < len(self.held_out):
            raise ValueError(
                f"{len(self.references)} references for {len(self.held_out)} samples are too few"
            )


class Judge:
    """Measures sets of N images against real ones, whose features are computed once.

    Args:
        real: The real images.
        extractors: What images are compared by; a Fréchet distance each. Everything else is measured by the
            features of the first.
        fid: FID against the references, where it can be computed.
    """

    def __init__(self, real: RealImages, extractors: list[Extractor], fid: Fid | None = None) -> None:
        self.real, self.extractors, self.fid = real, extractors, fid
        self._references = {e.name: e(real.references) for e in extractors}
        self._moments = {name: moments(features) for name, features in self._references.items()}
        self.floor = self._floor()

    def __call__(self, images: Tensor) -> Metrics:
        """Measure N images, uint8 (N, 3, H, W).

        Returns:
            ``frechet_FEATURES`` for every extractor; ``fid`` where there is one; ``sample_precision``,
            ``sample_recall`` and ``coverage`` in per cent and ``density``, see
            :class:`cbnorm.metrics.Neighbourhood`; ``class_entropy`` in nats of the classes of the nearest
            references; ``variance_ratio``, ``nearest_ratio`` and ``collapsed`` (1 or 0), see
            :class:`cbnorm.metrics.Spread`.
        """
        return self._measured(images, self._features(images))

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return {extractor.name: extractor(images) for extractor in self.extractors}

    def _measured(self, images: Tensor, features: dict[str, Tensor]) -> Metrics:
        found: Metrics = {
            f"frechet_{name}": frechet_distance(self._moments[name], moments(own))
            for name, own in features.items()
        }
        if self.fid is not None:
            found["fid"] = self.fid(images)
        return found | self._diversity(features[self.extractors[0].name])

    def _diversity(self, features: Tensor) -> Metrics:
        references = self._references[self.extractors[0].name]
        alike = neighbourhood(references[: len(features)], features)
        varied = spread(references[: len(features)], features)
        classes = nearest_labels(references, self.real.labels.to(references.device), features)
        return {
            "sample_precision": 100 * alike.precision,
            "sample_recall": 100 * alike.recall,
            "density": alike.density,
            "coverage": 100 * alike.coverage,
            "class_entropy": class_entropy(classes, self.real.num_classes),
            "variance_ratio": varied.variance,
            "nearest_ratio": varied.nearest,
            "collapsed": float(varied.collapsed),
        }

    def _floor(self) -> Metrics:
        """What as many held-out real images get: the best that samples can be expected to reach.

        Beside it ``class_accuracy``, per cent of them whose nearest reference is of their class, and the
        sizes of both sets.
        """
        first, features = self.extractors[0].name, self._features(self.real.held_out)
        references = self._references[first]
        classes = nearest_labels(references, self.real.labels.to(references.device), features[first])
        right = classes.cpu() == self.real.held_out_labels
        return self._measured(self.real.held_out, features) | {
            "class_accuracy": 100 * right.double().mean().item(),
            "samples": float(len(self.real.held_out)),
            "references": float(len(self.real.references)),
        }
