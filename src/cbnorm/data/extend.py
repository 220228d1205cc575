"""Data sets that other packages bring along. Imports no torch, so that choosing one is instant."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cbnorm import plugins
from cbnorm.data.entry import Archive, DataFile, DataSet
from cbnorm.errors import CbnormError

if TYPE_CHECKING:
    from cbnorm.data.splits import Split


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A data set of another package: what an entry point of the group ``cbnorm.datasets`` names.

    Attributes:
        name: The proper name, for tables.
        class_names: One per class, in the order of the labels.
        counts: Images per split: ``train`` (before validation is split off) and ``test``.
        checksum: Of all images and labels that ``read`` gives. It is part of a run's identity and checked on
            every reading; the error for a wrong one tells the right one.
        read: Given its folder, returns the training and the test part: each a pair of images, uint8
            (N, C, H, W) with C of 1 or 3, and labels (N,), as arrays or tensors; or a
            :class:`cbnorm.data.splits.Split`.
        folder: Folder inside the data folder, where ``read`` finds its files; None: the data folder.
        files: Files in that folder that are verified before ``read`` is called.
        sources: Where those files can be fetched.
        note: What a user should know, in a line.
        val_images: Validation images unless a run says otherwise; None: a tenth of the training images.
        image_size: Height and width that images are resized to, unless a run says otherwise.
        flip: Whether training images are mirrored at random, unless a run says otherwise.
        rotation: Random rotation of training images, degrees either way, likewise.
        zoom: Random scaling of training images, likewise.
    """

    name: str
    class_names: Sequence[str]
    counts: Mapping[str, int]
    checksum: str
    read: Callable[[Path], Sequence[Any]]
    folder: str | None = None
    files: tuple[DataFile, ...] = ()
    sources: tuple[Archive, ...] = ()
    note: str = ""
    val_images: int | None = None
    image_size: int = 32
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0

    def entry(self, key: str) -> DataSet:
        """The facts as the catalog holds them."""
        return DataSet(
            key=key,
            name=self.name,
            class_names=tuple(self.class_names),
            counts=dict(self.counts),
            image_shape=(3, self.image_size, self.image_size),
            content={"images": self.checksum},
            folder=self.folder,
            files=tuple(self.files),
            sources=tuple(self.sources),
            note=self.note,
        )


def find(key: str) -> ImageSet:
    """The data set that another package calls ``key``.

    Raises:
        PluginError: No package does, or several do, or it can't be imported.
        CbnormError: It is no :class:`ImageSet`.
    """
    found = plugins.load("dataset", key)
    if not isinstance(found, ImageSet):
        plugin = plugins.find("dataset", key)
        raise CbnormError(f"{plugin} is of type {type(found).__name__}, not cbnorm.data.extend.ImageSet")
    return found


def default(key: str, option: str) -> Any:
    """What a data set of another package says of an option of ``dataset``."""
    images = find(key)
    if option == "val_images" and images.val_images is None:
        return max(1, images.counts["train"] // 10)
    value = getattr(images, option)
    return float(value) if option in {"rotation", "zoom"} else value


def read(key: str, folder: Path) -> tuple["Split", "Split"]:
    """Read a data set of another package and verify what its reader gives.

    Returns:
        The training pool and the test images.

    Raises:
        CbnormError: Images or labels have another form, number or content than the package says.
    """
    images = find(key)
    parts = images.read(folder)
    if len(parts) != 2:
        raise CbnormError(f"{images.name}: its reader must give two parts, train and test, not {len(parts)}")
    train, test = (_split(images, name, part) for name, part in zip(("train", "test"), parts, strict=True))
    found = checksum(train, test)
    if found != images.checksum:
        raise CbnormError(
            f"{images.name}: what was read has the checksum '{found}', its package says '{images.checksum}'"
        )
    return train, test


def _split(images: ImageSet, name: str, part: Any) -> "Split":
    import torch

    from cbnorm.data.splits import Split

    if not isinstance(part, Split):
        pixels, labels = (torch.as_tensor(values) for values in part)
        part = Split(pixels, labels.long())
    shape = tuple(part.images.shape)
    if part.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in {1, 3}:
        raise CbnormError(
            f"{images.name}: its {name} images are {part.images.dtype} {shape}, not uint8 (N, 1 or 3, H, W)"
        )
    if len(part) != images.counts[name]:
        raise CbnormError(
            f"{images.name}: {len(part)} {name} images were read, its package says {images.counts[name]}"
        )
    low, high = int(part.labels.min()), int(part.labels.max())
    if low < 0 or high >= len(images.class_names):
        raise CbnormError(
            f"{images.name}: its {name} labels are {low} to {high}, for {len(images.class_names)} classes"
        )
    return part


def checksum(*parts: "Split") -> str:
    """The checksum of images and labels, such as ``sha1:2fd4...``."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        digest.update(str(tuple(part.images.shape)).encode())
        for values in (part.images, part.labels):
            digest.update(memoryview(values.contiguous().numpy()))  # type: ignore[arg-type]
    return f"sha1:{digest.hexdigest()}"
