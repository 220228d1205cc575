"""What a trained network sees, summed up for figures: features of images in a plane, channels of a layer.

A look is a small file of arrays, made once from the weights that a run keeps; figures need no network then.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cbnorm.config.choices import needs_clusters
from cbnorm.config.schema import RunConfig
from cbnorm.data.images import ImageData
from cbnorm.errors import CbnormError
from cbnorm.metrics.distributions import channels
from cbnorm.metrics.separation import plane, separation
from cbnorm.models.places import layer_at
from cbnorm.runs import weights
from cbnorm.runs.build import build_network
from cbnorm.runs.files import read_arrays
from cbnorm.runs.records import Record

#: Images whose features are placed in a plane; t-SNE of all ten thousand takes minutes.
IMAGES = 2000
#: Fewer have too few neighbours.
FEWEST = 20
#: Images of the batch whose channels Fig. 2 shows.
BATCH = 256
_CHUNK = 250

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
        (M, n, 2), ``predicted`` (M, n), scores by name (M,). ``labels`` (n,). What
        :func:`~cbnorm.metrics.distributions.channels` returns.

    Raises:
        CbnormError: It kept no weights, or not of this network, or there are too few test images.
    """
    if len(data.test) < FEWEST:
        raise CbnormError(f"{len(data.test)} test images are too few to look at: it takes {FEWEST}")
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
    # A run that diverged before its first moment was read then.
    last = record["metrics"]["moments"][-1]
    return [*earlier, (100, last["best_epoch"], weights.NAME)]


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


def _after(network: nn.Module, config: RunConfig, images: Tensor, ids: Tensor | None) -> Tensor:
    """What leaves the replaced layer, within the network if there is one: (n, channels, positions)."""
    inside = [place for place in config.model.placement if place > 0]
    place = min(inside or config.model.placement, default=1)
    caught: list[Tensor] = []
    layer = layer_at(network, place)
    handle = layer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        network(images, None if ids is None else ids[: len(images)])
    finally:
        handle.remove()
    return caught[0].flatten(2)
