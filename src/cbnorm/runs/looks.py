"""What a trained network sees, summed up for figures: features of images in a plane, channels of a layer.

A look is a small file of arrays, made once from the weights that a run keeps; figures need no network then.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data.images import ImageData
from cbnorm.data.streams import generator
from cbnorm.errors import CbnormError
from cbnorm.mixtures import fit_mixture
from cbnorm.models.places import layer_at
from cbnorm.runs import weights
from cbnorm.runs.build import build_network
from cbnorm.runs.files import read_arrays
from cbnorm.runs.records import Record

#: Images whose features are placed in a plane; t-SNE of all ten thousand takes minutes.
IMAGES = 2000
#: Channels that Fig. 2 shows, of a layer of 128.
CHANNELS = (4, 12, 28, 32, 60, 96, 108)
#: Components fitted to every shown channel, bins of its histogram, images of the batch.
COMPONENTS, BINS, BATCH = 3, 100, 256
_NEIGHBOURS, _CHUNK = 10, 250

Arrays = dict[str, NDArray[Any]]


def look(config: RunConfig, record: Record, folder: Path, data: ImageData, images: int = IMAGES) -> Arrays:
    """Look at the test images through the best weights of a run.

    Args:
        config: The run's config.
        record: Its record.
        folder: Where its weights, and the clusters of its images, lie.
        data: Its images.
        images: How many test images, from the first on, get a place in the plane.

    Returns:
        For M moments, the last of which is the best epoch of all: ``percents``, ``epochs`` (M,), ``plane``
        (M, n, 2), ``predicted`` (M, n), scores by name (M,). ``labels`` (n,). What :func:`channels` returns.

    Raises:
        CbnormError: It kept no weights, or not of this network.
    """
    n = min(images, len(data.test))
    network, ids = _network(config, record, data, folder)
    seen: dict[str, list[Any]] = {}
    for percent, epoch, file in _kept(record, folder):
        _load(network, folder, record["id"], file)
        inputs = _normalized(data, data.test.images[:n])
        moment = _moment(network, inputs, ids, data.test.labels[:n].numpy(), config)
        for key, value in ({"percents": percent, "epochs": epoch} | moment).items():
            seen.setdefault(key, []).append(value)
    found: Arrays = {key: np.array(values) for key, values in seen.items()}
    found["labels"] = data.test.labels[:n].numpy().astype(np.int16)
    return found | channels(_after(network, config, _normalized(data, data.test.images[:BATCH]), ids))


def _kept(record: Record, folder: Path) -> list[tuple[int, int, str]]:
    """Per cent, epoch of the weights, and file of what is kept; the end comes last."""
    moments = [entry for entry in record["metrics"]["moments"] if entry["percent"]]
    found = [(m["percent"], m["best_epoch"], weights.MOMENT.format(percent=m["percent"])) for m in moments]
    earlier = [kept for kept in found if kept[0] < 100 and (folder / kept[2]).is_file()]
    return [*earlier, (100, moments[-1]["best_epoch"], weights.NAME)]


def _moment(
    network: nn.Module, inputs: Tensor, ids: Tensor | None, labels: NDArray[Any], config: RunConfig
) -> dict[str, Any]:
    """Where images lie in the plane, what is predicted, and how well classes part."""
    features, logits = _features(network, inputs, ids, config)
    predicted = logits.argmax(1).numpy()
    scores = separation(features, labels, predicted)
    placed = {"plane": plane(features).astype(np.float16), "predicted": predicted.astype(np.int16)}
    return placed | {f"score_{key}": value for key, value in scores.items()}


def _network(
    config: RunConfig, record: Record, data: ImageData, folder: Path
) -> tuple[nn.Module, Tensor | None]:
    clusters = (record.get("partition") or {}).get("clusters")
    network = build_network(config, data.num_classes, clusters)
    ids = None
    if needs_clusters(config.norm.name):
        found = read_arrays(folder / "clusters.npz", "test")
        if found is None:
            raise CbnormError(f"{folder / 'clusters.npz'} is lost or damaged: train run {record['id']} again")
        ids = torch.from_numpy(found["test"].astype(np.int64))
    return network.eval().requires_grad_(requires_grad=False), ids


def _load(network: nn.Module, folder: Path, run: str, file: str) -> None:
    try:
        network.load_state_dict(weights.read(folder, run, file))
    except RuntimeError as error:
        raise CbnormError(f"the weights of run {run} don't fit its network") from error


def _normalized(data: ImageData, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(moment)[:, None, None] for moment in (data.mean, data.std))
    return (images / 255 - mean) / std


def _features(network: Any, images: Tensor, ids: Tensor | None, config: RunConfig) -> tuple[Any, Tensor]:
    """What the last linear layer sees (n, D), and logits (n, classes)."""
    if not hasattr(network, "features"):
        raise CbnormError(f"model={config.model.name} tells no features: name a run of another model")
    seen = [
        network.features(part, None if ids is None else ids[start : start + len(part)])
        for start, part in zip(range(0, len(images), _CHUNK), images.split(_CHUNK), strict=True)
    ]
    features = torch.cat(seen)
    return features.double().numpy(), network.linear(features)


def plane(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """t-SNE of features (n, D) into the plane (n, 2), from their principal components, seed 0."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    made = TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(features)
    return np.asarray(made, dtype=np.float64)


