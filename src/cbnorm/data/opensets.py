"""Open data sets: what they hold is known only once their files are there. Imports no torch.

A new one is an entry with ``marks`` in :mod:`cbnorm.data.known` and a layout here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cbnorm.data import catalog, sources, tinyimagenet
from cbnorm.data.layout import Layout
from cbnorm.data.manifest import Manifest, manifest
from cbnorm.data.prepared import Prepared, prepare
from cbnorm.data.progress import reporter

LAYOUTS: dict[str, Callable[[Path], Layout]] = {"tinyimagenet": tinyimagenet.layout}

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

    entry: catalog.DataSet
    folder: Path
    layout: Layout
    known: Manifest

    @property
    def fingerprint(self) -> str:
        """A short checksum of the content, independent of where it lies."""
        return self.known.digest[:16]


def find(key: str, *, download: bool = True) -> Found:
    """Return an open data set, its files read anew only if they changed since the last time.

    Args:
        key: The data set's key.
        download: Fetch what is missing; otherwise that is an error.

    Raises:
        CbnormError: Files are missing, broken or can't be fetched.
    """
    folder = (sources.ensure(key) if download else sources.require(key)).resolve()
    layout = LAYOUTS[key](folder)
    with reporter(visible=True) as shown:
        shown.begin(f"reading {layout.name}")
        known = manifest(folder, layout.files, _root() / f"{key}-{_short(folder)}.json", shown.bytes)
    counts = {"train": len(layout.train), "test": len(layout.test)}
    entry = replace(catalog.find(key), name=layout.name, class_names=layout.class_names, counts=counts)
    found = Found(entry, folder, layout, known)
    _fingerprints[key, folder] = found.fingerprint
    return found


def fingerprint(key: str) -> str:
    """Return the fingerprint of a set's content; looked up once per process and folder.

    Raises:
        CbnormError: Files are missing, broken or can't be fetched.
    """
    folder = sources.ensure(key).resolve()
    return _fingerprints.get((key, folder)) or find(key).fingerprint


def arrays(found: Found) -> Prepared:
    """Return the decoded images; decoding them takes a while the first time.

    Raises:
        CbnormError: An image is broken, or the data folder can't be written.
    """
    with reporter(visible=True) as shown:
        return prepare(found.entry.key, found.folder, _root(), found.layout, found.known, shown)


def _root() -> Path:
    return sources.data_dir() / "prepared"


def _short(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:8]
