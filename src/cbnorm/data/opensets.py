"""Open data sets: what they hold is known only once their files are there. Imports no torch.

A new one is an entry with ``open=True`` in :mod:`cbnorm.data.known` and a layout here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from cbnorm.data import catalog, imagefolder, oxford_pets, sources, tinyimagenet
from cbnorm.data.entry import DataSet
from cbnorm.data.layout import Layout
from cbnorm.data.manifest import Manifest, manifest
from cbnorm.data.prepared import Prepared, prepare
from cbnorm.data.progress import reporter
from cbnorm.errors import CbnormError

LAYOUTS: dict[str, Callable[[Path], Layout]] = {
    "imagefolder": imagefolder.layout,
    "oxford_pets": oxford_pets.layout,
    "oxford_pets_sample": oxford_pets.sample_layout,
    "tinyimagenet": tinyimagenet.layout,
}

_fingerprints: dict[tuple[str, Path], str] = {}


@dataclass(frozen=True)
class Found:
    """An open data set as it lies in its folder.

    Attributes:
        entry: Its facts: proper name, classes and counts are those of the folder.
        folder: Where the files are.
        layout: Which files are images.
        known: What the files hold.
    """

    entry: DataSet
    folder: Path
    layout: Layout
    known: Manifest

    @property
    def fingerprint(self) -> str:
        """A short checksum of the content, independent of where it lies."""
        return self.known.digest[:16]


def find(key: str, folder: str | None = None, *, download: bool = True) -> Found:
    """Return an open data set, its files read anew only if they changed since the last time.

    Args:
        key: The data set's key.
        folder: The user's folder; None for a set that has a place in the data folder.
        download: Fetch what is missing; otherwise that is an error.

    Raises:
        CbnormError: Files are missing, broken or can't be fetched.
    """
    place = _place(key, folder, download=download)
    whole = LAYOUTS[key](place)
    with reporter(visible=True) as shown:
        shown.begin(f"reading {whole.name}")
        known = manifest(place, whole.files, _root() / f"{key}-{_short(place)}.json", shown.bytes)
    layout = imagefolder.hold_out(whole, known)
    entry = catalog.find(key)
    counts = {"train": len(layout.train), "test": len(layout.test)}
    if entry.divided:
        counts = catalog.divided(len(layout.train))
    entry = replace(entry, name=layout.name, class_names=layout.class_names, counts=MappingProxyType(counts))
    found = Found(entry, place, layout, known)
    _fingerprints[key, place] = found.fingerprint
    return found


def fingerprint(key: str, folder: str | None = None) -> str:
    """Return the fingerprint of a set's content; looked up once per process and folder.

    Raises:
        CbnormError: Files are missing, broken or can't be fetched.
    """
    known = _fingerprints.get((key, _place(key, folder, download=True)))
    return known or find(key, folder).fingerprint


def arrays(found: Found, side: int) -> Prepared:
    """Return the decoded images; decoding them takes a while the first time.

    Args:
        found: The data set.
        side: Height and width for images that differ in size; others keep theirs.

    Raises:
        CbnormError: An image is broken, or the data folder can't be written.
    """
    one_size = found.entry.folder and not found.layout.pad
    layout = found.layout if one_size else replace(found.layout, side=side)
    with reporter(visible=True) as shown:
        return prepare(found.entry.key, found.folder, _root(), layout, found.known, shown)


def _place(key: str, folder: str | None, *, download: bool) -> Path:
    if folder is not None:
        try:
            return Path(folder).expanduser().resolve()
        except (OSError, RuntimeError) as error:
            raise CbnormError(f"dataset.folder={folder} is no folder ({error})") from error
    return (sources.ensure(key) if download else sources.require(key)).resolve()


def _root() -> Path:
    return sources.data_dir() / "prepared"


def _short(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:8]