def separation(
    features: NDArray[np.float64], labels: NDArray[Any], predicted: NDArray[Any]
) -> Mapping[str, float]:
    """How well classes part in the features (n, D) themselves, not in the plane.

    Returns:
        The mean silhouette by true and by predicted class, in [-1, 1], and the share in per cent of images
        whose class most of their ten nearest others have.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(features).kneighbors(features)[1][:, 1:]
    votes = np.array([np.bincount(labels[row]).argmax() for row in near])
    found = {"neighbours": 100 * float((votes == labels).mean())}
    for name, classes in (("true", labels), ("predicted", predicted)):
        several = 1 < len(np.unique(classes)) < len(classes)
        found[f"silhouette_{name}"] = float(silhouette_score(features, classes)) if several else 0.0
    return found


def _after(network: nn.Module, config: RunConfig, images: Tensor, ids: Tensor | None) -> Tensor:
    """What leaves the replaced normalization layer: (n, channels, positions)."""
    place = min((place for place in config.model.placement if place > 0), default=1)
    caught: list[Tensor] = []
    layer = layer_at(network, place)
    handle = layer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        network(images, None if ids is None else ids[: len(images)])
    finally:
        handle.remove()
    return caught[0].flatten(2)


def channels(outputs: Tensor) -> Arrays:
    """How the values of channels are distributed.

    Args:
        outputs: (n, C, positions).

    Returns:
        ``skewness``, ``kurtosis`` (excess) and ``distance`` (Kolmogorov-Smirnov, to the normal distribution
        of the same mean and deviation), each (C,); of the shown channels ``channels`` (S,), ``counts``
        (S, bins), ``edges`` (S, bins + 1), and of a mixture fitted to each ``weights``, ``means``,
        ``deviations`` (S, K) and ``fitted_distance`` (S,).
    """
    values = outputs.transpose(0, 1).flatten(1).double().numpy()
    shown = [channel for channel in CHANNELS if channel < len(values)]
    fits = [_fit(values[channel]) for channel in shown]
    histograms = [np.histogram(values[channel], BINS) for channel in shown]
    return {
        "skewness": stats.skew(values, axis=1),
        "kurtosis": stats.kurtosis(values, axis=1),
        "distance": np.array([_distance(row, *_normal(row)) for row in values]),
        "channels": np.array(shown),
        "counts": np.array([counts for counts, _ in histograms], dtype=np.int32),
        "edges": np.array([edges for _, edges in histograms], dtype=np.float32),
        "weights": np.array([fit[0] for fit in fits]),
        "means": np.array([fit[1] for fit in fits]),
        "deviations": np.array([fit[2] for fit in fits]),
        "fitted_distance": np.array(
            [_distance(values[channel], *fit) for channel, fit in zip(shown, fits, strict=True)]
        ),
    }


def _fit(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Weights, means and deviations of a mixture of one channel's values, left to right."""
    scale = max(values.std(), 1e-12)
    data = torch.from_numpy((values - values.mean()) / scale)[:, None]
    found = fit_mixture(data, COMPONENTS, generator=generator(0, "look"))
    order = found.means[:, 0].argsort()
    means, deviations = found.means[order, 0].numpy(), found.covariances[order, 0].sqrt().numpy()
    return found.weights[order].numpy(), means * scale + values.mean(), deviations * scale


def _normal(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return np.ones(1), values.mean(keepdims=True), values.std(keepdims=True)


def _distance(values: NDArray[np.float64], *mixture: NDArray[np.float64]) -> float:
    """Largest difference between the distribution of values and that of a mixture."""
    ordered, (lambdas, means, deviations) = np.sort(values)[:, None], mixture
    expected = (stats.norm.cdf(ordered, means, np.maximum(deviations, 1e-12)) * lambdas).sum(1)
    places = np.arange(len(values) + 1) / len(values)
    return float(max((places[1:] - expected).max(), (expected - places[:-1]).max()))
