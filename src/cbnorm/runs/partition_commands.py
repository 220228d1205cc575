"""`cbnorm partitions`: fit the clusters of a config, look at them, compare two partitions."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cbnorm.config.compose import compose_run
from cbnorm.config.overrides import quoted
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.data.images import ImageData
from cbnorm.errors import CbnormError
from cbnorm.partitions import Assignment, measures
from cbnorm.partitions.given import file_ids, write_ids
from cbnorm.partitions.sheet import contact_sheet
from cbnorm.runs.build import build_network, load_data
from cbnorm.runs.device import exact_float32, training_device
from cbnorm.runs.partitioning import assigned, splits_of
from cbnorm.runs.plan import expand
from cbnorm.words import path_of, take

_USES = {
    "fit": "cbnorm partitions fit partition=gmm [dataset=...] [out=ids.csv] [any override of train]",
    "show": "cbnorm partitions show partition=gmm [dataset=...] [out=sheet.png] [any override of train]",
    "compare": "cbnorm partitions compare partition=gmm,kmeans [...], or partition=gmm against=ids.csv [...]",
}
#: More clusters than any file has that is compared.
_MOST = 32_767


def partitions(words: Sequence[str]) -> int:
    """Carry out ``cbnorm partitions WORDS``."""
    action, *rest = words or [""]
    if action not in _USES:
        raise CbnormError(f"write cbnorm partitions {' | '.join(_USES)}; see cbnorm --help")
    key = "against" if action == "compare" else "out"
    own, others = take(rest, f"partitions {action}", [key])
    if own.get(key) == "":
        raise CbnormError(f"{key}= must name one file: write {_USES[action]}")
    file = path_of(own, key, "") if own else None
    {"fit": _fit, "show": _show, "compare": _compare}[action](quoted(others), file)
    return 0


def _fit(overrides: Sequence[str], file: Path | None) -> None:
    config = _configs(overrides, 1, "fit", ids=file is not None)[0]
    data = load_data(config)
    found = _assigned(config, data)
    if file is not None:
        write_ids(file, found.ids, splits_of(data))
        print(f"Written: {file}")


def _show(overrides: Sequence[str], file: Path | None) -> None:
    if file is not None and file.suffix.lower() != ".png":
        raise CbnormError(f"out={file} must end in .png: the contact sheet is an image")
    config = _configs(overrides, 1, "show", ids=file is not None)[0]
    data = load_data(config)
    found = _assigned(config, data)
    if config.partition.withheld:
        return  # no id tells anything
    splits = splits_of(data)
    print("\nwhat ids tell about classes: normalized mutual information, and bits")
    for name, split in splits.items():
        known = measures.knowledge(found.ids[name], split.labels)
        print(f"  {name:<5}  {known['nmi']:.4f}  {known['bits']:.4f}")
    fit = found.fits.get("train")
    positions = measures.sample(len(data.train), measures.SAMPLE, 0)
    points = measures.clustered_points(fit, data.train, positions)
    score = measures.silhouette(points, found.ids["train"][positions])
    described = "none: all in one cluster" if score is None else f"{score:.4f}"
    print(f"silhouette of {len(points)} training images in {measures.features_name(fit)}: {described}")
    if file is not None:
        _save(contact_sheet(data.train.images, found.ids["train"], found.num_clusters), file)


def _compare(overrides: Sequence[str], file: Path | None) -> None:
    configs = _configs(overrides, 1 if file else 2, "compare", ids=True)
    if configs[-1].dataset != configs[0].dataset:
        raise CbnormError("both partitions must be of the same images: give one dataset, with one split")
    data = load_data(configs[0])
    splits = splits_of(data)
    first = _assigned(configs[0], data).ids
    second: Mapping[str, Tensor]
    if file is not None:
        second = file_ids(file, splits, _MOST, catalog.find(configs[0].dataset.name).places)
    else:
        print()
        second = _assigned(configs[1], data).ids
    print("\nadjusted Rand index: 1 = the same clusters, 0 = as by chance")
    for name in splits:
        print(f"  {name:<5}  {measures.adjusted_rand(first[name], second[name]):.4f}")
    print("\ntraining images by cluster of the first (rows) and of the second (columns)")
    table = measures.contingency(first["train"], second["train"])
    print(f"  {'':>6}" + "".join(f"{column:>8}" for column in range(table.shape[1])))
    for row, counts in enumerate(table.tolist()):
        print(f"  {row:>6}" + "".join(f"{count:>8}" for count in counts))


def _configs(overrides: Sequence[str], wanted: int, action: str, *, ids: bool) -> list[RunConfig]:
    """As many configs as a command needs, each with a partition, and with its ids where those are needed.

    Raises:
        CbnormError: More or fewer, one without a partition, or one that withholds ids which are needed.
    """
    found = [compose_run(words) for words in expand(overrides)]
    if len(found) != wanted:
        raise CbnormError(f"that makes {len(found)} partitions, not {wanted}: write {_USES[action]}")
    if any(config.partition.name == "none" for config in found):
        raise CbnormError(f"which partition? write {_USES[action]}")
    if ids and any(config.partition.withheld for config in found):
        raise CbnormError("partition.withheld=true leaves no ids to write, draw or compare: leave it out")
    return found


def _assigned(config: RunConfig, data: ImageData) -> Assignment:
    """The ids of a config, told in a few lines."""
    # The same as in training, so that a run finds what was fitted here.
    torch.set_num_threads(config.trainer.threads)
    exact_float32()
    device = training_device(config)
    began = time.monotonic()
    found = assigned(config, data, device, lambda other: build_network(other, data.num_classes))
    _tell(found, data, time.monotonic() - began)
    return found


def _tell(found: Assignment, data: ImageData, seconds: float) -> None:
    about = found.summary()
    by = f" of {about['features']} ({about['feature_dimensions']} dimensions)" if "features" in about else ""
    print(f"{data.name}: {about['method']}, {found.num_clusters} clusters{by}, {seconds:.1f} s")
    if "iterations" in about:
        rest = "at rest" if about["converged"] else "not at rest"
        quality = next(
            f"{key.replace('_', ' ')} {about[key]:.6g}" for key in about if key.startswith("mean_")
        )
        print(
            f"fitted on {len(data.train)} training images: {about['iterations']} updates, {rest}; {quality}"
        )
    if found.transductive:
        print("transductive: ids of test images come from a fit of their own on the test images")
    if found.oracle:
        print("oracle: ids follow from the labels, those of test images too")
    for name, ids in found.ids.items():
        known = ids[ids >= 0]
        sizes = torch.bincount(known, minlength=found.num_clusters).tolist()
        shares = "  ".join(f"{size} ({100 * size / max(len(ids), 1):.1f} %)" for size in sizes)
        withheld = f", {len(ids) - len(known)} withheld" if len(known) < len(ids) else ""
        print(f"  {name:<5}  {len(ids):>6} images{withheld}: {shares}")


def _save(sheet: Image.Image, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, optimize=True)
    except OSError as error:
        raise CbnormError(f"cannot write {file}: {error.strerror or error}; choose another out=") from error
    print(f"Written: {file}")
