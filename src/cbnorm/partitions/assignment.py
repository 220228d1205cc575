"""From a partition's options to the ids of all images of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cbnorm.data.splits import Split
from cbnorm.partitions import METHODS
from cbnorm.partitions.activations import Activations
from cbnorm.partitions.cache import Cache, State, fingerprint
from cbnorm.partitions.choices import attribute, content
from cbnorm.partitions.fit import fit_content, fit_partition
from cbnorm.partitions.given import attribute_ids, file_ids, follows_from
from cbnorm.partitions.partition import STATE_VERSION, Partition


@dataclass(frozen=True)
class Assignment:
    """The ids of all images of a run, and where they come from.

    Attributes:
        num_clusters: Number of clusters K.
        ids: By split, int64 (N,), 0 to K-1; -1 where they are withheld.
        description: Plain values, for the run's record. ``oracle`` is there and true when ids follow
            from labels, ``transductive`` when test images decided test ids by a fit of their own.
        fits: By split, the fitted clusters; none when ids were given.
    """

    num_clusters: int
    ids: Mapping[str, Tensor]
    description: Mapping[str, Any]
    fits: Mapping[str, Partition]

    @property
    def oracle(self) -> bool:
        """Whether ids tell the class, or a group of classes, of test images too."""
        return bool(self.description.get("oracle"))

    @property
    def transductive(self) -> bool:
        """Whether test ids come from a fit on the test images."""
        return bool(self.description.get("transductive"))

    def summary(self) -> dict[str, Any]:
        """Plain values for a run's record."""
        return dict(self.description)

    def state(self) -> dict[str, Any]:
        """What ids of further images follow from: tensors and plain values; see :class:`Partition`."""
        if not self.fits:
            return {"version": STATE_VERSION, **self.description}
        train, test = self.fits["train"], self.fits["test"]
        return train.state() if test is train else train.state() | {"test": test.state()}


def assign(
    options: Mapping[str, Any],
    splits: Mapping[str, Split],
    *,
    seed: int,
    num_classes: int,
    official: Mapping[str, int],
    network: Activations | None = None,
    cache: Cache | None = None,
) -> Assignment:
    """Give every image of a run the id of a cluster.

    Clusters are fitted on the images of ``splits["train"]`` alone; others get ids by prediction, the
    test images too unless ``options["test"]`` is ``refit``: then theirs come from a fit of their own,
    which makes the run transductive (what an id means in training says nothing of it at test time).
    With method ``random`` that fit is a ``gmm``.

    Args:
        options: All options of a partition by name, see ``conf/partition``.
        splits: ``train``, ``val`` and ``test``.
        seed: The run's seed, unless the options name one of the fit's own.
        num_classes: Number of classes of the data set.
        official: Number of images in the data set's official splits ``train`` and ``test``.
        network: Where activations come from, for what is fitted to them.
        cache: Where fits are remembered.

    With ``options["withheld"]`` there are as many clusters, but every id is -1: unknown, in training too.

    Raises:
        CbnormError: Ids that are not to be had: no such attribute, a bad file.
        ValueError: Images that can't be clustered, see :func:`~cbnorm.partitions.fit.fit_partition`.
    """
    found = _told(options, splits, seed, num_classes, official, network, cache)
    return withheld(found) if options.get("withheld") else found


def withheld(found: Assignment) -> Assignment:
    """The same clusters with every id unknown (-1)."""
    unknown = {name: torch.full_like(ids, -1) for name, ids in found.ids.items()}
    description = dict(found.description) | {"withheld": True, "oracle": False}
    return replace(found, ids=unknown, description=description)


def _told(
    options: Mapping[str, Any],
    splits: Mapping[str, Split],
    seed: int,
    num_classes: int,
    official: Mapping[str, int],
    network: Activations | None,
    cache: Cache | None,
) -> Assignment:
    if options["name"] in METHODS:
        chosen = seed if options["seed"] is None else options["seed"]
        return _fitted(options, splits, chosen, network, cache or Cache())
    if options["name"] == "file":
        count = options["clusters"]
        ids = file_ids(Path(options["file"]), splits, count, official)
        origin = {"method": "file", "content": content(options["file"])}
    else:
        name = attribute(options)
        ids = attribute_ids(
            name, splits, "partition.attribute" if options["name"] == "attribute" else "partition"
        )
        count = num_classes if name == "label" else 1 + max(int(i.max()) for i in ids.values() if len(i))
        origin = {"method": name}
    train = splits["train"]
    description = origin | {
        "clusters": count,
        "oracle": options["name"] == "label" or follows_from(ids["train"], train.labels),
        "frequencies": (torch.bincount(ids["train"], minlength=count).double() / len(train)).tolist(),
    }
    return Assignment(count, ids, description, {})


def _fitted(
    options: Mapping[str, Any],
    splits: Mapping[str, Split],
    seed: int,
    network: Activations | None,
    cache: Cache,
) -> Assignment:
    how = {
        "clusters": options["clusters"],
        "seed": seed,
        "features": "activations" if options["name"] == "mn_components" else options["features"],
        "network": network,
    }
    train = fit_partition(options["name"], splits["train"].images, **how, cache=cache)
    fits, description = dict.fromkeys(splits, train), train.summary()
    bases = dict.fromkeys(splits, "train")
    if options["test"] == "refit":
        method = "gmm" if options["name"] == "random" else options["name"]
        fits["test"] = fit_partition(method, splits["test"].images, **how, cache=cache)
        bases["test"] = "test"
        description |= {"transductive": True, "test": fits["test"].summary()}
    ids = {}
    for key, split in splits.items():
        fit = fits[key]
        if fit.method == "random":
            ids[key] = fit.predict(split.images, split=key)
            continue
        of_fit = fit_content(fit.method, splits[bases[key]].images, **how)
        of_ids = {"what": "ids", "fit": of_fit, "of": fingerprint(split.images)}
        found = cache.remember(of_ids, partial(_nearest, fit, split))
        ids[key] = found["ids"].long()
    return Assignment(options["clusters"], ids, description, fits)


def _nearest(fit: Partition, split: Split) -> State:
    return {"ids": fit.nearest(split.images).to(torch.int16)}
